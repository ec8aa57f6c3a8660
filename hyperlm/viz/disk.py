"""The Poincare disk as matplotlib paths: geodesics are true circular arcs, never chords.

In: points of the open unit disk, ``(E, 2)``. Out: ``matplotlib.path.Path`` in disk coordinates. A
geodesic lies on the circle through both points that meets the boundary at right angles; its
centre ``m`` has ``2 <m, p> = |p|^2 + 1`` for each of them. On a line through the origin it is
straight. Each arc is one or more cubic Bezier curves of at most 45 degrees, off the circle by
less than 5e-6 of its radius.
"""

import math

import numpy as np
from matplotlib.path import Path
from numpy.typing import NDArray

from hyperlm.errors import OffManifoldError

__all__ = ["arc_circles", "circle_arc", "geodesic_paths", "to_disk"]

_STEP = math.pi / 4
# Above this radius an arc inside the unit disk is within 1e-7 of its chord.
_STRAIGHT = 1e6


def to_disk(tangents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ball coordinates ``(N, 2)`` of tangent vectors at the origin of Riemannian length, c = 1."""
    radius = np.linalg.norm(tangents, axis=1, keepdims=True)
    return tangents / np.where(radius > 0, radius, 1) * np.tanh(radius / 2)


def arc_circles(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres ``(E, 2)`` and radii ``(E,)`` of the circles that carry the geodesics from a to b.

    The radius is inf where the geodesic is a straight line.
    """
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    p, q = (a * a).sum(1) + 1, (b * b).sum(1) + 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        centre = np.stack([p * b[:, 1] - q * a[:, 1], q * a[:, 0] - p * b[:, 0]], 1)
        centre = centre / (2 * cross)[:, None]
        radius = np.sqrt((centre * centre).sum(1) - 1)
    straight = ~(radius < _STRAIGHT)
    centre[straight], radius[straight] = 0, np.inf
    return centre, radius


def geodesic_paths(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[Path]:
    """One path from each row of ``a`` to the same row of ``b``.

    Args:
        a: ``(E, 2)`` disk coordinates, inside the unit circle or on it.
        b: ``(E, 2)`` likewise.
    Raises:
        OffManifoldError: A point outside the disk, or not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    for points in (a, b):
        norm = np.linalg.norm(points, axis=1)
        if not (norm <= 1).all():
            raise OffManifoldError(
                f"{int((~(norm <= 1)).sum())} of {len(norm)} points lie outside the unit disk or "
                "are not finite. Give disk coordinates (to_disk makes them of tangent vectors)."
            )
    centre, radius = arc_circles(a, b)
    paths = []
    for p, q, m, r in zip(a, b, centre, radius, strict=True):
        if np.isinf(r):
            paths.append(Path(np.stack([p, q]), [Path.MOVETO, Path.LINETO]))
            continue
        start = math.atan2(p[1] - m[1], p[0] - m[0])
        turn = math.atan2(q[1] - m[1], q[0] - m[0]) - start
        turn -= 2 * math.pi * round(turn / (2 * math.pi))  # the part inside the disk is the shorter
        arc = circle_arc(start, turn, radius=float(r), centre=(float(m[0]), float(m[1])))
        vertices = np.array(arc.vertices)
        vertices[0], vertices[-1] = p, q  # exact ends
        paths.append(Path(vertices, arc.codes))
    return paths


def circle_arc(
    start: float, turn: float, *, radius: float = 1.0, centre: tuple[float, float] = (0.0, 0.0)
) -> Path:
    """Part of a circle, from the angle ``start`` over ``turn`` radians (clockwise if negative)."""
    pieces = max(1, math.ceil(abs(turn) / _STEP))
    angle = start + turn * np.arange(pieces + 1) / pieces
    on = np.stack([np.cos(angle), np.sin(angle)], 1)
    along = np.stack([-on[:, 1], on[:, 0]], 1) * (4 / 3 * math.tan(turn / pieces / 4))
    vertices = np.empty((3 * pieces + 1, 2))
    vertices[::3] = on
    vertices[1::3] = on[:-1] + along[:-1]
    vertices[2::3] = on[1:] - along[1:]
    codes = [Path.MOVETO] + [Path.CURVE4] * (3 * pieces)
    return Path(vertices * radius + np.asarray(centre), codes)
