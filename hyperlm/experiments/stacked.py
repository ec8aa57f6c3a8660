"""Several heads of one shape trained together: the arrays of all of them in one, run first.

Enters: heads as :func:`hyperlm.heads.build_head` makes them, of equal shape, that differ in seed
and learning rates. Leaves: the same heads, trained, as if each had been trained alone (see
:func:`~.fitting.fit_alone`): own order of texts, own dropout, own clipping, own learning rates. A
step on small arrays costs mostly calls, so that R heads together cost far less than R times one.

Shapes: ``R`` heads, ``B`` texts, ``D`` features, ``d`` dimensions, ``N`` nodes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.errors import OptionError
from hyperlm.experiments.stacked_distances import Acosh, Lift, Root, squares
from hyperlm.heads import HierarchicalHead, HyperbolicHead, LinearHead
from hyperlm.heads.losses import path_loss
from hyperlm.manifolds import ManifoldParameter

__all__ = ["StackedHeads"]


class StackedHeads:
    """R heads as one.

    Args:
        heads: of one class, one shape and one geometry; without cone loss and learned curvature.
        shared: how many heads, one after the other, read the same states; one each by default.
            These are then given once, ``S`` of them instead of ``R``.
    Raises:
        OptionError: the heads do not fit together, or ``shared`` counts others.
    """

    def __init__(
        self, heads: Sequence[HierarchicalHead], shared: Sequence[int] | None = None
    ) -> None:
        self.heads = list(heads)
        self._shared = list(shared or [1] * len(self.heads))
        if sum(self._shared) != len(self.heads):
            raise OptionError(f"shared = {self._shared} does not count {len(self.heads)} heads.")
        self.first = first = _checked(self.heads)
        self.taxonomy, self.size = first.taxonomy, len(self.heads)
        self.flat: dict[str, Tensor] = {}
        for name, parameter in first.named_parameters():
            if isinstance(parameter, ManifoldParameter):
                continue
            parts = [dict(head.named_parameters())[name].detach() for head in self.heads]
            self.flat[name] = torch.stack(parts).requires_grad_()
        self.points: ManifoldParameter | None = None
        if isinstance(first, HyperbolicHead):
            # One long table: the optimiser moves every row by itself.
            table = torch.cat([dict(head.named_parameters())["points"] for head in self.heads])
            self.points = ManifoldParameter(table.detach(), manifold=first.storage())
        cuts = first.cuts(torch.device("cpu"))
        self._cuts = cuts
        # Heads of trees are trained by plain cross-entropies, which torch has fused.
        self._fused = first.loss_kind == "level" and self.taxonomy.is_tree
        self._sizes = [part.stop - part.start for part in first.level_slices]

    def logits(self, states: Sequence[Tensor]) -> Tensor:
        """Node scores ``(R, B, N)`` for normalised states, one ``(S, B, D)`` per tap."""
        return torch.cat(self._level_logits(states), 2)

    def _level_logits(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The same level by level, ``(R, B, n_l)``: split once, since slices are slow to train."""
        first = self.first
        tangents = [self.projected(tap, state) for tap, state in enumerate(states)]
        biases = self.flat["bias"].unsqueeze(1).split(self._sizes, 2)
        if not isinstance(first, HyperbolicHead):
            tables = self.flat["weight"].split(self._sizes, 1)
            return [
                torch.baddbmm(bias, tangents[tap], table.mT)
                for tap, table, bias in zip(first.tap_of_level, tables, biases, strict=True)
            ]
        texts = [_clipped(tangent, first.each_projection()[0].max_radius) for tangent in tangents]
        nodes, factor = self._node_tangents(), self.flat["log_temperature"].exp()
        if first.geometry == "euclidean":
            lifted, anchors = [squares(text) for text in texts], squares(nodes, against=True)
            measure: Any = Root
        else:
            scale = float(first.c) ** 0.5
            lifted = [Lift.apply(text, scale, 1.0) for text in texts]
            # -<x, y>, so that the product with a text is cosh of their distance.
            anchors = Lift.apply(nodes, scale, -1.0)
            factor, measure = factor / scale, Acosh
        dist = [
            measure.apply(lifted[tap] @ part.mT)
            for tap, part in zip(first.tap_of_level, anchors.split(self._sizes, 1), strict=True)
        ]
        return [
            torch.addcmul(bias, factor[:, level, None, None], part, value=-1)
            for level, (bias, part) in enumerate(zip(biases, dist, strict=True))
        ]

    def projected(self, tap: int, state: Tensor) -> Tensor:
        """``(R, B, d)`` of states ``(S, B, D)``: one wide product for heads that share theirs."""
        weight, bias = (
            self.flat[f"projections.{tap}.linear.{name}"] for name in ("weight", "bias")
        )
        if len(state) == self.size:
            return torch.baddbmm(bias.unsqueeze(1), state, weight.mT)
        parts = [
            F.linear(own, part.flatten(0, 1)).unflatten(1, part.shape[:2]).transpose(0, 1)
            for own, part in zip(state, weight.split(self._shared), strict=True)
        ]
        return torch.cat(parts) + bias.unsqueeze(1)

    def losses(self, states: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The sum over the heads of each one's loss, whose gradients are each head's own.

        Args:
            states: as for :meth:`logits`.
            targets: ``(R, B)`` end nodes, or ``(R, B, N)`` booleans.
        """
        levels = self._level_logits(states)
        R, B = targets.shape[:2]
        ends = targets.reshape(R * B, *targets.shape[2:])
        if not self._fused or targets.dim() == 3:
            flat = torch.cat(levels, 2).view(R * B, -1)
            return R * path_loss(flat, self._cuts, ends, kind=self.first.loss_kind)
        wanted = self._cuts.targets(ends)  # (R B, L)
        loss = levels[0].new_zeros(())
        for level, members in enumerate(self._cuts.members):
            cut = levels[level].flatten(0, 1)
            if len(members) != self._sizes[level] or self._cuts.depth[members[0]] <= level:
                # Terminals of higher levels stand in the cut as well.
                cut = torch.cat(levels[: level + 1], 2).flatten(0, 1).index_select(1, members)
            loss = loss + F.cross_entropy(cut, wanted[:, level], reduction="sum")
        return loss / B

    def _node_tangents(self) -> Tensor:
        first, points = self.first, self.points
        assert isinstance(first, HyperbolicHead)  # the linear head has no points
        assert points is not None
        table = points.view(self.size, len(self.taxonomy), -1)
        if first.geometry == "euclidean" or first.coordinates == "tangent":
            return table
        return first.space().to_polar(table)

    @torch.no_grad()
    def write_back(self) -> None:
        """Give every head what it has learnt."""
        for r, head in enumerate(self.heads):
            own = dict(head.named_parameters())
            for name, stacked in self.flat.items():
                own[name].copy_(stacked[r])
            if self.points is not None:
                size = len(self.taxonomy)
                own["points"].copy_(self.points[r * size : (r + 1) * size])


def _clipped(tangent: Tensor, max_radius: float | None) -> Tensor:
    if max_radius is None:
        return tangent
    length = tangent.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return tangent * (max_radius / length).clamp(max=1.0)


def _checked(heads: Sequence[HierarchicalHead]) -> HierarchicalHead:
    """The first of heads that fit together."""
    if not heads:
        raise OptionError("StackedHeads needs at least one head.")
    looks = set()
    for head in heads:
        if not isinstance(head, HyperbolicHead | LinearHead):
            raise OptionError(f"{type(head).__name__}: only the heads of hyperlm can be stacked.")
        look: list[Any] = [type(head).__name__, head.dim, head.hidden_size, head.loss_kind]
        look += [head.tap_of_level, head.taxonomy.fingerprint]
        look += [head.each_projection()[0].dropout.p, head.each_projection()[0].max_radius]
        if isinstance(head, HyperbolicHead):
            if head.cone_loss is not None or head.curvature_logit is not None:
                raise OptionError(
                    "heads with cone loss or learned curvature cannot be stacked: train them alone."
                )
            look += [head.geometry, head.coordinates, head.c]
        looks.add(tuple(look))
    if len(looks) > 1:
        raise OptionError(f"heads of {len(looks)} different shapes cannot be stacked.")
    return heads[0]
