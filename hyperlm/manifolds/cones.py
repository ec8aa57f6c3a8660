"""Entailment cones: each point's cone opens away from the origin and holds its descendants.

In: apexes (parents) and children, as ball coordinates or, with the prefix ``polar_``, as tangent
vectors at the origin in Riemannian length. Out: angles in radians, energies, a loss. Curvature is
``-c``. Source: Ganea et al. 2018, rescaled from c = 1; the polar form comes from the hyperbolic
triangle origin-apex-child and holds at any radius. Both forms share one implementation; ball
coordinates are translated first.

The parent is always the FIRST argument: ``cone_energy(parent, child)`` is zero where the child lies
inside the parent's cone.
"""

import math
from typing import Any

import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds._functions import dot, exactly, norm, sinhc
from hyperlm.manifolds._polar_ops import _Pairs
from hyperlm.manifolds.poincare import PoincareBall

__all__ = [
    "cone_energy",
    "cone_margin_loss",
    "cone_min_radius",
    "exterior_angle",
    "half_aperture",
    "polar_cone_energy",
    "polar_exterior_angle",
    "polar_half_aperture",
]

# asin has an infinite slope at 1: apexes nearer the origin than `cone_min_radius` saturate just
# below a right angle (by 4.5e-4), where the slope is 2e3 and then zero.
_WIDEST = 1 - 1e-7
# Of cosh(distance) - 1, halved: points nearer than 2e-12 (times 1/sqrt(c)) count as one.
_APART = 1e-24


def cone_min_radius(c: float = 1.0, cone_constant: float = 0.1) -> float:
    """Riemannian distance from the origin below which the half-aperture saturates.

    ``asinh(2K)/sqrt(c)``; in ball coordinates this is ``2K/(1 + sqrt(1 + 4K^2))/sqrt(c)``.
    """
    return math.asinh(2 * cone_constant) / math.sqrt(c)


def half_aperture(x: Tensor, *, c: float | Tensor = 1.0, cone_constant: float = 0.1) -> Tensor:
    """Half-aperture of the cone with apex ``x`` on the Poincare ball.

    Wide for general nodes near the origin, narrow for specific ones:
    ``sin(psi) = K (1 - c|x|^2) / (sqrt(c) |x|)`` with K = ``cone_constant``.

    Args:
        x: Points of the ball, ``(..., d)``; within ``cone_min_radius`` of the origin it saturates.
        c: Positive; curvature is ``-c``.
        cone_constant: Positive; larger cones are wider.
    Returns:
        Radians in (0, pi/2), ``(...)``.
    """
    return polar_half_aperture(PoincareBall(c).to_polar(x), c=c, cone_constant=cone_constant)


def exterior_angle(x: Tensor, y: Tensor, *, c: float | Tensor = 1.0) -> Tensor:
    """Angle at ``x`` between the outward ray from the origin and the geodesic to ``y``.

    Args:
        x: Apexes on the ball, ``(..., d)``; the origin sees every point at angle 0.
        y: Children on the ball, ``(..., d)``; leading dimensions broadcast.
        c: Positive; curvature is ``-c``.
    Returns:
        Radians in [0, pi], ``(...)``; 0 where ``x = y``.
    """
    ball = PoincareBall(c)
    return polar_exterior_angle(ball.to_polar(x), ball.to_polar(y), c=c)


def cone_energy(
    x: Tensor, y: Tensor, *, c: float | Tensor = 1.0, cone_constant: float = 0.1
) -> Tensor:
    """How far the child ``y`` lies outside the cone of ``x``, on the ball: ``(...)`` radians."""
    ball = PoincareBall(c)
    return polar_cone_energy(ball.to_polar(x), ball.to_polar(y), c=c, cone_constant=cone_constant)


def polar_half_aperture(
    u: Tensor, *, c: float | Tensor = 1.0, cone_constant: float = 0.1
) -> Tensor:
    """Half-aperture from the apex's tangent vector: ``sin(psi) = 2K / sinh(sqrt(c) |u|)``."""
    if not cone_constant > 0:
        raise OptionError(f"cone_constant = {cone_constant} must be positive; 0.1 is usual.")
    return _half_aperture(PoincareBall(c), u, cone_constant).squeeze(-1)


@exactly
def _half_aperture(ball: PoincareBall, u: Tensor, cone_constant: float) -> Tensor:
    # The radius is capped so that neither sinh nor its derivative overflows.
    rise = torch.sinh((_scale(ball, u) * norm(u)).clamp(cone_constant * 1e-3, 300))
    return torch.asin((2 * cone_constant / rise).clamp_max(_WIDEST))


def polar_exterior_angle(u: Tensor, v: Tensor, *, c: float | Tensor = 1.0) -> Tensor:
    """Exterior angle from tangent vectors at the origin.

    With radii ``a, b`` and the angle ``theta`` between the directions,
    ``Xi = atan2(sinh(b) sin(theta), sinh(b - a) - sinh(b) cosh(a) (1 - cos(theta)))``.

    Args:
        u: Apexes, ``(..., d)``, Riemannian length.
        v: Children, ``(..., d)``; leading dimensions broadcast.
        c: Positive; curvature is ``-c``.
    Returns:
        Radians in [0, pi], ``(...)``; 0 where ``u`` is zero or ``u = v``.
    """
    return _exterior_angle(PoincareBall(c), u, v).squeeze(-1)


@exactly
def _exterior_angle(ball: PoincareBall, u: Tensor, v: Tensor) -> Tensor:
    s = _scale(ball, u)
    u, v = torch.broadcast_tensors(s * u, s * v)
    pairs = _Pairs(u, v)
    # sinh(b) times the sine, as a vector: smooth where the child is at the origin.
    gap = v - pairs.p * dot(pairs.p, v)
    aside = norm(sinhc(pairs.b) * gap)
    ahead = -torch.sinh(pairs.delta) - (torch.sinh(pairs.b) * torch.cosh(pairs.a) * pairs.chord / 2)
    # At the origin, and at coincidence, there is no angle, and atan2 would give gradients of NaN.
    # Coincident points are told by their distance: `gap` keeps a rounding error there, and the
    # slope of an angle is one over it.
    apart = pairs.x > _APART
    defined = (pairs.a > 0) & apart & (aside.square() + ahead.square() > 0)
    angle = torch.atan2(torch.where(defined, aside, 0), torch.where(defined, ahead, 1))
    return torch.where(torch.isnan(pairs.chord), pairs.chord, angle)


def polar_cone_energy(
    u: Tensor, v: Tensor, *, c: float | Tensor = 1.0, cone_constant: float = 0.1
) -> Tensor:
    """``max(0, Xi(u, v) - psi(u))``: zero where the child ``v`` lies in the cone of ``u``."""
    angle = polar_exterior_angle(u, v, c=c)
    return torch.relu(angle - polar_half_aperture(u, c=c, cone_constant=cone_constant))


def cone_margin_loss(
    parent: Tensor,
    child: Tensor,
    negatives: Tensor,
    *,
    c: float | Tensor = 1.0,
    cone_constant: float = 0.1,
    margin: float = 0.01,
    ball: bool = False,
) -> Tensor:
    """Pull children into their parents' cones and push false children out, by ``margin``.

    ``sum E(parent, child) + sum max(0, margin - E(parent, negative))``, divided by B. Train on the
    transitive closure: on direct edges alone this fails for every method (Ganea et al. 2018).

    Args:
        parent: ``(B, d)`` tangent vectors at the origin, Riemannian length.
        child: ``(B, d)``.
        negatives: ``(B, n, d)``: points that are not descendants of the parent; see
            :class:`hyperlm.manifolds.negatives.NegativeSampler`.
        ball: The points are ball coordinates instead.
    Returns:
        A scalar.
    """
    if ball:
        space = PoincareBall(c)
        parent, child, negatives = (space.to_polar(x) for x in (parent, child, negatives))
    held = polar_cone_energy(parent, child, c=c, cone_constant=cone_constant)  # (B,)
    out = polar_cone_energy(parent.unsqueeze(-2), negatives, c=c, cone_constant=cone_constant)
    return (held.sum() + torch.relu(margin - out).sum()) / max(1, parent.shape[0])


def _scale(ball: PoincareBall, u: Tensor) -> Any:
    return ball._scale(u)
