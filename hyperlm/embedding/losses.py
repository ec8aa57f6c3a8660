"""The two losses of trained points, for a whole batch at once.

In: tangent vectors at the origin for ``c = 1``. Out: scalars. The distance loss is the softmax of
Nickel and Kiela (2017): of a node's true ancestor against nodes that are none, by distance. All
nodes of a batch share their negatives, so that one matrix product compares them: on the
hyperboloid ``cosh d`` is an inner product, ``exp(-d) = 1/(cosh d + sinh d)``, and no function
dearer than a root is needed per pair. In flat space, the control, the same softmax takes flat
distances.
"""

from typing import Any

import torch
from torch import Tensor

from hyperlm.manifolds import cones
from hyperlm.manifolds._functions import sinhc

__all__ = ["cone_pairs_loss", "distance_loss", "flat_similarity_sum", "lifted", "similarity_sum"]

# These bound the gradient of pairs so close that cosh d, or a squared distance, has no digits left.
_LEAST_SINH = 1e-2
_LEAST_DIST = 1e-6


def lifted(u: Tensor) -> Tensor:
    """Points of the hyperboloid, time first: ``(n, d) -> (n, d + 1)``."""
    radius = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    return torch.cat([torch.cosh(radius), sinhc(radius) * u], 1)


class _SimilaritySum(torch.autograd.Function):
    """See ``similarity_sum``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, weight: Tensor, row: Tensor, column: Tensor, power: float
    ) -> Tensor:
        mirrored = torch.cat([y[:, :1], -y[:, 1:]], 1)
        cosh = (x @ mirrored.mT).clamp_min_(1.0)  # (B, M)
        sinh = (cosh * cosh).sub_(1).sqrt_()
        similar = cosh.add_(sinh).reciprocal_()  # exp(-d)
        if power != 1:
            similar.pow_(power)
        similar[row, column] = 0
        similar *= weight
        total = similar.sum(1)
        slope = similar.div_(sinh.clamp_min_(_LEAST_SINH)).mul_(-power)
        ctx.save_for_backward(x, mirrored, slope)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, mirrored, slope = ctx.saved_tensors
        slope = slope * grads[0].unsqueeze(1)
        to_y = slope.mT @ x
        return slope @ mirrored, torch.cat([to_y[:, :1], -to_y[:, 1:]], 1), None, None, None, None


def similarity_sum(
    x: Tensor, y: Tensor, weight: Tensor, row: Tensor, column: Tensor, power: float
) -> Tensor:
    """``sum_j weight_j exp(-power dist(x_i, y_j))`` without the pairs ``(row, column)``.

    Args:
        x: ``(B, d + 1)`` points of the hyperboloid, float64; see ``lifted``.
        y: ``(M, d + 1)`` likewise.
        weight: ``(M,)``.
        row, column: pairs to leave out.
    Returns:
        ``(B,)``.
    """
    total: Tensor = _SimilaritySum.apply(x, y, weight, row, column, power)
    return total


class _FlatSimilaritySum(torch.autograd.Function):
    """See ``flat_similarity_sum``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, weight: Tensor, row: Tensor, column: Tensor, power: float
    ) -> Tensor:
        square = torch.addmm(y.square().sum(1), x, y.mT, alpha=-2).add_(x.square().sum(1)[:, None])
        dist = square.clamp_min_(0).sqrt_()  # (B, M)
        similar = torch.exp(-power * dist)
        similar[row, column] = 0
        similar *= weight
        total = similar.sum(1)
        slope = similar.div_(dist.clamp_min_(_LEAST_DIST)).mul_(-power)
        ctx.save_for_backward(x, y, slope)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, slope = ctx.saved_tensors
        slope = slope * grads[0].unsqueeze(1)
        to_x = slope.sum(1, keepdim=True) * x - slope @ y
        to_y = slope.sum(0)[:, None] * y - slope.mT @ x
        return to_x, to_y, None, None, None, None


def flat_similarity_sum(
    x: Tensor, y: Tensor, weight: Tensor, row: Tensor, column: Tensor, power: float
) -> Tensor:
    """As :func:`similarity_sum`, of points ``(B, d)`` and ``(M, d)`` of flat space."""
    total: Tensor = _FlatSimilaritySum.apply(x, y, weight, row, column, power)
    return total


def distance_loss(
    positive: Tensor, owner: Tensor, similarity: Tensor, temperature: float, batch: int
) -> Tensor:
    """``-log`` of each true ancestor's share against the negatives; the sum divided by ``batch``.

    Args:
        positive: ``(P,)`` distances to true ancestors.
        owner: ``(P,)`` whose row of ``similarity`` is meant.
        similarity: ``(B,)`` from ``similarity_sum`` with power ``temperature``.
        temperature: factor on distances, as in the heads: larger is harder.
    """
    # Where all are ancestors there are no negatives; its gradient, a million times, is a number.
    tiny = 1e6 * torch.finfo(similarity.dtype).tiny
    against = (similarity + tiny).log()[owner] + temperature * positive
    return torch.nn.functional.softplus(against).sum() / batch


def cone_pairs_loss(
    parent: Tensor,
    child: Tensor,
    false_parent: Tensor,
    false_child: Tensor,
    *,
    margin: float = 0.01,
    cone_constant: float = 0.1,
) -> Tensor:
    """Children into their parents' cones, corrupted pairs out by ``margin``; per true pair.

    Args:
        parent, child: ``(P, d)`` true pairs.
        false_parent, false_child: ``(Q, d)`` corrupted ones, at either end.
    """
    held = cones.polar_cone_energy(parent, child, cone_constant=cone_constant)
    out = cones.polar_cone_energy(false_parent, false_child, cone_constant=cone_constant)
    return (held.sum() + torch.relu(margin - out).sum()) / max(1, len(parent))
