"""``Cuts``: scores of all paths of a taxonomy at once, as a few torch operations.

In: logits ``(B, N)``, one per node. Out: log-softmaxes over the cuts (what a cut is, see
``cut_tables``), scores of the best paths, sums over what lies below a node. The losses train
through this, ``decoding`` asks it for answers.
"""

import copy
import functools
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hyperlm import cut_tables as tables
from hyperlm.taxonomy import Taxonomy

__all__ = ["Cuts", "Loss", "cuts_of"]

Loss = Literal["level", "path", "leaf"]


class Cuts:
    """Index tensors of a taxonomy's cuts; built once, then every call is a few torch operations.

    Its methods take float32 or float64 logits ``(B, N)``, keep gradients and check nothing, so that
    losses can use them in the inner loop; the functions of ``decoding`` are for checked use.

    Attributes:
        taxonomy: The taxonomy the cuts were made from.
        num_nodes, num_levels: N and L.
        members: Node numbers of each cut, L increasing tensors.
        terminals: Node numbers of the terminals, ``(T,)``, increasing.
        depth: Depth of each node, ``(N,)``, top nodes have 1.
        member_at: The member in each cut of the path to a node along ``taxonomy.parent``,
            ``(N, L)``; -1 below a node that is not a terminal.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        N, L = len(taxonomy), taxonomy.num_levels
        self.taxonomy, self.num_nodes, self.num_levels = taxonomy, N, L
        self.terminals, self.depth = _tensor(taxonomy.terminals), _tensor(taxonomy.depth)
        self._parent = _tensor(taxonomy.parent)

        cuts = tables.cut_nodes(taxonomy)
        self.members = [_tensor(cut.members) for cut in cuts]
        self._ended = [_tensor(cut.ended) for cut in cuts]
        self._waiting = [_tensor(cut.waiting) for cut in cuts]
        # A cut that is one run of nodes is read as a view of the logits: no copy.
        self._run = [_run(cut.members) for cut in cuts]
        self.member_at = _tensor(tables.members_of_paths(taxonomy))
        position = np.full((L, N), -100)
        for level, cut in enumerate(cuts):
            position[level, cut.members] = np.arange(len(cut.members))
        self._position = _tensor(position)

        # Cuts below its own that a terminal still passes, repeating itself: weight of its logit.
        repeats = L - taxonomy.depth[taxonomy.terminals]
        self._padded, self._padding = (
            _tensor(np.flatnonzero(repeats)),
            _tensor(repeats[repeats > 0]),
        )

        self._parents = [_tensor(table) for table in tables.parent_tables(taxonomy)]
        # Cuts between parent and child, None where there are none.
        skipped = [level - self.depth[p.view(-1)] for level, p in enumerate(self._parents, 1)]
        self._waits = [waits if waits.any() else None for waits in skipped]
        self._choice, self._chooser = map(_tensor, tables.choices(taxonomy))
        stops = tables.inner_terminals(taxonomy)
        self._stops, self._stop_at = (
            _tensor(stops),
            _tensor(np.searchsorted(taxonomy.terminals, stops)),
        )
        self._up = [
            (_tensor(source), first, _tensor(to), size)
            for source, first, to, size in tables.steps_up(taxonomy)
        ]
        self._closure_keys = _tensor(tables.ancestor_keys(taxonomy))
        self._edge_keys = _tensor(np.sort(taxonomy.edges @ (N, 1)))
        self._on_device: dict[torch.device, Cuts] = {torch.device("cpu"): self}

    def __getstate__(self) -> dict[str, Any]:
        """Without the copies on devices, which another machine may not have."""
        return vars(self) | {
            "_on_device": {torch.device("cpu"): self._on_device[torch.device("cpu")]}
        }

    def to(self, device: torch.device | str) -> "Cuts":
        """These cuts with their index tensors on ``device``; moved once, then remembered."""
        device = torch.device(device)
        if device not in self._on_device:
            # What a prediction moves, a training step may need later.
            with torch.inference_mode(False):
                moved = copy.copy(self)
                moved.__dict__.update(
                    {name: _moved(value, device) for name, value in vars(self).items()}
                )
            self._on_device[device] = moved
        return self._on_device[device]

    def has_edge(self, child: Tensor, parent: Tensor) -> Tensor:
        """Whether ``parent`` (a node, not the root) is a parent of ``child``; same shapes."""
        keys = child * self.num_nodes + parent
        if not len(self._edge_keys):
            return torch.zeros_like(keys, dtype=torch.bool)
        at = torch.searchsorted(self._edge_keys, keys).clamp_max(len(self._edge_keys) - 1)
        return self._edge_keys[at] == keys

    def passes(self, nodes: Tensor, ends: Tensor) -> Tensor:
        """Whether ``nodes`` ``(B, L)`` lie on a path to ``ends`` ``(B,)``; bool.

        In a tree each on its level. In a DAG, where paths may skip levels, on any.
        """
        if self.taxonomy.is_tree:
            return self.member_at[ends] == nodes
        ends = ends.unsqueeze(1)
        return self.above(nodes, ends) & (nodes < self.num_nodes) | (nodes == ends)

    def above(self, nodes: Tensor, below: Tensor) -> Tensor:
        """Whether ``nodes`` of a DAG are ancestors of ``below``, by any parent; shapes broadcast.

        Of a tree no pair is kept, see :func:`~hyperlm.cut_tables.ancestor_keys`.
        """
        return torch.isin(below * self.num_nodes + nodes, self._closure_keys)

    # -- levels ----------------------------------------------------------------------------

    def level_logits(self, logits: Tensor) -> list[Tensor]:
        """Logits of each cut, L tensors ``(B, n_l)``; views where a cut is one run of nodes."""
        return [
            logits.index_select(1, cut) if run is None else logits[:, run]
            for cut, run in zip(self.members, self._run, strict=True)
        ]

    def level_log_probs(self, logits: Tensor) -> list[Tensor]:
        """Log-softmax over each cut: L tensors ``(B, n_l)``, columns as in ``members[l]``."""
        return [cut.log_softmax(1) for cut in self.level_logits(logits)]

    def targets(self, nodes: Tensor) -> Tensor:
        """Class index of each target in each cut, for cross-entropy over ``level_logits``.

        Args:
            nodes: Where the target path ends, ``(B,)`` int64; the path is the one along
                ``taxonomy.parent``.
        Returns:
            ``(B, L)`` int64; -100 (ignored) in the cuts below a target that is not a terminal.
        """
        at = self.member_at[nodes]  # (B, L)
        level = torch.arange(self.num_levels, device=at.device)
        return self._position[level, at.clamp_min(0)].masked_fill(at < 0, -100)

    def level_normalizers(self, logits: Tensor) -> Tensor:
        """Logsumexp of the logits over each cut, ``(B, L)``.

        Cuts of a deep taxonomy overlap in their terminals; these are summed once and carried down.
        """
        carried, out = None, []
        for level, nodes in enumerate(self.taxonomy.level_slices):
            parts = [_logsumexp(logits[:, nodes])]
            if carried is not None:
                parts.append(carried)
            if len(self._waiting[level]):
                parts.append(_logsumexp(logits.index_select(1, self._waiting[level])))
            out.append(_logsumexp(torch.stack(parts, 1)) if len(parts) > 1 else parts[0])
            if len(self._ended[level]) and level + 1 < self.num_levels:
                new = _logsumexp(logits.index_select(1, self._ended[level]))
                carried = new if carried is None else _logaddexp(carried, new)
        return _finite(torch.stack(out, 1))

    # -- paths -----------------------------------------------------------------------------

    def terminal_scores(self, logits: Tensor, loss: Loss) -> tuple[Tensor, Tensor | None]:
        """The last two of ``path_scores``, without what decoding does not need."""
        if loss == "leaf":
            leaf = logits.index_select(1, self.terminals)  # (B, T)
            return leaf - _finite(_logsumexp(leaf)).unsqueeze(1), None
        return self.path_scores(logits, loss)[1:]

    def path_scores(
        self, logits: Tensor, loss: Loss = "level"
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scores of the best paths, by dynamic programming from the top level down.

        Returns:
            ``(B, N)`` scores of the paths from the root to each node; ``(B, T)`` scores of the
            complete paths to each terminal; ``(B, N)`` the parent each best path comes through,
            or None where that is always ``taxonomy.parent``.
        """
        if loss == "leaf":
            full, _ = self.terminal_scores(logits, loss)
            return self._log_sums_below(full), full, None
        if loss == "path":
            at = self.step_normalizers(logits)
            scores, came_from = self._descend(logits, at)
            stop = logits.index_select(1, self._stops) - at.index_select(1, self._stops)
            full = scores.index_select(1, self.terminals).index_add(1, self._stop_at, stop)
            return scores, full, came_from
        # Normalisers are the same for all paths of a text: take them off at the end.
        scores, came_from = self._descend(logits, None)
        full = scores.index_select(1, self.terminals)
        if len(self._padded):
            last = logits.index_select(1, self.terminals[self._padded])
            full = full.index_add(1, self._padded, last * self._padding)
        cut = self.level_normalizers(logits)
        return scores - cut.cumsum(1)[:, self.depth - 1], full - cut.sum(1, True), came_from

    def step_normalizers(self, logits: Tensor) -> Tensor:
        """Logsumexp over the choices at each node for ``loss="path"``: its children and, at an
        inner terminal, the node itself for stopping. ``(B, N + 1)``, the root last, 0 at leaves.
        """
        choices = logits.index_select(1, self._choice)
        return _finite(_group_logsumexp(choices, self._chooser, self.num_nodes + 1))

    def _descend(self, logits: Tensor, at: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Best sums of logits down to each node, less ``at`` (B, N + 1) at each parent if given."""
        scores = torch.empty_like(logits)
        came_from = None
        if not self.taxonomy.is_tree:
            came_from = torch.full_like(logits, -1, dtype=torch.int64)
        top, *lower = self.taxonomy.level_slices
        scores[:, top] = logits[:, top] if at is None else logits[:, top] - at[:, -1:]
        for here, parents, waits in zip(lower, self._parents, self._waits, strict=True):
            above = parents.reshape(-1)
            reach = scores.index_select(1, above)
            if at is not None:
                reach = reach - at.index_select(1, above)
            elif waits is not None:
                held = logits.index_select(1, above)
                # A masked logit is -inf, and 0 * -inf is no number.
                reach = reach + torch.where(waits > 0, waits * held, 0.0)
            if came_from is not None:
                reach, best = reach.view(-1, *parents.shape).max(2)  # (B, n_l)
                choices = parents.expand(best.shape[0], -1, -1)
                came_from[:, here] = choices.gather(2, best[..., None])[..., 0]
            scores[:, here] = reach + logits[:, here]
        return scores, came_from

    def walk(self, nodes: Tensor, came_from: Tensor | None) -> Tensor:
        """Paths that end at ``nodes``, ``(B, k)`` -> ``(B, k, L)``, -1 beyond their end."""
        if came_from is None:
            paths = self.member_at[nodes]
            level = torch.arange(self.num_levels, device=nodes.device)
            return paths.masked_fill(level >= self.depth[nodes][..., None], -1)
        steps, at = [nodes], nodes
        for _ in range(self.num_levels - 1):
            at = came_from.gather(1, at.clamp_min(0)).masked_fill(at < 0, -1)
            steps.append(at)
        paths = torch.stack(steps[::-1], -1)  # root side first, but aligned at its end
        order = (paths < 0).to(torch.int8).argsort(dim=-1, stable=True)
        return paths.gather(-1, order)

    # -- what lies below each node -----------------------------------------------------------

    def sums_below(self, full: Tensor) -> Tensor:
        """Sum over the terminals at or below each node: ``(B, T)`` -> ``(B, N)``; no gradient."""
        # Columns become rows: then one addition is one contiguous run.
        total = full.new_zeros(self.num_nodes, full.shape[0]).index_copy_(
            0, self.terminals, full.mT
        )
        for source, first, to, size in self._up:
            total[first : first + size].index_add_(0, to, total.index_select(0, source))
        return total.mT

    def sums_in_cuts(self, full: Tensor, came_from: Tensor | None) -> list[Tensor]:
        """Sum over the terminals whose path has each member in its cut; no gradient.

        Args:
            full: ``(B, T)``.
            came_from: of the paths, from ``path_scores``.
        Returns:
            L tensors ``(B, n_l)``, columns as in ``members[l]``.
        """
        # From the deepest level up: a cut is read before its level joins what stands above it.
        total = full.new_zeros(full.shape[0], self.num_nodes).index_copy_(1, self.terminals, full)
        sums = []
        for level in range(self.num_levels - 1, -1, -1):
            sums.append(total.index_select(1, self.members[level]))
            if level:
                here = self.taxonomy.level_slices[level]
                if came_from is None:
                    above = self._parent[here].expand(full.shape[0], -1)
                else:
                    above = came_from[:, here]
                total = total.scatter_add(1, above, total[:, here])
        return sums[::-1]

    def _log_sums_below(self, full: Tensor) -> Tensor:
        """The same of logarithms, out of place, for gradients."""
        total = full.new_full((full.shape[0], self.num_nodes), -torch.inf)
        total = total.index_copy(1, self.terminals, full)
        for source, first, to, size in self._up:
            below = _group_logsumexp(total.index_select(1, source), to, size)
            here = _logaddexp(total[:, first : first + size], below)
            total = torch.cat([total[:, :first], here, total[:, first + size :]], 1)
        return total


@functools.lru_cache(maxsize=8)
def _built(taxonomy: Taxonomy) -> Cuts:
    return Cuts(taxonomy)


def cuts_of(taxonomy: Taxonomy | Cuts) -> Cuts:
    """The cuts of a taxonomy, remembered from call to call; ``Cuts`` pass through."""
    return taxonomy if isinstance(taxonomy, Cuts) else _built(taxonomy)


def _group_logsumexp(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Logsumexp of the columns of each group: ``(B, E)``, ``(E,)`` -> ``(B, groups)``."""
    with torch.no_grad():  # the shift cancels: no gradient through it
        peak = values.new_full((values.shape[0], groups), -torch.inf)
        peak = _finite(peak.scatter_reduce(1, group.expand_as(values), values, "amax"))
    weights = (values - peak.index_select(1, group)).exp()
    return _log(values.new_zeros(values.shape[0], groups).index_add(1, group, weights)) + peak


def _logsumexp(values: Tensor) -> Tensor:
    """``values.logsumexp(1)`` with gradients of zero, not NaN, where all are masked."""
    peak = _finite(values.detach().amax(1, keepdim=True))
    return _log((values - peak).exp().sum(1)) + peak[:, 0]


def _log(total: Tensor) -> Tensor:
    """Logarithm whose derivative at 0, where everything is masked, is 0."""
    masked = total == 0
    return total.masked_fill(masked, 1.0).log().masked_fill(masked, -torch.inf)


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """``torch.logaddexp`` with gradients of zero, not NaN, where both are masked."""
    masked = (a == -torch.inf) & (b == -torch.inf)
    return torch.logaddexp(a.masked_fill(masked, 0.0), b).masked_fill(masked, -torch.inf)


def _finite(normalizer: Tensor) -> Tensor:
    """Zero in place of -inf: the members of a masked group stay -inf instead of turning NaN."""
    return normalizer.masked_fill(normalizer == -torch.inf, 0.0)


def _run(nodes: np.ndarray) -> slice | None:
    first, last = int(nodes[0]), int(nodes[-1])
    return slice(first, last + 1) if last - first + 1 == len(nodes) else None


def _tensor(array: np.ndarray) -> Tensor:
    # A copy: the taxonomy's arrays are read-only. On the CPU whatever the default device is, and
    # no inference tensor: the tables outlive the call that happens to need them first.
    with torch.inference_mode(False):
        return torch.from_numpy(np.array(array, dtype=np.int64))


def _moved(value: Any, device: torch.device) -> Any:
    """``value`` with the tensors in it, at any depth of lists and tuples, on ``device``."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    return value
