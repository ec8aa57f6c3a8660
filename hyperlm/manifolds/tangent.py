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

from hyperlm.manifolds._functions import arsinhc, dot, exactly, norm, sinhc
from hyperlm.manifolds._triangle import Step, Triangle, arrow, heading, radius_and_direction, root
from hyperlm.manifolds.base import Geometry, pull_in
from hyperlm.manifolds.euclidean import Euclidean

__all__ = ["TangentBall", "curved"]


def curved(c: float) -> Geometry:
    """The space of curvature ``-c`` whose points are tangent vectors at the origin; 0 is flat."""
    return TangentBall(c) if c else Euclidean()


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
        """Exponential map: a hyperbolic triangle with sides ``|x|``, ``|u|``; any radius.

        Far out, rounding the direction of ``u`` moves the end far: at radius r by about ``eps
        exp(r)`` of its dtype. ``geodesic`` rounds nothing between.
        """
        s = self._scale(x)
        x, u = torch.broadcast_tensors(s * x, s * u)
        a, p = radius_and_direction(x)
        w = self._to_frame(a, p, u)
        # Sides of a triangle have no derivative where one is null. The point in space, sinh of its
        # radius times its direction, has; it loses digits where both are long and one undoes the
        # other.
        short = torch.minimum(a, norm(w)) < 1
        space = _in_space(*(torch.where(short, part, 0) for part in (x, w)))
        return torch.where(short, arsinhc(norm(space)) * space, Step(a, p, w).end()) / s

    def glide(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Geometry.glide`; two combinations of ``x`` and ``v``."""
        return self._glide(x, v, t, self.radius_limit(x.dtype))

    @exactly
    def _glide(self, x: Tensor, v: Tensor, t: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        s = self._scale(x)
        radius = norm(x)
        a, per_radius = s * radius, _per(radius)
        rise = dot(x, v) * per_radius
        across = v - rise * per_radius * x
        # What rounding left of it along the radius, as in Step.
        slip = dot(x, across) * per_radius
        side = root(dot(across, across) - slip.square())
        per_side = 1 / torch.where(side > 0, side, 1)
        back = torch.where(t < 0, -1.0, 1.0).to(x.dtype)
        speed, cos, sin = heading(back * rise, sinhc(a) * side)
        way = (s * t.abs() * speed).clamp_max(s * self._longest(limit))
        plane = Triangle(a, way, cos, sin)
        b = plane.radius.clamp_max(s * limit)
        # Along the direction of x, and along that of `across` (against it, back in time).
        cos, sin = torch.cos(plane.angle), torch.sin(plane.angle)
        outward = back * speed * torch.cos(plane.arrival)
        around = back * speed * torch.sin(plane.arrival) / sinhc(b)

        def combined(along: Tensor, aside: Tensor) -> Tensor:
            aside = back * aside * per_side
            return (along - aside * slip) * per_radius * x + aside * across

        return (
            combined(b * cos / s, b * sin / s),
            combined(outward * cos - around * sin, outward * sin + around * cos),
        )

    def _to_frame(self, a: Tensor, p: Tensor, w: Tensor) -> Tensor:
        radial = dot(p, w) * p
        return radial + sinhc(a) * (w - radial)

    def _from_frame(self, b: Tensor, q: Tensor, w: Tensor) -> Tensor:
        radial = dot(q, w) * q
        return radial + (w - radial) / sinhc(b)

    @exactly
    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector at ``x`` whose exponential is ``y``."""
        s = self._scale(x)
        x, y = torch.broadcast_tensors(s * x, s * y)
        ahead, length, stretch, p = arrow(x, y)
        radial = dot(p, ahead) * p
        return length * (radial + (ahead - radial) / stretch) / s

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """Riemannian inner product: radial parts plus ``S^2`` times the parts across."""
        result = self._inner(x, u, v)
        return result if keepdim else result.squeeze(-1)

    @exactly
    def _inner(self, x: Tensor, u: Tensor, v: Tensor | None) -> Tensor:
        a, p = radius_and_direction(self._scale(x) * x)
        pu = dot(p, u)
        across = u - pu * p
        if v is None:
            return pu.square() + sinhc(a).square() * dot(across, across)
        pv = dot(p, v)
        return pu * pv + sinhc(a).square() * dot(across, v - pv * p)

    @exactly
    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Radial part unchanged, the part across divided by ``S^2``."""
        radius = norm(x)
        shrink, per_radius = 1 / sinhc(self._scale(x) * radius).square(), _per(radius)
        return shrink * u + (1 - shrink) * (dot(x, u) * per_radius) * per_radius * x

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Every vector is tangent."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def _pull(self, x: Tensor, limit: float) -> Tensor:
        return pull_in(x, limit)

    def _off(self, x: Tensor, atol: float, rtol: float) -> Tensor:
        return (norm(x) > self.radius_limit(x.dtype) * (1 + rtol) + atol).squeeze(-1)


def _in_space(x: Tensor, w: Tensor) -> Tensor:
    """Coordinates in space, on the hyperboloid, of the end of a step ``w`` in the carried frame."""
    a, n = norm(x), norm(w)
    along = torch.cosh(n) * sinhc(a) + sinhc(n) * sinhc(a / 2).square() / 2 * dot(x, w)
    return along * x + sinhc(n) * w


def _per(radius: Tensor) -> Tensor:
    """One over a radius; one for radii whose squares vanish, which are as good as the origin."""
    return 1 / torch.where(radius > torch.finfo(radius.dtype).tiny ** 0.5, radius, 1)
