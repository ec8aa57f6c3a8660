"""What every hierarchical head shares: projection, losses, decoding.

Enters: hidden states ``(B, D)``, one per tapped layer. Leaves: one logit per node of the taxonomy,
``(B, N)``, for nodes of all levels in one space. Subclasses say how a text's tangent vector is
scored against the nodes of a level; everything else is common, so that a comparison of geometries
changes one thing.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.export
from torch import Tensor, nn

from hyperlm.cuts import cuts_of
from hyperlm.decoding import Cuts, Decoded, Loss, decode, marginals, top_k
from hyperlm.errors import OptionError
from hyperlm.heads.losses import path_loss
from hyperlm.heads.node_numbers import check_nodes, note_nodes
from hyperlm.heads.projection import Projection
from hyperlm.taxonomy import Taxonomy

__all__ = ["HeadOutput", "HierarchicalHead"]

LOSSES = ("level", "path", "leaf")


@dataclass
class HeadOutput:
    """What a head says of a batch.

    Attributes:
        logits: ``(B, N)``, one score per node.
        points: ``(B, d)``, the texts in the geometry of the head, as seen by the deepest tap
            (Lorentz: ``d + 1`` coordinates, time first).
        loss: scalar, or ``None`` without targets.
    """

    logits: Tensor
    points: Tensor
    loss: Tensor | None = None


# What torch.export takes out of a head; saved programs name it so.
torch.export.register_dataclass(HeadOutput, serialized_type_name="hyperlm.heads.HeadOutput")


class HierarchicalHead(nn.Module):
    """Base of the heads; use :class:`HyperbolicHead` or :class:`LinearHead`.

    Args:
        hidden_size: D, width of the hidden states that come in.
        taxonomy: the label tree or DAG.
        dim: d, dimension of the space, at least 2.
        loss: ``level`` (cross-entropy per level, the default), ``path`` (a softmax per parent) or
            ``leaf`` (one softmax over the places where paths end).
        tap_of_level: which of the hidden states serves each level, coarse to fine, L integers from
            0; ``None`` when there is one hidden state for all levels.
        dropout: on the hidden state.
        start_radius, max_radius: see :class:`Projection`.
        seed: of the random start; two heads of equal seed are equal.
    """

    def __init__(
        self,
        hidden_size: int,
        taxonomy: Taxonomy,
        dim: int,
        *,
        loss: Loss,
        tap_of_level: Sequence[int] | None,
        dropout: float,
        start_radius: float,
        max_radius: float | None,
        seed: int,
    ) -> None:
        super().__init__()
        if not isinstance(taxonomy, Taxonomy):
            raise OptionError(
                f"taxonomy: {type(taxonomy).__name__} is no Taxonomy. Make one, for example with "
                "Taxonomy.from_paths([('animal', 'bird'), ('animal', 'fish')])."
            )
        if dim < 2:
            raise OptionError(
                f"dim {dim}: a label tree needs at least 2 dimensions; 16 to 128 are usual."
            )
        if loss not in LOSSES:
            raise OptionError(f"loss {loss!r} is unknown; choose one of {', '.join(LOSSES)}.")
        if not 0 <= dropout < 1:
            raise OptionError(f"dropout {dropout}: a probability in [0, 1) was expected.")
        # Of NumPy they would go into state dicts, which torch.load refuses then.
        taps = (
            tuple(map(int, tap_of_level))
            if tap_of_level is not None
            else (0,) * taxonomy.num_levels
        )
        if len(taps) != taxonomy.num_levels or set(taps) != set(range(max(taps) + 1)):
            raise OptionError(
                f"tap_of_level {list(taps)}: give one number from 0 for each of the "
                f"{taxonomy.num_levels} levels, without gaps."
            )
        if hidden_size < 1 or not 0 < start_radius < math.inf:
            raise OptionError(
                f"hidden_size {hidden_size}, start_radius {start_radius}: both must be positive."
            )
        if max_radius is not None and not max_radius > 0:
            raise OptionError(f"max_radius {max_radius}: must be positive, or None.")
        max_radius = None if max_radius is None else float(max_radius)
        self.hidden_size, self.dim, self.seed = hidden_size, dim, seed
        self.taxonomy, self.loss_kind, self.tap_of_level = taxonomy, loss, taps
        # Taken out now: torch.compile cannot enter the lock of a cached property.
        self.level_slices = taxonomy.level_slices
        self.projections = nn.ModuleList(
            Projection(
                hidden_size,
                dim,
                start_radius=start_radius,
                max_radius=max_radius,
                dropout=dropout,
            )
            for _ in range(max(taps) + 1)
        )
        # No buffers: index tables are remade from the taxonomy, never saved. Made here, because
        # torch.compile cannot trace numpy's part of it.
        self._all_cuts: Cuts | None = cuts_of(taxonomy)
        self.register_state_dict_post_hook(note_nodes)
        self.register_load_state_dict_pre_hook(check_nodes)

    def mark_started(self) -> None:
        """Tell the models of transformers, which else start every linear layer in them anew."""
        for module in self.modules():
            module._is_hf_initialized = True  # type: ignore[assignment]

    def each_projection(self) -> list[Projection]:
        """One projection per tap, in order."""
        return [part for part in self.projections if isinstance(part, Projection)]

    @abstractmethod
    def reset_parameters(self) -> None:
        """Start again from ``seed``; geometry happens here and never in ``__init__`` (meta)."""

    @abstractmethod
    def level_scores(self, tangent: Tensor, level: int) -> Tensor:
        """Scores ``(B, n_l)`` of the nodes of level ``level`` (from 0) for tangents ``(B, d)``."""

    @abstractmethod
    def place(self, tangent: Tensor) -> Tensor:
        """Tangent vectors at the origin as points of the head's space."""

    def extra_loss(self, tangents: list[Tensor], targets: Tensor) -> Tensor | None:
        """A term added to the loss of the gold paths, or ``None``."""
        return None

    def tag_points(self) -> None:
        """Make node points manifold parameters again after a load; nothing to do by default."""

    def cuts(self, device: torch.device) -> Cuts:
        """The levels of the taxonomy as index tensors on ``device``."""
        if self._all_cuts is None:  # a head pickled by an earlier version
            self._all_cuts = cuts_of(self.taxonomy)
        return self._all_cuts.to(device)

    def forward(
        self, hidden: Tensor | Sequence[Tensor], targets: Tensor | None = None
    ) -> HeadOutput:
        """Score a batch.

        Args:
            hidden: ``(B, D)``, or one such tensor per tap, in any float dtype.
            targets: end nodes ``(B,)``, below 0 for a text without a label; or nodes per level
                ``(B, L)`` with -100 where there is none; or a boolean ``(B, N)`` that marks the
                nodes of several gold paths.
        Raises:
            OptionError: hidden states or targets of another kind, shape or range. Inside
                ``torch.compile`` numbers are not looked at.
        """
        states = [hidden] if isinstance(hidden, Tensor) else list(hidden)
        if not all(isinstance(state, Tensor) for state in states):
            raise OptionError(
                f"hidden states are a {type(hidden).__name__}: give a tensor (B, "
                f"{self.hidden_size}), one vector per text, or a list of such, one per tap."
            )
        if len(states) != len(self.projections):
            raise OptionError(
                f"{type(self).__name__} taps {len(self.projections)} hidden states, "
                f"got {len(states)}."
            )
        for state in states:
            if state.dim() != 2:
                raise OptionError(
                    f"hidden states have shape {tuple(state.shape)}; the head takes one vector per "
                    f"text, (B, {self.hidden_size}). Pool over the tokens first."
                )
            if state.shape[1] != self.hidden_size:
                raise OptionError(
                    f"hidden states are {state.shape[1]} wide, but the head was made with "
                    f"hidden_size={self.hidden_size}."
                )
        tangents = [project(state) for project, state in zip(self.projections, states, strict=True)]
        with torch.autocast(tangents[0].device.type, enabled=False):
            logits = torch.cat(
                [self.level_scores(tangents[t], lv) for lv, t in enumerate(self.tap_of_level)],
                dim=1,
            )  # (B, N)
            points = self.place(tangents[self.tap_of_level[-1]])
            loss = None
            if targets is not None:
                loss = path_loss(logits, self.cuts(logits.device), targets, kind=self.loss_kind)
        if loss is not None and targets is not None:
            extra = self.extra_loss(tangents, targets)
            loss = loss if extra is None else loss + extra
        return HeadOutput(logits, points, loss)

    def decode(self, logits: Tensor) -> list[tuple[str, ...]]:
        """The best path of each row, as names from the top class down; it always exists."""
        cuts = self.cuts(logits.device)
        return decode(logits, cuts, loss=self.loss_kind).paths(self.taxonomy)

    def top_k(self, logits: Tensor, k: int = 5, *, temperature: float = 1.0) -> Decoded:
        """:func:`hyperlm.decoding.top_k`, by the loss of this head."""
        cuts = self.cuts(logits.device)
        return top_k(logits, cuts, k, loss=self.loss_kind, temperature=temperature)

    def marginals(self, logits: Tensor, *, temperature: float = 1.0) -> Tensor:
        """:func:`hyperlm.decoding.marginals`, by the loss of this head."""
        cuts = self.cuts(logits.device)
        return marginals(logits, cuts, loss=self.loss_kind, temperature=temperature)

    def extra_repr(self) -> str:
        nodes = f"{len(self.taxonomy)} nodes"
        return f"{self.hidden_size}, {nodes}, dim={self.dim}, loss={self.loss_kind!r}"

    def space_settings(self) -> dict[str, object]:
        """What the weights answer otherwise without; kept beside them in a state dict."""
        return {
            "head": type(self).__name__,
            "loss": self.loss_kind,
            "tap_of_level": list(self.tap_of_level),
            "max_radius": self.each_projection()[0].max_radius,
        }
