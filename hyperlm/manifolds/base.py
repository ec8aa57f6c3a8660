"""The contract all geometries keep: geoopt's spelling, one curvature convention, polar distances.

A point enters and leaves in the coordinates of its geometry, last dimension first to count.
``to_polar`` and ``from_polar`` translate to tangent vectors at the origin in Riemannian length, and
distances are taken there (:mod:`hyperlm.manifolds.polar`). Sectional curvature is ``-c``.

geoopt's ``ManifoldParameter`` and optimisers accept these classes: they derive from its abstract
``Manifold`` and share no formula with it.
"""

import math
import warnings
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import polar
from hyperlm.manifolds._functions import exactly, norm, wide_dtype
from hyperlm.manifolds._polar_ops import _Pairs
from hyperlm.manifolds._triangle import Step, radius_and_direction, root, turned
from hyperlm.manifolds.mean import polar_mean
from hyperlm.manifolds.sampling import volume_radii

with warnings.catch_warnings():
    # geoopt decorates about 70 functions with torch.jit.script, which torch deprecates at import.
    # None of them is used here; without this filter every user would read 70 lines of warnings.
    warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit.*", category=FutureWarning)
    from geoopt import ManifoldParameter
    from geoopt.manifolds.base import Manifold
    from geoopt.optim import RiemannianAdam

# Everybody else takes geoopt's names from here, behind the filter.
__all__ = ["Geometry", "Manifold", "ManifoldParameter", "RiemannianAdam", "pull_in"]


class Geometry(Manifold):
    """A space of constant curvature ``-c`` in some coordinates.

    Args:
        c: Positive; curvature is ``-c``. A float, or a zero-dimensional tensor that belongs to
            somebody else (a head that learns it). It is a plain attribute, deliberately neither
            parameter nor buffer: one geometry may serve several heads, and a registered tensor
            would be saved once per head and wrapped by FSDP and peft.
        max_radius: ``projx`` pulls points in to this distance from the origin, a Riemannian length.
            None takes the largest radius that the coordinates hold well, by dtype.
    """

    ndim = 1
    reversible = False

    def __init__(self, c: float | Tensor = 1.0, *, max_radius: float | None = None) -> None:
        super().__init__()
        if max_radius is not None and not max_radius > 0:
            raise OptionError(f"max_radius = {max_radius} must be positive, or None.")
        self.max_radius = max_radius
        self.c = c

    @property
    def c(self) -> Any:
        """Positive; curvature is ``-c``."""
        return self.__dict__["_c"]

    @c.setter
    def c(self, value: float | Tensor) -> None:
        if not isinstance(value, Tensor) and not 0 < value < math.inf:
            raise OptionError(f"{self.name}: c = {value} must be positive; the curvature is -c.")
        # Past nn.Module.__setattr__, which would register a Parameter.
        self.__dict__["_c"] = value

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "c":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _scale(self, x: Tensor) -> Any:
        """``sqrt(c)``, a float or a tensor beside ``x``."""
        c = self.c
        return c.to(device=x.device, dtype=x.dtype).sqrt() if isinstance(c, Tensor) else c**0.5

    def radius_limit(self, dtype: torch.dtype) -> float:
        """Where ``projx`` stops points of this dtype: a Riemannian length (inf for none)."""
        if self.max_radius is not None:
            return self.max_radius
        # Rounding a coordinate moves a point by about eps * exp(radius): at three quarters of
        # log(1/eps) that is eps**(1/4), 0.02 in float32. Radius 12.0 in float32, 27 in float64.
        full = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
        c = float(self.c.detach()) if isinstance(self.c, Tensor) else self.c
        return -0.75 * math.log(torch.finfo(full).eps) / c**0.5

    # --- points and their polar form

    @abstractmethod
    def to_polar(self, x: Tensor) -> Tensor:
        """Points to tangent vectors at the origin in Riemannian length, ``(..., d)``."""

    @abstractmethod
    def from_polar(self, u: Tensor) -> Tensor:
        """Tangent vectors at the origin in Riemannian length, ``(..., d)``, to points."""

    @abstractmethod
    def expmap0(self, u: Tensor) -> Tensor:
        """Exponential map at the origin, for ``u`` in the coordinates of the geometry."""

    @abstractmethod
    def logmap0(self, x: Tensor) -> Tensor:
        """Inverse of ``expmap0``."""

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Geodesic distance of corresponding points, ``(..., d), (..., d) -> (...)``."""
        result = polar.dist(self.to_polar(x), self.to_polar(y), self.c)
        return result.unsqueeze(-1) if keepdim else result

    def pairwise_dist(self, x: Tensor, y: Tensor) -> Tensor:
        """Geodesic distance of every ``x`` to every ``y``, ``(N, d), (M, d) -> (N, M)``."""
        return polar.pairwise_dist(self.to_polar(x), self.to_polar(y), self.c)

    def dist0(self, x: Tensor, *, keepdim: bool = False) -> Tensor:
        """Geodesic distance to the origin, ``(..., d) -> (...)``."""
        result = polar.dist0(self.to_polar(x))
        return result.unsqueeze(-1) if keepdim else result

    def norm(self, x: Tensor, u: Tensor, *, keepdim: bool = False) -> Tensor:
        """Riemannian length of the tangent vector ``u`` at ``x``."""
        return root(self.inner(x, u, keepdim=keepdim))

    # --- moving

    @abstractmethod
    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """Tangent vector at ``x`` whose exponential is ``y``."""

    @exactly
    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport of ``v`` from ``x`` to ``y`` along the geodesic.

        In the carried frames it is the rotation, in the plane of ``x`` and ``y``, by the area of
        the triangle origin-x-y. Exact at any radius.
        """
        s = self._scale(x)
        x, y, v = torch.broadcast_tensors(x, y, v)
        sides = _Pairs(s * self.to_polar(x), s * self.to_polar(y))
        w = self._to_frame(sides.a, sides.p, v)
        return self._from_frame(sides.b, sides.q, turned(sides, w))

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """The optimisers' step: the exponential map, then ``projx``; of any length."""
        return self._retr(x, u, self.radius_limit(x.dtype))

    @exactly
    def _retr(self, x: Tensor, u: Tensor, limit: float) -> Tensor:
        length = self.norm(x, u, keepdim=True)
        longest = self._longest(limit)
        far = length > longest
        step = torch.where(far, u * (longest / torch.where(far, length, 1)), u)
        return self._pull(self.expmap(x, step), limit)

    def _longest(self, limit: float) -> Any:
        """A step this long ends beyond ``limit`` in the direction of any longer one.

        Up to the last bits; and ``sinh`` of it, times that of a radius, does not overflow.
        """
        s = self._scale(torch.empty((), dtype=torch.float64, device="cpu"))
        s = float(s.detach()) if isinstance(s, Tensor) else s
        return min(2 * limit + 40 / s, 300 / s)

    def retr_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The optimisers' step together with their momentum: ``(retr(x, u), v carried there)``.

        One triangle gives both, in polar form and in float64 until the end. Far out the models' own
        formulas subtract numbers of size ``exp(2 radius)``; and rounding the new point first would
        move it sideways by more than the step, and turn the momentum as if it had travelled there.
        """
        return self._retr_transp(x, u, v, self.radius_limit(x.dtype))

    def glide(self, x: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Follow the geodesic that leaves ``x`` with velocity ``v`` for a time ``t``.

        ``retr_transp(x, t v, v)``: the step of an optimiser whose momentum is carried along itself,
        which can be had for less, since all of it lies in one plane.

        Args:
            x: Points, ``(..., d)``.
            v: Tangent vectors there, ``(..., d)``.
            t: Times, ``(..., 1)``, of either sign.
        Returns:
            Points, stopped at ``radius_limit``, and velocities there.
        """
        return self.retr_transp(x, t * v, v)

    @exactly
    def _retr_transp(self, x: Tensor, u: Tensor, v: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        s = self._scale(x)
        a, p = radius_and_direction(s * self.to_polar(x))
        w = s * self._to_frame(a, p, u)
        w = pull_in(w, s * self._longest(limit)) if limit < math.inf else w
        step = Step(a, p, w)
        b = step.radius.clamp_max(s * limit)
        q = step.towards(step.angle)
        moved = step.carried(self._to_frame(a, p, v))
        return self.from_polar(b * q / s), self._from_frame(b, q, moved)

    @abstractmethod
    def _to_frame(self, a: Tensor, p: Tensor, w: Tensor) -> Tensor:
        """A tangent vector at scaled radius ``a`` and direction ``p``, in the carried frame.

        That is the orthonormal frame of :mod:`hyperlm.manifolds._triangle`, ``(..., d)``.
        """

    @abstractmethod
    def _from_frame(self, b: Tensor, q: Tensor, w: Tensor) -> Tensor:
        """Inverse of ``_to_frame``: back to the coordinates of the geometry."""

    def expmap_transp(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """``(expmap(x, u), v carried there)``; at ``u = 0`` without the derivatives of a point."""
        return self._retr_transp(x, u, v, math.inf)

    def transp_follow_retr(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """``v`` carried along the step ``retr(x, u)``."""
        return self.retr_transp(x, u, v)[1]

    def transp_follow_expmap(self, x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """``v`` carried along the step ``expmap(x, u)``."""
        return self.expmap_transp(x, u, v)[1]

    def projx(self, x: Tensor) -> Tensor:
        """Pull points in to ``radius_limit``; see there. Points inside stay where they are."""
        return self._pull(x, self.radius_limit(x.dtype))

    @abstractmethod
    def _pull(self, x: Tensor, limit: float) -> Tensor:
        """Pull points in to the Riemannian distance ``limit`` from the origin."""

    def geodesic(self, t: float | Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Point at the fraction ``t`` of the way from ``x`` (0) to ``y`` (1).

        ``t`` is a number, or a tensor that broadcasts against ``(..., d)``: ``(n, 1)`` for one
        fraction per pair. More exact than ``expmap`` of a ``logmap`` that was rounded between.
        """
        if isinstance(t, Tensor):
            t = t.to(x.device, torch.promote_types(x.dtype, torch.float32))
        return self._geodesic(x, y, t)

    @exactly
    def _geodesic(self, x: Tensor, y: Tensor, t: float | Tensor) -> Tensor:
        return self.expmap(x, t * self.logmap(x, y))

    def frechet_mean(
        self,
        x: Tensor,
        weights: Tensor | None = None,
        *,
        steps: int = 200,
        tol: float | None = None,
    ) -> Tensor:
        """Point of least weighted squared distance to ``x``, ``(..., n, d) -> (..., d)``.

        Gradients reach ``x``, ``weights`` and ``c``: exact first derivatives, at the cost of one
        step (:mod:`hyperlm.manifolds.mean`).

        Args:
            x: Points, ``(..., n, d)``.
            weights: Non-negative, ``(..., n)``; equal weights if None.
            steps: At most this many.
            tol: Stop when no mean moves further than this, in lengths times ``sqrt(c)``; None means
                10 eps of float64.
        Raises:
            OptionError: A negative weight, or weights that sum to zero.
        """
        share = self._shares(x, weights)
        u = self.to_polar(x.to(wide_dtype(x)))
        s = self._scale(u)
        tol = 10 * torch.finfo(u.dtype).eps if tol is None else tol
        mean = self.from_polar(polar_mean(s * u, share, steps=steps, tol=tol) / s)
        return mean.to(x.dtype if x.dtype == torch.float64 else torch.float32)

    def _shares(self, x: Tensor, weights: Tensor | None) -> Tensor:
        """Weights of points ``(..., n, d)`` that sum to 1, ``(..., n)``, in the wide dtype."""
        wide = wide_dtype(x)
        if weights is None:
            return torch.full_like(x[..., 0], 1 / max(1, x.shape[-2]), dtype=wide)
        total = weights.to(wide).sum(-1, keepdim=True)
        if bool((weights < 0).any()) or bool((total == 0).any()):
            raise OptionError(
                "weights of a Frechet mean must not be negative, nor all of them zero: leave sets "
                "without weight out."
            )
        return weights.to(wide) / total

    # --- making and checking points

    def random(
        self,
        *size: int,
        std: float = 1.0,
        radius: float | Tensor | None = None,
        within: float | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Random points, directions uniform; ``size`` ends with the dimension d of the space.

        Args:
            size: ``(..., d)``.
            std: Standard deviation of each polar coordinate (a normal law at the origin, wrapped).
            radius: Instead of the normal law: the radii themselves, a number or ``size[:-1]``.
            within: Instead: uniform by volume among all points within this Riemannian distance of
                the origin. Nearly all of them lie close to the rim.
        Raises:
            OptionError: Both ``radius`` and ``within``, or ``within`` not positive.
        """
        if within is not None:
            if radius is not None or not 0 < within < math.inf:
                raise OptionError(
                    f"random(within={within}, radius={radius}): give one of them, and a finite "
                    "positive distance as within."
                )
            c = float(self.c.detach()) if isinstance(self.c, Tensor) else self.c
            count = math.prod(size[:-1])
            radius = volume_radii(count, size[-1], within, c, generator).reshape(size[:-1])
        u = torch.randn(*size, dtype=dtype, device=device, generator=generator)
        if radius is None:
            return self.from_polar(u * std)
        radius = torch.as_tensor(radius, dtype=u.dtype, device=u.device)
        return self.from_polar(u / norm(u) * (radius.unsqueeze(-1) if radius.dim() else radius))

    def origin(
        self,
        *size: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        seed: int | None = 42,
    ) -> Tensor:
        """The origin, repeated; ``size`` ends with the dimension d of the space."""
        return self.from_polar(torch.zeros(*size, dtype=dtype, device=device))

    def check_points(self, x: Tensor, name: str = "points") -> None:
        """Raise ``OffManifoldError`` naming the rows of ``x`` that are not points of this space."""
        polar.check_finite(x, name)
        ok, reason = self._check_point_on_manifold(x)
        if not ok:
            raise OffManifoldError(f"{name}: {reason}")

    def _check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        bad = self._off(x, atol, rtol) | (~torch.isfinite(x)).any(-1)
        if not bool(bad.any()):
            return True, None
        rows = bad.reshape(-1).nonzero().flatten().tolist()
        shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
        c = float(self.c)
        return False, (
            f"{self.name}(c={c:g}): {len(rows)} of {bad.numel()} points lie outside the space "
            f"(rows {shown}). Apply projx(), or lower the learning rate."
        )

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        return True, None  # every vector of the ambient space, where the coordinates are a chart

    @abstractmethod
    def _off(self, x: Tensor, atol: float, rtol: float) -> Tensor:
        """Which points are outside the space, ``(..., d) -> (...)`` bool."""

    def extra_repr(self) -> str:
        return f"c={float(self.c):g}"


def pull_in(x: Tensor, limit: Any) -> Tensor:
    """Shorten vectors longer than ``limit``; rows inside stay bit for bit the same."""
    length = norm(x)
    outside = length > limit
    return torch.where(outside, x * (limit / torch.where(outside, length, 1)), x)
