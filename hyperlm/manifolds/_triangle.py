"""The triangle of the origin and two points, in polar form: steps, directions, angles.

In: tangent vectors at the origin as points, in float64, lengths scaled by ``sqrt(c)``. A tangent
vector ``w`` at ``u`` is compared in the frame carried out from the origin along the radius: ``w_hat
= w_r p + S w_across`` with ``S = sinh(r)/r``, in which lengths and angles are Euclidean ones.
"""

import torch
from torch import Tensor

from hyperlm.manifolds._functions import dot, norm, sinhc
from hyperlm.manifolds._polar_ops import _Pairs

__all__ = ["Step", "Triangle", "arrow", "heading", "radius_and_direction", "root", "turned"]


class Triangle:
    """A step solved in its plane, where only lengths and angles count; all ``(..., 1)``.

    Args:
        a: Radius of the point that the step leaves.
        n: Length of the step.
        cos, sin: Of the angle, from 0 to pi, between its start and the way to the boundary.
    """

    def __init__(self, a: Tensor, n: Tensor, cos: Tensor, sin: Tensor) -> None:
        # 1 + cos without cancellation where the step heads for the origin.
        open_ = torch.where(cos < 0, sin.square() / (1 - cos.clamp_max(0)), 1 + cos)
        sinh_a, sinh_n = torch.sinh(a), torch.sinh(n)
        square = torch.sinh((a - n) / 2).square() + sinh_a * sinh_n * open_ / 2
        self.radius = torch.log1p(2 * (square + root(square * (1 + square))))
        ahead = torch.sinh(a - n)
        # Angles at the origin and at the new point, each opposite a known side.
        outset = _angle(sin, cos, 0)
        self.along = ahead + sinh_n * torch.cosh(a) * open_  # sinh(radius) cos(angle)
        around = _angle(sinh_n * sin, self.along, 0)
        self.angle = torch.where(a > 0, around, outset)
        # At the origin itself, where no direction leads on, transport turns nothing.
        straight = outset - self.angle
        self.arrival = _angle(sinh_a * sin, sinh_a * torch.cosh(n) * open_ - ahead, straight)
        self.turn = self.angle + self.arrival - outset


class Step:
    """The triangle of the origin, ``x`` and ``exp_x(u)``.

    Args:
        a, p: Radius ``(..., 1)`` and direction ``(..., d)`` of ``x``.
        u: The step, in the carried frame at ``x``.
    """

    def __init__(self, a: Tensor, p: Tensor, u: Tensor) -> None:
        self.p = p
        rise = dot(p, u)  # towards the boundary if positive
        across = u - rise * p
        # Once more: what is left of a nearly radial step is rounding, and partly along p. Far out
        # such an `aside` would turn the radial part of a momentum into one across, 1e8 times over.
        self.across = across - dot(p, across) * p
        side, self.aside = radius_and_direction(self.across)
        self.n, cos, sin = heading(rise, side)
        self.triangle = triangle = Triangle(a, self.n, cos, sin)
        self.radius, self.angle, self.turn = triangle.radius, triangle.angle, triangle.turn

    def end(self) -> Tensor:
        """Where the step leads; has its derivatives where the step is radial, or ends at 0."""
        return (self.triangle.along * self.p + sinhc(self.n) * self.across) / sinhc(self.radius)

    def towards(self, angle: Tensor) -> Tensor:
        """Unit vector at ``angle`` from p in the plane of the step."""
        return torch.cos(angle) * self.p + torch.sin(angle) * self.aside

    def carried(self, v: Tensor) -> Tensor:
        """A tangent vector at ``x`` carried to the end of the step, from frame to frame.

        Transport turns the plane of the step by the triangle's area and leaves the rest, so nothing
        depends on how the new point is rounded.
        """
        radial, aside = dot(self.p, v), dot(self.aside, v)
        sin, versine = torch.sin(self.turn), 2 * torch.sin(self.turn / 2).square()
        return (
            v
            - (versine * radial + sin * aside) * self.p
            + (sin * radial - versine * aside) * self.aside
        )


def heading(rise: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Length, cosine and sine of a step by its parts outward and across; a null step is outward."""
    moving = rise.square() + side.square() > 0
    n = torch.where(moving, torch.hypot(torch.where(moving, rise, 1), side), 0)
    below = torch.where(moving, n, 1)
    return n, torch.where(moving, rise / below, 1), side / below


def _angle(opposite: Tensor, adjacent: Tensor, otherwise: Tensor | float) -> Tensor:
    """``atan2``, and ``otherwise`` where both are zero."""
    defined = opposite.square() + adjacent.square() > 0
    angle = torch.atan2(torch.where(defined, opposite, 0), torch.where(defined, adjacent, 1))
    return torch.where(defined, angle, otherwise)


def radius_and_direction(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(..., 1)`` and ``(..., d)``; the direction of a zero vector is zero."""
    radius = norm(x)
    return radius, x / torch.where(radius > 0, radius, 1)


def root(x: Tensor) -> Tensor:
    """Square root with derivative zero at zero, which stands for what rounding left below it."""
    return torch.where(x > 0, torch.where(x > 0, x, 1).sqrt(), 0 * x)  # NaN stays NaN


def arrow(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit direction from ``x`` to ``y`` in the frame carried from the origin; distance; S; p."""
    pairs = _Pairs(x, y)
    a, b, p = pairs.a, pairs.b, pairs.p
    length = torch.log1p(2 * (pairs.x + root(pairs.x * (1 + pairs.x))))
    sinh_dist = torch.sinh(length)
    apart = sinh_dist > 0
    below = torch.where(apart, sinh_dist, 1)
    rise = -(torch.sinh(pairs.delta) + torch.cosh(a) * torch.sinh(b) * pairs.chord / 2)
    aside = torch.sinh(b) * (dot(p, pairs.gap) * p - pairs.gap)
    ahead = torch.where(a > 0, rise * p + aside, torch.sinh(b) * pairs.q) / below
    return torch.where(apart, ahead, 0), length, sinhc(a), p


def turned(sides: _Pairs, w: Tensor) -> Tensor:
    """``w`` in the frame carried to the first point, as it arrives in that of the second.

    With radii ``a, b`` and the angle ``g`` between the directions ``p, q``, the tangent of half the
    area is ``t sin(g) / (1 - t cos(g))``, ``t = tanh(a/2) tanh(b/2)``; here times the cosines, so
    that nothing cancels. The rotation, by Cayley's formula, is smooth where the points coincide.
    """
    p, t = sides.p, torch.sinh(sides.a / 2) * torch.sinh(sides.b / 2)
    aside = dot(p, sides.gap) * p - sides.gap  # q less its part along p
    k = t * aside / (torch.cosh(sides.delta / 2) + t * sides.chord / 2)
    along, across, square = dot(p, w), dot(k, w), dot(k, k)
    moved = across * p - along * k - across * k - square * along * p
    return w + 2 * moved / (1 + square)
