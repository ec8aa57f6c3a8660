"""Hyperbolic space in geodesic normal coordinates: a point IS its tangent vector at the origin.

``u`` stands for the point at distance ``|u|`` in the direction of ``u``. The metric, pulled back by
the exponential map, leaves radial vectors as they are and stretches those across by ``S = sinh(s
r)/(s r)``, ``s = sqrt(c)``. Riemannian Adam here takes the same steps as on the ball, without the
digits that ball coordinates lose: the exponential map is hyperbolic trigonometry in polar form, and
float32 holds any radius (directions of neighbours at radius r differ by about ``exp(-r)``, which
float32 resolves to radius 16).

A tangent vector ``w`` at ``u`` is compared in the frame carried out from the origin along the
radius: ``w_hat = w_r p + S w_across``, in which lengths and angles are Euclidean ones.
"""

import torch
from torch import Tensor

from hyperlm.manifolds._functions import dot, exactly, norm, sinhc
from hyperlm.manifolds._polar_ops import _Pairs
from hyperlm.manifolds.base import Geometry, pull_in

__all__ = ["TangentBall"]


class TangentBall(Geometry):
    """Tangent vectors at the origin as points; see :class:`hyperlm.manifolds.base.Geometry`.

    ``max_radius`` defaults to ``20 / sqrt(c)`` in every dtype.
    """

    name = "TangentBall"

    def radius_limit(self, dtype: torch.dtype) -> float:
        if self.max_radius is not None:
            return self.max_radius
        return float(20.0 / float(self.c) ** 0.5)

    def to_polar(self, x: Tensor) -> Tensor:
        """The coordinates themselves, the same tensor if it is float32 or float64."""
        return x if x.dtype == torch.float64 else x.float()

    def from_polar(self, u: Tensor) -> Tensor:
        """See ``to_polar``."""
        return self.to_polar(u)

    def expmap0(self, u: Tensor) -> Tensor:
        """See ``to_polar``."""
        return self.to_polar(u)

    def logmap0(self, x: Tensor) -> Tensor:
        """See ``to_polar``."""
        return self.to_polar(x)

    @exactly
    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """Exponential map: a hyperbolic triangle with sides ``|x|``, ``|u|``; any radius."""
        s = self._scale(x)
        step = _Step(*torch.broadcast_tensors(s * x, s * u))
        return step.radius * step.towards(step.angle) / s

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The optimisers' step together with their momentum: ``(retr(x, u), v carried there)``.

        One triangle gives both. In the carried frames transport turns the plane of the step by the
        triangle's area, so nothing depends on how the new point is rounded.
        """
        return self._retr_transp(x, u, v, self.radius_limit(x.dtype))

    @exactly
    def _retr_transp(self, x: Tensor, u: Tensor, v: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        s = self._scale(x)
        step = _Step(*torch.broadcast_tensors(s * x, s * u))
        radius = torch.where(step.radius > s * limit, s * limit, step.radius)
        stretch, shrink = sinhc(step.a), 1 / sinhc(radius)
        radial, aside = dot(step.p, v), stretch * dot(step.aside, v)
        cos, sin = torch.cos(step.turn), torch.sin(step.turn)
        # v in the carried frame is stretch v + (1 - stretch) radial p; then the plane turns.
        along_p = cos * radial - sin * aside - stretch * radial
        along_e = sin * radial + (cos - 1) * aside
        cos, sin = torch.cos(step.angle), torch.sin(step.angle)
        outward = cos * (stretch * radial + along_p) + sin * (aside + along_e)
        # Parts across the new radius shrink again; the radial part stays.
        keep = (1 - shrink) * outward
        moved = (
            (shrink * stretch) * v
            + (shrink * along_p + keep * cos) * step.p
            + (shrink * along_e + keep * sin) * step.aside
        )
        return radius * step.towards(step.angle) / s, moved

    @exactly
    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector at ``x`` whose exponential is ``y``."""
        s = self._scale(x)
        x, y = torch.broadcast_tensors(s * x, s * y)
        arrow, length, stretch, p = _arrow(x, y)
        radial = dot(p, arrow) * p
        return length * (radial + (arrow - radial) / stretch) / s

    @exactly
    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport of ``v`` along the geodesic, exact.

        In the carried frames it is the rotation, in the plane of ``x`` and ``y``, by the area of
        the triangle origin-x-y: the one that takes the geodesic's direction at ``x`` to that at
        ``y``.
        """
        s = self._scale(x)
        x, y, v = torch.broadcast_tensors(s * x, s * y, v)
        leave, length, stretch, p = _arrow(x, y)
        back, _, _, q = _arrow(y, x)
        arrive = -back
        radial = dot(p, v) * p
        w = radial + stretch * (v - radial)
        both = leave + arrive
        below = 1 + dot(leave, arrive)
        turned = w - dot(both, w) / torch.where(below > 0, below, 1) * both
        turned = turned + 2 * dot(leave, w) * arrive
        w = torch.where(length > 0, turned, w)
        radial = dot(q, w) * q
        return radial + (w - radial) / sinhc(norm(y))

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """Riemannian inner product: radial parts plus ``S^2`` times the parts across."""
        result = self._inner(x, u, u if v is None else v)
        return result if keepdim else result.squeeze(-1)

    @exactly
    def _inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        a, p = _polar(self._scale(x) * x)
        pu, pv = dot(p, u), dot(p, v)
        return pu * pv + sinhc(a).square() * dot(u - pu * p, v - pv * p)

    @exactly
    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Radial part unchanged, the part across divided by ``S^2``."""
        a, p = _polar(self._scale(x) * x)
        radial = dot(p, u) * p
        return radial + (u - radial) / sinhc(a).square()

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Every vector is tangent."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def _pull(self, x: Tensor, limit: float) -> Tensor:
        return pull_in(x, limit)

    def _off(self, x: Tensor, atol: float, rtol: float) -> Tensor:
        return (norm(x) > self.radius_limit(x.dtype) * (1 + rtol) + atol).squeeze(-1)


class _Step:
    """The triangle of the origin, ``x`` and ``exp_x(u)``; arguments are wide and scaled by s."""

    def __init__(self, x: Tensor, u: Tensor) -> None:
        self.a, self.p = a, p = _polar(x)
        rise = dot(p, u)  # towards the boundary if positive
        across = u - rise * p
        length, self.aside = _polar(across)
        side = sinhc(a) * length
        moving = rise.square() + side.square() > 0
        n = torch.where(moving, torch.hypot(torch.where(moving, rise, 1), side), 0)
        cos = torch.where(moving, rise / torch.where(moving, n, 1), 1)
        sin = side / torch.where(moving, n, 1)
        # 1 + cos without cancellation where the step heads for the origin.
        open_ = torch.where(cos < 0, sin.square() / (1 - cos.clamp_max(0)), 1 + cos)
        sinh_a, sinh_n = torch.sinh(a), torch.sinh(n)
        square = torch.sinh((a - n) / 2).square() + sinh_a * sinh_n * open_ / 2
        self.radius = torch.log1p(2 * (square + _root(square * (1 + square))))
        ahead = torch.sinh(a - n)
        # Angles at the origin and at the new point, each opposite a known side.
        self.angle = _angle(sinh_n * sin, ahead + sinh_n * torch.cosh(a) * open_)
        arrival = _angle(sinh_a * sin, sinh_a * torch.cosh(n) * open_ - ahead)
        self.turn = self.angle + arrival - _angle(sin, cos)

    def towards(self, angle: Tensor) -> Tensor:
        """Unit vector at ``angle`` from p in the plane of the step."""
        return torch.cos(angle) * self.p + torch.sin(angle) * self.aside


def _angle(opposite: Tensor, adjacent: Tensor) -> Tensor:
    """``atan2``, zero with zero gradient where both are zero."""
    defined = opposite.square() + adjacent.square() > 0
    return torch.atan2(torch.where(defined, opposite, 0), torch.where(defined, adjacent, 1))


def _polar(x: Tensor) -> tuple[Tensor, Tensor]:
    radius = norm(x)
    return radius, x / torch.where(radius > 0, radius, 1)


def _root(x: Tensor) -> Tensor:
    """Square root with derivative zero at zero."""
    return torch.where(x > 0, torch.where(x > 0, x, 1).sqrt(), 0)


def _arrow(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit direction from ``x`` to ``y`` in the frame carried from the origin; distance; S; p."""
    pairs = _Pairs(x, y)
    a, b, p = pairs.a, pairs.b, pairs.p
    length = torch.log1p(2 * (pairs.x + _root(pairs.x * (1 + pairs.x))))
    sinh_dist = torch.sinh(length)
    apart = sinh_dist > 0
    below = torch.where(apart, sinh_dist, 1)
    rise = -(torch.sinh(pairs.delta) + torch.cosh(a) * torch.sinh(b) * pairs.chord / 2)
    aside = torch.sinh(b) * (dot(p, pairs.gap) * p - pairs.gap)
    arrow = torch.where(a > 0, rise * p + aside, torch.sinh(b) * pairs.q) / below
    return torch.where(apart, arrow, 0), length, sinhc(a), p
