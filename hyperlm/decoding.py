"""Node scores -> one path that exists.

In: logits ``(B, N)``, a tensor or a NumPy array, one per node of the taxonomy (higher is better; N
excludes the root). Out:
the best root-to-terminal path of every text, its probability, and marginals of the inner nodes.
Everything here is exact: a tree is decoded by sums along its paths, a DAG by dynamic programming
over its levels, never by a beam.

A *temperature* divides the scores of paths before the softmax: no answer changes, only how sure it
is. :mod:`hyperlm.calibration` fits it to texts with known labels.

A level is a *cut* through the taxonomy, with one member of every path: see ``cut_tables``.

What a path scores depends on the loss the logits were trained with, hence the argument ``loss``:

========= ======================================================================================
``level`` sum over the cuts of the log-softmax of the path's member in that cut (the default)
``path``  sum over the steps of the log-softmax among the children of the parent; where an inner
          node is a terminal, stopping there is one more choice, scored by its own logit
``leaf``  log-softmax over the terminals alone; an inner node collects its terminals
========= ======================================================================================

The *path posterior* is the softmax of these scores over all terminals. In a tree that is a
distribution over all paths. In a DAG a terminal stands for its best path, so that the answers of
``top_k`` are different labels, not detours to one label. With ``loss="leaf"`` all paths to a
terminal score the same and the one along ``taxonomy.parent`` is given.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from hyperlm.cuts import Cuts, Loss, cuts_of
from hyperlm.errors import ModelError, OptionError
from hyperlm.taxonomy import Taxonomy

__all__ = [
    "Cuts",
    "Decoded",
    "Loss",
    "as_scores",
    "decode",
    "decode_threshold",
    "level_answers",
    "marginals",
    "path_scores",
    "raw_consistent",
    "top_k",
]

# Logits worked on at a time: large enough to hide the cost of a torch call, small enough that the
# handful of intermediates of this size stays near the processor.
_CHUNK = 1 << 19
_HUGE = 1e30  # no score is, in either direction


@dataclass(frozen=True)
class Decoded:
    """Decoded paths; with ``top_k`` every shape has a ``k`` after the ``B``, best first.

    Attributes:
        nodes: Node where the path ends, ``(B,)`` int64; -1 for the root (``decode_threshold``).
        path_nodes: Nodes of the path from the top node down, ``(B, L)`` int64, -1 beyond its end.
        log_prob: Natural logarithm of the path's posterior probability, ``(B,)``; after
            ``decode_threshold`` that of the marginal of ``nodes``.
    """

    nodes: Tensor
    path_nodes: Tensor
    log_prob: Tensor

    @property
    def prob(self) -> Tensor:
        """Probability in [0, 1], ``(B,)``."""
        return self.log_prob.exp()

    def paths(self, taxonomy: Taxonomy) -> list[Any]:
        """Tuples of node names, root side first: one per text, or a list of k per text."""

        def named(rows: list[Any]) -> Any:
            if rows and isinstance(rows[0], list):
                return [named(row) for row in rows]
            return tuple(taxonomy.name(node) for node in rows if node >= 0)

        return [named(row) for row in self.path_nodes.tolist()]


def as_scores(logits: Any) -> Tensor:
    """Scores as a tensor, of a NumPy array too.

    Raises:
        ModelError: neither a tensor nor an array.
    """
    array = isinstance(logits, np.ndarray) and not isinstance(logits, np.ma.MaskedArray)
    if array and logits.dtype.kind in "fiu":
        dtype = np.float32 if logits.dtype.kind == "f" and logits.dtype.itemsize < 8 else np.float64
        return torch.from_numpy(np.require(logits, dtype, ["C", "W"]))
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"Logits are a {type(logits).__name__}: pass a tensor or a NumPy array of numbers, "
            "with -inf for what is masked."
        )
    return logits


def path_scores(
    logits: Tensor, taxonomy: Taxonomy | Cuts, *, loss: Loss = "level", completed: bool = True
) -> Tensor:
    """Log-score of the best path from the root to every node.

    Args:
        logits: ``(B, N)``; -inf, or anything below -1e30, masks a node.
        taxonomy: The taxonomy, or its ``Cuts``.
        loss: The loss the logits were trained with, see the head of this module.
        completed: Score whole paths: a terminal repeats itself in the cuts below its own (for
            "path": it stops), and a node that is no terminal gets -inf. Otherwise the score of the
            path as far as the node; with "leaf" the logarithm of the sum over its terminals.
    Returns:
        ``(B, N)`` float32 (float64 for float64 logits); keeps gradients. The best of the paths to
        a node in a DAG.
    Raises:
        ModelError: Wrong shape, NaN or 1e30 and more. OptionError: Unknown ``loss``.
    """

    def work(cuts: Cuts, x: Tensor, start: int) -> tuple[Tensor, ...]:
        if not completed:
            return (cuts.path_scores(x, loss)[0],)
        full, _ = cuts.terminal_scores(x, loss)
        return (torch.full_like(x, -torch.inf).index_copy(1, cuts.terminals, full),)

    _check_loss(loss)
    return _by_chunk(logits, taxonomy, work)[0]


@torch.no_grad()
def top_k(
    logits: Tensor,
    taxonomy: Taxonomy | Cuts,
    k: int,
    *,
    loss: Loss = "level",
    temperature: float = 1.0,
) -> Decoded:
    """The ``k`` most probable paths with their posterior probabilities, best first.

    Args:
        logits: ``(B, N)``; -inf masks a node.
        k: At least 1; a taxonomy with fewer terminals gives that many.
        loss: The loss the logits were trained with.
        temperature: Of the path posterior, positive; more than 1 is less sure.
    Returns:
        Shapes ``(B, k)`` and ``(B, k, L)``. The paths end at different terminals.
    Raises:
        ModelError: As ``path_scores``. OptionError: A ``k``, loss or temperature out of range.
    """
    if k < 1:
        raise OptionError(f"top_k: k is {k}; ask for at least 1 path.")

    def work(cuts: Cuts, x: Tensor, start: int) -> tuple[Tensor, ...]:
        log_prob, came_from = _log_posterior(cuts, x, loss, temperature, start)
        if k == 1:  # several times faster than topk, and ties go to the first terminal
            log_prob, best = log_prob.max(1, keepdim=True)
        else:
            first = log_prob.argmax(1, keepdim=True)
            log_prob, best = log_prob.topk(min(k, log_prob.shape[1]), dim=1)
            # Of equals topk may take any; the first answer is that of ``decode``.
            best = torch.where(best == first, best[:, :1], best)
            best[:, :1] = first
        nodes = cuts.terminals[best]
        return nodes, cuts.walk(nodes, came_from), log_prob

    _check_loss(loss, temperature)
    return Decoded(*_by_chunk(logits, taxonomy, work))


def decode(
    logits: Tensor, taxonomy: Taxonomy | Cuts, *, loss: Loss = "level", temperature: float = 1.0
) -> Decoded:
    """The most probable path of each text; it exists in the taxonomy whatever the logits.

    Args:
        logits: ``(B, N)``; -inf masks a node.
        taxonomy: The taxonomy, or its ``Cuts``.
        loss: The loss the logits were trained with.
        temperature: Of the path posterior; changes probabilities, never paths.
    Returns:
        ``Decoded`` of shapes ``(B,)`` and ``(B, L)``.
    Raises:
        ModelError: Wrong shape, NaN or 1e30 and more, or a row in which every path is masked.
    """
    best = top_k(logits, taxonomy, 1, loss=loss, temperature=temperature)
    return Decoded(best.nodes[:, 0], best.path_nodes[:, 0], best.log_prob[:, 0])


@torch.no_grad()
def marginals(
    logits: Tensor, taxonomy: Taxonomy | Cuts, *, loss: Loss = "level", temperature: float = 1.0
) -> Tensor:
    """Probability that the text belongs at or below each node, from the path posterior.

    The sum over the terminals among the node and its descendants. In a DAG that is over all
    descendants, not only those whose best path passes the node: it is the probability that the node
    is in the ancestor-augmented label set, and never grows along an edge downwards.

    Returns:
        ``(B, N)`` in [0, 1].
    Raises:
        ModelError, OptionError: As ``decode``.
    """

    def work(cuts: Cuts, x: Tensor, start: int) -> tuple[Tensor, ...]:
        # Sums of float32 would leave the only top node of many labels less than certain.
        wide = torch.float32 if x.is_mps else torch.float64
        posterior = _log_posterior(cuts, x, loss, temperature, start, wide)[0].exp()
        return (cuts.sums_below(posterior).clamp(max=1.0).to(x.dtype),)

    _check_loss(loss, temperature)
    return _by_chunk(logits, taxonomy, work)[0]


@torch.no_grad()
def decode_threshold(marginals: Tensor, decoded: Decoded, threshold: float) -> Decoded:
    """Walk the decoded paths down and stop at the deepest node that is sure enough.

    Args:
        marginals: ``(B, N)`` from ``marginals`` for the same logits and loss.
        decoded: From ``decode``, shapes ``(B,)`` and ``(B, L)``.
        threshold: In [0, 1]; a node is kept while its marginal is at least this.
    Returns:
        ``nodes`` and ``path_nodes`` shortened, -1 and an empty path where not even the top node is
        sure; ``log_prob`` is that of the marginal of the node kept, 0 for the root.
    Raises:
        OptionError: Threshold outside [0, 1]. ModelError: Shapes that do not belong together.
    """
    if not 0 <= threshold <= 1:
        raise OptionError(f"decode_threshold: threshold {threshold:g} is outside [0, 1].")
    paths, marginals = decoded.path_nodes, as_scores(marginals)
    if paths.ndim != 2 or marginals.ndim != 2 or len(marginals) != len(paths):
        raise ModelError(
            f"decode_threshold: marginals {tuple(marginals.shape)} and paths {tuple(paths.shape)} "
            "must be (B, N) and (B, L) of the same texts."
        )
    if paths.numel() and int(paths.max()) >= marginals.shape[1]:
        raise ModelError(
            f"decode_threshold: a path goes through node {int(paths.max())}, and the marginals are "
            f"those of {marginals.shape[1]} nodes. Take both from the same logits and taxonomy."
        )
    if marginals.isnan().any():
        raise ModelError("decode_threshold: marginals hold NaN. Take them from marginals().")
    sure = marginals.gather(1, paths.clamp_min(0)).masked_fill(paths < 0, -1.0)  # (B, L)
    kept = (sure.float() >= threshold).cumprod(1).bool()  # 1 less a rounding is 1
    last = kept.sum(1, keepdim=True) - 1  # (B, 1), -1 where nothing is kept
    at = last.clamp_min(0)
    nodes = paths.gather(1, at).masked_fill(last < 0, -1)
    prob = sure.gather(1, at).masked_fill(last < 0, 1.0)
    return Decoded(nodes[:, 0], paths.masked_fill(~kept, -1), prob.log()[:, 0])


@torch.no_grad()
def level_answers(logits: Tensor, taxonomy: Taxonomy | Cuts, *, loss: Loss = "level") -> Tensor:
    """The best node of each cut, taken independently: what heads without decoding would answer.

    Heads without a softmax per level answer by the path posterior: a member of a cut by the paths
    that have it there.

    Returns:
        ``(B, L)`` node numbers.
    Raises:
        ModelError, OptionError: As ``decode``.
    """

    def work(cuts: Cuts, x: Tensor, start: int) -> tuple[Tensor, ...]:
        if loss == "level":
            scores = cuts.level_logits(x)
            masked = torch.stack([part.amax(1) for part in scores], 1).eq(-torch.inf).any(1)
            _refuse(masked, start, "mask a whole level with -inf. Leave a node of each reachable")
        else:
            log_prob, came_from = _log_posterior(cuts, x, loss, 1.0, start)
            scores = cuts.sums_in_cuts(log_prob.exp(), came_from)
        parts = zip(cuts.members, scores, strict=True)
        return (torch.stack([cut[part.argmax(1)] for cut, part in parts], 1),)

    _check_loss(loss)
    return _by_chunk(logits, taxonomy, work)[0]


@torch.no_grad()
def raw_consistent(logits: Tensor, taxonomy: Taxonomy | Cuts, *, loss: Loss = "level") -> Tensor:
    """Whether the independent answers of the cuts (``level_answers``) form one path, ``(B,)`` bool.

    They do where each next answer is a child that lies in its own level, or the same node again.
    """
    logits = as_scores(logits)
    cuts = cuts_of(taxonomy).to(logits.device)
    answers = level_answers(logits, cuts, loss=loss)
    upper, lower = answers[:, :-1], answers[:, 1:]  # (B, L - 1)
    level = torch.arange(2, cuts.num_levels + 1, device=logits.device)
    enters = cuts.has_edge(lower, upper) & (cuts.depth[lower] == level)
    return ((upper == lower) | enters).all(1)


def _by_chunk(
    logits: Tensor,
    taxonomy: Taxonomy | Cuts,
    work: Callable[[Cuts, Tensor, int], tuple[Tensor, ...]],
) -> tuple[Tensor, ...]:
    """Check the logits and run ``work`` on a few rows at a time, so that memory stays bounded."""
    logits = as_scores(logits)
    cuts = cuts_of(taxonomy).to(logits.device)
    if logits.ndim != 2 or logits.shape[1] != cuts.num_nodes or not logits.is_floating_point():
        raise ModelError(
            f"Logits of shape {tuple(logits.shape)} and type {logits.dtype} do not fit a taxonomy "
            f"of {cuts.num_nodes} nodes: pass floating-point logits (B, {cuts.num_nodes})."
        )
    rows = max(1, _CHUNK // cuts.num_nodes)
    done = []
    for start in range(0, max(1, len(logits)), rows):
        x = logits[start : start + rows]
        # Half precision is for transport: sums of exponentials need float32.
        x = x if x.dtype == torch.float64 else x.float()
        # False for NaN too. Sums over levels must not overflow.
        _refuse(
            ~(x < _HUGE).all(1),
            start,
            f"hold NaN or numbers from {_HUGE:g} on. Look for a diverged model",
        )
        if x.numel() and x.min() < -_HUGE:  # a mask, as -inf is, unless it leaves a row no path
            x = x.masked_fill(x < -_HUGE, -torch.inf)
        done.append(work(cuts, x, start))
    return tuple(torch.cat(parts) for parts in zip(*done, strict=True))


def _log_posterior(
    cuts: Cuts,
    x: Tensor,
    loss: Loss,
    temperature: float,
    start: int,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities over the terminals, ``(B, T)``, and the parents of the best paths."""
    full, came_from = cuts.terminal_scores(x, loss)
    masked = full.amax(1) == -torch.inf
    _refuse(masked, start, "mask every path with -inf. Leave at least one terminal reachable")
    # From the best score down: nothing overflows, however small the temperature.
    below = (full - full.amax(1, keepdim=True)) / temperature
    return below.log_softmax(1, dtype=dtype), came_from


def _check_loss(loss: str, temperature: float = 1.0) -> None:
    if loss not in get_args(Loss):
        raise OptionError(f"loss is {loss!r}; use one of {', '.join(get_args(Loss))}.")
    if not 0 < temperature < math.inf:
        raise OptionError(f"temperature {temperature:g}: it must be positive and finite.")


def _refuse(bad: Tensor, start: int, why: str) -> None:
    rows = (bad.nonzero()[:, 0] + start).tolist()
    if rows:
        shown = ", ".join(map(str, rows[:8])) + (" ..." if len(rows) > 8 else "")
        raise ModelError(f"{len(rows)} rows of logits {why}. First rows: {shown}.")
