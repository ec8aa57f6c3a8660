"""Radii of points drawn uniformly by volume within a distance of the origin.

The volume between r and r + dr grows as ``sinh(sqrt(c) r)^(d - 1)``, in flat space as ``r^(d -
1)``: nearly all of it lies within ``1/(d - 1)`` of the rim. The logarithm of that density is
concave, so its tangent at the rim bounds it: radii are drawn under that exponential and accepted in
proportion, exactly and at least three times in four.
"""

import math

import torch
from torch import Tensor

__all__ = ["volume_radii"]


def volume_radii(
    count: int, dim: int, within: float, c: float, generator: torch.Generator | None = None
) -> Tensor:
    """``(count,)`` float64 distances from the origin.

    Args:
        dim: Of the space, at least 1.
        within: Largest distance, positive; a Riemannian length.
        c: Curvature is ``-c``; 0 is flat space.
    """
    s, power = math.sqrt(c), dim - 1
    # Logarithmic slope of the density at the rim; in one dimension none, where a tiny one serves.
    slope = max(power * (s / math.tanh(s * within) if c else 1 / within), 1e-9 / within)
    device = generator.device if generator is not None else None
    found = torch.empty(0, dtype=torch.float64, device=device)
    while len(found) < count:
        size = (2, 2 * (count - len(found)) + 8)
        draw, accept = torch.rand(size, dtype=torch.float64, device=device, generator=generator)
        # Depth below the rim, exponential with that slope, at most `within`.
        depth = -torch.log1p(draw * math.expm1(-slope * within)) / slope
        radius = within - depth
        rise = _log_density(radius, s) - _log_density(torch.full_like(radius, within), s)
        kept = accept.log() <= power * rise + slope * depth
        found = torch.cat([found, radius[kept]])
    return found[:count]


def _log_density(radius: Tensor, s: float) -> Tensor:
    """``log sinh(s r)`` up to a constant, without overflow; ``log r`` where s is 0."""
    if not s:
        return radius.log()
    return s * radius + torch.log(-torch.expm1(-2 * s * radius))
