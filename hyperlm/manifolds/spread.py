"""Well-spread directions on the sphere: no two closer than they must be.

In the plane equal angles; in d dimensions a simplex while it fits, else points that repel each
other, for many points with no more than a random start. Out: unit vectors, ``(k, d)`` float64.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["spread_directions"]

_STEPS = 150
_REPEL_UP_TO = 1500  # repulsion needs k x k memory and time; beyond this, random directions


def spread_directions(
    count: int, dim: int, *, away_from_parent: bool = False, seed: int = 0
) -> NDArray[np.float64]:
    """``count`` unit vectors far from each other.

    Args:
        count: How many, at least 1.
        dim: At least 2.
        away_from_parent: Keep away from ``(-1, 0, ..., 0)`` too, where the parent is.
        seed: Of the random start.
    Returns:
        ``(count, dim)``.
    """
    total = count + away_from_parent
    if dim == 2:
        # Equal angles, the parent's at pi; without a parent the first at 0.
        turn = 2 * math.pi / total * np.arange(1, total + 1)
        angle = math.pi + turn[:count] if away_from_parent else turn
        return np.stack([np.cos(angle), np.sin(angle)], 1)
    if total <= dim + 1:
        points = _simplex(total, dim)
    elif total <= _REPEL_UP_TO:
        points = _repel(total, dim, seed)
    else:
        return _random(count, dim, seed)
    return _turn(points)[1:] if away_from_parent else points


def _random(count: int, dim: int, seed: int) -> NDArray[np.float64]:
    points = np.random.default_rng((seed, count, dim)).standard_normal((count, dim))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _simplex(total: int, dim: int) -> NDArray[np.float64]:
    """Corners of a regular simplex: every two at the same, largest possible, angle."""
    points = np.zeros((total, dim))
    if total == 1:
        points[0, 0] = 1
        return points
    centred = np.eye(total) - 1 / total
    basis = np.linalg.svd(centred)[0][:, : total - 1]
    points[:, : total - 1] = basis
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _repel(total: int, dim: int, seed: int) -> NDArray[np.float64]:
    """Descend ``sum |x_i - x_j|^-p``, with p growing so that the closest pair counts most."""
    points = _random(total, dim, seed)
    closest = 2 * total ** (-1 / (dim - 1))  # of the order of the spacing to expect
    for step in range(_STEPS):
        power = 2 + 14 * step / _STEPS
        square = np.maximum(2 - 2 * points @ points.T, 1e-12)
        np.fill_diagonal(square, np.inf)
        # Relative to each point's nearest neighbour, so that large powers do not overflow.
        weight = (square / square.min(1, keepdims=True)) ** (-power / 2 - 1)
        push = weight.sum(1, keepdims=True) * points - weight @ points
        push -= (push * points).sum(1, keepdims=True) * points
        length = np.linalg.norm(push, axis=1, keepdims=True)
        reach = 0.3 * closest * (1 - step / _STEPS)
        points = points + push / np.maximum(length, 1e-9) * np.minimum(length, reach)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


def _turn(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reflect the whole set so that its first member becomes ``(-1, 0, ..., 0)``."""
    mirror = points[0].copy()
    mirror[0] += 1
    square = mirror @ mirror
    if square < 1e-24:
        return points
    return np.asarray(points - 2 / square * np.outer(points @ mirror, mirror))
