"""The hyperboloid of curvature ``-c``: ``-t^2 + |z|^2 = -1/c``, ``t > 0``; time comes first.

Points ``x = (t, z)`` and tangent vectors have ``d + 1`` coordinates; ``to_polar`` and
``from_polar`` translate to and from ``d``. ``z`` alone determines a point, and every formula here
is written in ``z`` where the textbook form would subtract numbers of size ``exp(2 radius)``.
geoopt's ``Lorentz(k)`` is this space with ``k = 1/c``.
"""

import math

import torch
from torch import Tensor

from hyperlm.manifolds._functions import arsinhc, dot, exactly, norm, sinhc
from hyperlm.manifolds.base import Geometry, pull_in

__all__ = ["Lorentz"]


class Lorentz(Geometry):
    """The hyperboloid; see :class:`hyperlm.manifolds.base.Geometry` for the arguments.

    ``inner`` and ``norm`` read the spatial part of tangent vectors only: their time coordinate is
    determined by tangency, and using it would cancel.
    """

    name = "Lorentz"

    @exactly
    def to_polar(self, x: Tensor) -> Tensor:
        """``(..., d + 1) -> (..., d)``; in float32 exact to rounding up to ``80/sqrt(c)``."""
        z = x[..., 1:]
        return arsinhc(self._scale(x) * norm(z)) * z

    @exactly
    def from_polar(self, u: Tensor) -> Tensor:
        """``(..., d) -> (..., d + 1)``; inverse of ``to_polar``."""
        s = self._scale(u)
        return _lift(sinhc(s * norm(u)) * u, s)

    def expmap0(self, u: Tensor) -> Tensor:
        """Exponential map at the origin of ``u = (0, w)``, ``(..., d + 1)``."""
        return self.from_polar(u[..., 1:])

    def logmap0(self, x: Tensor) -> Tensor:
        """Inverse of ``expmap0``; the time coordinate of the result is zero."""
        return torch.nn.functional.pad(self.to_polar(x), (1, 0))

    @exactly
    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """Exponential map: follow the geodesic that leaves ``x`` with velocity ``u``."""
        s = self._scale(x)
        z, w = x[..., 1:], u[..., 1:]
        # |u| = 0 has no gradient through the root: shift the argument, not the value.
        square = _inner(z, w, w, s)
        moving = square > 0
        length = s * torch.where(moving, torch.where(moving, square, 1).sqrt(), 0)
        return _lift(torch.cosh(length) * z + sinhc(length) * w, s)

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector at ``x`` whose exponential is ``y``."""
        return self._logmap(x, y, self.dist(x, y, keepdim=True))

    @exactly
    def _logmap(self, x: Tensor, y: Tensor, dist: Tensor) -> Tensor:
        s = self._scale(x)
        z, w = x[..., 1:], y[..., 1:]
        length = s * dist
        # y - cosh(length) x without the cancellation of nearby points.
        arrow = (w - z) - 2 * torch.sinh(length / 2).square() * z
        return _tangent(z, arrow / sinhc(length), s)

    def _to_frame(self, a: Tensor, p: Tensor, w: Tensor) -> Tensor:
        w = w[..., 1:]
        rise = dot(p, w)
        return (w - rise * p) + rise / torch.cosh(a) * p

    def _from_frame(self, b: Tensor, q: Tensor, w: Tensor) -> Tensor:
        rise = dot(q, w)
        return torch.cat([torch.sinh(b) * rise, (w - rise * q) + torch.cosh(b) * rise * q], -1)

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """Riemannian inner product of tangent vectors at ``x``, ``(...)``."""
        result = self._inner(x, u, u if v is None else v)
        return result if keepdim else result.squeeze(-1)

    @exactly
    def _inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return _inner(x[..., 1:], u[..., 1:], v[..., 1:], self._scale(x))

    @exactly
    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Euclidean gradient to Riemannian gradient.

        In the chart ``z`` the gradient is ``g = u_z + u_t z/t`` and the inverse metric
        ``I + c z z^T``.
        """
        s = self._scale(x)
        z = x[..., 1:]
        g = u[..., 1:] + u[..., :1] * z / _time(z, s)
        return _tangent(z, g + s * s * z * dot(z, g), s)

    @exactly
    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Orthogonal projection (Minkowski) of an ambient vector to the tangent space at ``x``."""
        s = self._scale(x)
        x = _lift(x[..., 1:], s)
        return _tangent(x[..., 1:], (u + s * s * _minkowski(x, u) * x)[..., 1:], s)

    @exactly
    def _pull(self, x: Tensor, limit: float) -> Tensor:
        # Also recomputes the time coordinate.
        s = float(self.c) ** 0.5
        return _lift(pull_in(x[..., 1:], math.sinh(min(s * limit, 700)) / s), s)

    def _off(self, x: Tensor, atol: float, rtol: float) -> Tensor:
        time = _time(x[..., 1:].double(), float(self.c) ** 0.5)
        return ((x[..., :1] - time).abs() > atol + rtol * time).squeeze(-1)

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        product = _minkowski(x.double(), u.double())
        allowed = atol + rtol * (x[..., :1] * u[..., :1]).abs()
        ok = bool((product.abs() <= allowed).all())
        return ok, None if ok else "<x, u> is not zero: apply proju()"


def _time(z: Tensor, s: float | Tensor) -> Tensor:
    at_origin = torch.ones_like(z[..., :1]) / s
    if torch.onnx.is_in_onnx_export():  # which has no hypot; this one overflows far out
        return torch.sqrt(dot(z, z) + at_origin * at_origin)
    return torch.hypot(norm(z), at_origin)


def _lift(z: Tensor, s: float | Tensor) -> Tensor:
    return torch.cat([_time(z, s), z], -1)


def _tangent(z: Tensor, w: Tensor, s: float | Tensor) -> Tensor:
    """The tangent vector at ``(t, z)`` with spatial part ``w``."""
    return torch.cat([dot(z, w) / _time(z, s), w], -1)


def _minkowski(x: Tensor, y: Tensor) -> Tensor:
    return dot(x[..., 1:], y[..., 1:]) - x[..., :1] * y[..., :1]


def _inner(z: Tensor, u: Tensor, v: Tensor, s: float | Tensor) -> Tensor:
    """``u.v - (z.u)(z.v)/t^2``: across the radius as in Euclidean space, along it by 1/(c t^2)."""
    length = norm(z)
    p = z / torch.where(length > 0, length, 1)
    pu, pv = dot(p, u), dot(p, v)
    return dot(u - pu * p, v - pv * p) + pu * pv * torch.where(
        length > 0, (s * _time(z, s)) ** -2, 0
    )
