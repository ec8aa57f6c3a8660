"""The Poincare ball of curvature ``-c``: points with ``sqrt(c) |x| < 1``.

Sources: Ungar 2008 for the gyrovector formulas, Ganea et al. 2018 for ``c``; signs and argument
order as in geoopt. Rounding coordinates costs about ``eps exp(radius) / 4`` of length: float32
returns ``logmap0(expmap0(u))`` to a relative 1e-5 up to Riemannian radius 8, float64 up to 28
(times ``1/sqrt(c)``). Where larger radii matter, keep tangent vectors
(:mod:`hyperlm.manifolds.tangent`).
"""

import math

import torch
from torch import Tensor

from hyperlm.manifolds._functions import arsinhc, artanhc, dot, exactly, norm, tanhc, wide_dtype
from hyperlm.manifolds.base import Geometry, pull_in

__all__ = ["PoincareBall"]


class PoincareBall(Geometry):
    """The Poincare ball; see :class:`hyperlm.manifolds.base.Geometry` for the arguments.

    The metric at the origin is four times the Euclidean one: ``expmap0(u)`` of a vector with
    Euclidean length 1 lies at distance 2. ``from_polar`` takes Riemannian lengths.
    """

    name = "PoincareBall"

    def lambda_x(self, x: Tensor, *, keepdim: bool = False) -> Tensor:
        """Conformal factor ``2 / (1 - c|x|^2)``, ``(..., d) -> (...)``."""
        result = self._lambda(x)
        return result if keepdim else result.squeeze(-1)

    @exactly
    def _lambda(self, x: Tensor) -> Tensor:
        return 2 / _gap(self._scale(x) * x)

    @exactly
    def mobius_add(self, x: Tensor, y: Tensor) -> Tensor:
        """Moebius sum: the translation that takes the origin to ``x``, applied to ``y``."""
        s = self._scale(x)
        return _add(s * x, s * y, _gap(s * y)) / s

    def radius_limit(self, dtype: torch.dtype) -> float:
        c = float(self.c.detach()) if isinstance(self.c, Tensor) else self.c
        return min(super().radius_limit(dtype), _held(dtype) / c**0.5)

    def expmap0(self, u: Tensor) -> Tensor:
        """Exponential map at the origin: ``tanh(s|u|) u / (s|u|)``, ``s = sqrt(c)``.

        Where that would round to the boundary, at radius 15 in float32, the point is just inside.
        """
        x: Tensor = self._expmap0(u)
        s = self._scale(x)
        s = s.detach() if isinstance(s, Tensor) else s
        return pull_in(x, math.tanh(_held(x.dtype) / 2) / s)

    @exactly
    def _expmap0(self, u: Tensor) -> Tensor:
        return tanhc(self._scale(u) * norm(u)) * u

    @exactly
    def logmap0(self, x: Tensor) -> Tensor:
        """Inverse of ``expmap0``; points on or beyond the boundary count as just inside it."""
        return artanhc(_inside(self._scale(x) * norm(x))) * x

    def to_polar(self, x: Tensor) -> Tensor:
        """Tangent vectors at the origin in Riemannian length, ``2 logmap0(x)``."""
        return 2 * self.logmap0(x)

    def from_polar(self, u: Tensor) -> Tensor:
        """Points at distance ``|u|`` from the origin; inverse of ``to_polar``."""
        return self.expmap0(u.float() / 2 if u.dtype != torch.float64 else u / 2)

    @exactly
    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """Exponential map: follow the geodesic that leaves ``x`` with velocity ``u``."""
        s = self._scale(x)
        half = s * u / _gap(s * x)  # half of lambda u: its length is half the distance covered
        length = norm(half)
        gap = torch.cosh(length.clamp_max(300)).square().reciprocal()
        return _add(s * x, tanhc(length) * half, gap) / s

    @exactly
    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector at ``x`` whose exponential is ``y``."""
        s = self._scale(x)
        x, y = s * x, s * y
        apart, gap, both = y - x, _gap(x), _gap(x) * _gap(y)
        square = dot(apart, apart)
        # sinh of half the distance, where 1 - |(-x) + y|^2 is both / (square + both).
        ratio = arsinhc(norm(apart) / both.sqrt()) / ((square + both) * both).sqrt()
        return gap * ratio * (gap * apart - square * x) / s

    def _to_frame(self, a: Tensor, p: Tensor, w: Tensor) -> Tensor:
        return 2 * torch.cosh(a / 2).square() * w  # lambda w: the ball is conformal

    def _from_frame(self, b: Tensor, q: Tensor, w: Tensor) -> Tensor:
        return w / (2 * torch.cosh(b / 2).square())

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """Riemannian inner product of tangent vectors at ``x``, ``(...)``."""
        result = self._inner(x, u, u if v is None else v)
        return result if keepdim else result.squeeze(-1)

    @exactly
    def _inner(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return dot(u, v) * (2 / _gap(self._scale(x) * x)).square()

    @exactly
    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Euclidean gradient to Riemannian gradient: divided by ``lambda_x^2``."""
        return u * (_gap(self._scale(x) * x) / 2).square()

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Every vector is tangent."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def _pull(self, x: Tensor, limit: float) -> Tensor:
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()  # in half precision the limit itself rounds to the boundary
        # A learned c leaves no gradient here: the limit is a guard, not a parameter.
        s = float(self.c) ** 0.5
        return pull_in(x, math.tanh(s * limit / 2) / s)

    def _off(self, x: Tensor, atol: float, rtol: float) -> Tensor:
        return (float(self.c) ** 0.5 * norm(x.to(wide_dtype(x))) >= 1).squeeze(-1)


def _held(dtype: torch.dtype) -> float:
    """Radius, times ``sqrt(c)``, up to which coordinates do not round to the boundary."""
    full = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    return -math.log(2 * torch.finfo(full).eps)


def _gap(x: Tensor) -> Tensor:
    """``1 - |x|^2`` in the unit ball, kept positive: ``(..., d) -> (..., 1)``."""
    length = norm(x)
    return ((1 - length) * (1 + length)).clamp_min(torch.finfo(x.dtype).eps)


def _inside(length: Tensor) -> Tensor:
    """Lengths just inside the unit ball, where ``artanh`` and its derivative are finite."""
    return length.clamp_max(1 - torch.finfo(length.dtype).eps)


def _add(x: Tensor, y: Tensor, gap_y: Tensor) -> Tensor:
    """Moebius sum in the unit ball, by what does not cancel where ``x + y`` is small.

    Args:
        gap_y: ``1 - |y|^2``, which whoever made ``y`` may know better than its coordinates do.
    """
    both, gap = x + y, _gap(x)
    square = dot(both, both)
    below = (square + gap * gap_y).clamp_min(torch.finfo(x.dtype).tiny)
    return (gap * both + square * x) / below
