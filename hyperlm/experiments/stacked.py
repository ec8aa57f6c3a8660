"""Several heads of one shape trained together: the arrays of all of them in one, run first.

Enters: heads as :func:`hyperlm.heads.build_head` makes them, of equal shape, that differ in seed
and learning rates. Leaves: the same heads, trained, as if each had been trained alone (see
:func:`~.fitting.fit_alone`): own order of texts, own dropout, own clipping, own learning rates. A
step on small arrays costs mostly calls, so that R heads together cost far less than R times one.

Shapes: ``R`` heads, ``B`` texts, ``D`` features, ``d`` dimensions, ``N`` nodes.

Distances come from one product in float64, ``cosh(sqrt(c) dist) - 1 = -<x, y> - 1`` with the
Lorentz product of the points, or ``|x|^2 + |y|^2 - 2 x y``: without the exact second look at close
pairs that the heads take (:mod:`hyperlm.manifolds.polar`), so that distances below ``1e-8
exp(radius)``, or ``1e-8 radius`` in flat space, are rough.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.errors import OptionError
from hyperlm.heads import HierarchicalHead, HyperbolicHead, LinearHead
from hyperlm.heads.losses import path_loss
from hyperlm.manifolds import ManifoldParameter
from hyperlm.manifolds._functions import dot, norm, sinhc

__all__ = ["StackedHeads", "StackedOptimizer"]


class StackedHeads:
    """R heads as one.

    Args:
        heads: of one class, one shape and one geometry; without cone loss and learned curvature.
    Raises:
        OptionError: the heads do not fit together.
    """

    def __init__(self, heads: Sequence[HierarchicalHead]) -> None:
        self.heads = list(heads)
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
        """Node scores ``(R, B, N)`` for normalised states, one ``(R, B, D)`` per tap."""
        return torch.cat(self._level_logits(states), 2)

    def _level_logits(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The same level by level, ``(R, B, n_l)``: split once, since slices are slow to train."""
        first = self.first
        tangents = [
            torch.baddbmm(
                self.flat[f"projections.{tap}.linear.bias"].unsqueeze(1),
                state,
                self.flat[f"projections.{tap}.linear.weight"].mT,
            )
            for tap, state in enumerate(states)
        ]  # (R, B, d)
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
            lifted, anchors = [_squares(text) for text in texts], _squares(nodes, against=True)
            measure: Any = _Root
        else:
            scale = float(first.c) ** 0.5
            lifted = [_Lift.apply(text, scale, 1.0) for text in texts]
            # -<x, y>, so that the product with a text is cosh of their distance.
            anchors = _Lift.apply(nodes, scale, -1.0)
            factor, measure = factor / scale, _Acosh
        dist = [
            measure.apply(lifted[tap] @ part.mT)
            for tap, part in zip(first.tap_of_level, anchors.split(self._sizes, 1), strict=True)
        ]
        return [
            torch.addcmul(bias, factor[:, level, None, None], part, value=-1)
            for level, (bias, part) in enumerate(zip(biases, dist, strict=True))
        ]

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


class StackedOptimizer:
    """AdamW and Riemannian Adam, with learning rates of each head's own.

    Args:
        heads: what to train.
        head_lr, node_lr: R rates each; see :class:`~.settings.HeadRun`.
        decays: names of the parameters with weight decay.
    """

    def __init__(
        self,
        heads: StackedHeads,
        head_lr: Sequence[float],
        node_lr: Sequence[float],
        *,
        weight_decay: float,
        decays: Sequence[str],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.heads, self.betas, self.eps, self.steps = heads, betas, eps, 0
        self.weight_decay, self.decays = weight_decay, frozenset(decays)
        self.head_lr = torch.tensor(list(head_lr), dtype=torch.float64)
        self.node_lr = torch.tensor(list(node_lr), dtype=torch.float64)
        self.moments = {
            name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in heads.flat.items()
        }
        if heads.points is not None:
            table = heads.points
            self.moments["points"] = (torch.zeros_like(table), torch.zeros_like(table[:, :1]))

    @torch.no_grad()
    def step(self, factor: float, max_norm: float) -> None:
        """Clip each head's gradients, then one step at ``factor`` times the learning rates.

        As :func:`hyperlm.optim.clip_gradients` clips: ordinary gradients by their joint norm, those
        of points by their Riemannian norm. Gradients are gone afterwards.
        """
        self.steps += 1
        gradients = {name: p.grad for name, p in self.heads.flat.items() if p.grad is not None}
        square = torch.stack([g.flatten(1).square().sum(1) for g in gradients.values()]).sum(0)
        clip = (max_norm / (square.sqrt() + 1e-6)).clamp(max=1.0)
        one, two = (1 - beta**self.steps for beta in self.betas)
        for name, gradient in gradients.items():
            p = self.heads.flat[name]
            gradient.mul_(_column(clip, p))
            rate = _column((self.node_lr if name == "weight" else self.head_lr) * factor, p)
            mean, second = self.moments[name]
            if name in self.decays:
                p.mul_((1 - rate * self.weight_decay).to(p.dtype))
            mean.lerp_(gradient, 1 - self.betas[0])
            second.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
            below = second.sqrt().div_(two**0.5).add_(self.eps)
            p.sub_((mean / below).mul_((rate / one).to(p.dtype)))
            p.grad = None
        if self.heads.points is not None:
            self._step_points(self.heads.points, factor, max_norm)

    def _step_points(self, points: ManifoldParameter, factor: float, max_norm: float) -> None:
        """Riemannian Adam as geoopt has it, with the gradient of the clipping used again."""
        size, manifold = self.heads.size, points.manifold
        mean, second = self.moments["points"]
        gradient = manifold.egrad2rgrad(points, points.grad)
        # Its squared Riemannian length: one of the two metrics in it undoes the other.
        square = (points.grad * gradient).sum(1, keepdim=True).clamp_(min=0)  # (R N, 1)
        length = square.view(size, -1).sum(1).sqrt()
        clip = (max_norm / length.clamp(min=max_norm)).to(points.dtype)
        clip = clip.repeat_interleave(len(points) // size).unsqueeze(1)
        mean.mul_(self.betas[0]).add_(gradient * clip, alpha=1 - self.betas[0])
        second.mul_(self.betas[1]).add_(square * clip.square(), alpha=1 - self.betas[1])
        one, two = (1 - beta**self.steps for beta in self.betas)
        rate = (self.node_lr * factor).float().repeat_interleave(len(points) // size).unsqueeze(1)
        time = -rate / one / ((second / two).sqrt() + self.eps)
        moved, carried = manifold.glide(points, mean, time)
        points.copy_(moved)
        mean.copy_(carried)
        points.grad = None


class _Lift(torch.autograd.Function):
    """Points of the unit hyperboloid ``(..., d + 1)``, time first, float64, from float32 ``u``.

    ``(cosh r, sign sinh(r) u / |u|)`` with ``r = scale |u|``, and its derivative in closed form.
    """

    @staticmethod
    def forward(ctx: Any, tangent: Tensor, scale: float, sign: float) -> Tensor:
        u = tangent.double()
        radius = scale * norm(u)
        ratio = sinhc(radius)
        out = u.new_empty((*u.shape[:-1], u.shape[-1] + 1))
        torch.cosh(radius, out=out[..., :1])
        torch.mul(u, scale * sign * ratio, out=out[..., 1:])
        ctx.save_for_backward(u, radius, ratio)
        ctx.scale, ctx.sign = scale, sign
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        u, radius, ratio = ctx.saved_tensors
        scale, time, space = ctx.scale, grad[..., :1], grad[..., 1:]
        # sinhc'(r) / r, whose difference leaves no digits at small radii.
        small = radius < 1e-2
        square = torch.where(small, 1, radius).square()
        bend = torch.where(small, 1 / 3 + radius.square() / 30, (radius.cosh() - ratio) / square)
        along = scale**2 * (ratio * time + ctx.sign * scale * bend * dot(u, space))
        return torch.addcmul(along * u, space, ctx.sign * scale * ratio).float(), None, None


class _Root(torch.autograd.Function):
    """float64 in, float32 out; the derivative is zero where two points coincide."""

    @staticmethod
    def forward(ctx: Any, square: Tensor) -> Tensor:
        dist = square.float().clamp_(min=0.0).sqrt_()
        ctx.save_for_backward(dist)
        return dist

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (dist,) = ctx.saved_tensors
        return torch.where(dist > 0, 0.5 * grad / dist, 0.0).double()


class _Acosh(torch.autograd.Function):
    """float64 in, float32 out; the derivative is zero where two points coincide."""

    @staticmethod
    def forward(ctx: Any, product: Tensor) -> Tensor:
        # What the subtraction leaves is exact enough for float32, which is twice as fast.
        excess = (product - 1.0).float().clamp_(min=0.0)
        sinh = torch.add(excess, 2.0).mul_(excess).sqrt_()
        ctx.save_for_backward(sinh)
        return excess.add_(sinh).log1p_()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (sinh,) = ctx.saved_tensors
        return torch.where(sinh > 0, grad / sinh, 0.0).double()


def _squares(x: Tensor, *, against: bool = False) -> Tensor:
    """``(|x|^2, 1, x)``, ``against`` it ``(1, |y|^2, -2 y)``: their product is ``|x - y|^2``.

    ``(..., d) -> (..., d + 2)``, float64.
    """
    x = x.double()
    square = dot(x, x)
    one = torch.ones_like(square)
    return torch.cat([one, square, -2 * x] if against else [square, one, x], -1)


def _clipped(tangent: Tensor, max_radius: float | None) -> Tensor:
    if max_radius is None:
        return tangent
    length = tangent.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return tangent * (max_radius / length).clamp(max=1.0)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))


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
