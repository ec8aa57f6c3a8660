"""Distances of texts to nodes for many heads at once: one product in float64, then float32.

In the ball ``cosh(sqrt(c) dist) - 1 = -<x, y> - 1`` with the Lorentz product of the points, in flat
space ``|x|^2 + |y|^2 - 2 x y``: without the exact second look at close pairs that the heads take
(:mod:`hyperlm.manifolds.polar`), so that distances below ``1e-8 exp(radius)``, or ``1e-8 radius``
in flat space, are rough. Distances up to ``88 / sqrt(c)`` fit into float32 on the way.
"""

from typing import Any

import torch
from torch import Tensor

from hyperlm.manifolds._functions import dot, norm, sinhc

__all__ = ["Acosh", "Lift", "Root", "squares"]


class Lift(torch.autograd.Function):
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


class Root(torch.autograd.Function):
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


class Acosh(torch.autograd.Function):
    """float64 in, float32 out; the derivative is zero where two points coincide."""

    @staticmethod
    def forward(ctx: Any, product: Tensor) -> Tensor:
        # What the subtraction leaves is exact enough for float32, which is twice as fast.
        excess = (product - 1.0).float().clamp_(min=0.0)
        sinh = torch.add(excess, 2.0).sqrt_().mul_(excess.sqrt())  # whose square may be too large
        ctx.save_for_backward(sinh)
        return excess.add_(sinh).log1p_()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (sinh,) = ctx.saved_tensors
        return torch.where(sinh > 0, grad / sinh, 0.0).double()


def squares(x: Tensor, *, against: bool = False) -> Tensor:
    """``(|x|^2, 1, x)``, ``against`` it ``(1, |y|^2, -2 y)``: their product is ``|x - y|^2``.

    ``(..., d) -> (..., d + 2)``, float64.
    """
    x = x.double()
    square = dot(x, x)
    one = torch.ones_like(square)
    return torch.cat([one, square, -2 * x] if against else [square, one, x], -1)
