"""Entailment cones of the drawn points, as regions of the disk.

In: tangent vectors at the origin of the drawn plane (``c = 1``, Riemannian length). Out: for each
apex the region between the two geodesics that leave it at the half-aperture from the outward
direction, up to the boundary. Seen from the origin the region's end on the boundary has the
half-width ``theta`` with ``tan(theta / 2) = exp(-radius) tan(aperture / 2)``.
"""

from typing import Any

import numpy as np
import torch
from matplotlib.path import Path
from numpy.typing import NDArray

from hyperlm.manifolds.cones import polar_cone_energy, polar_half_aperture
from hyperlm.viz.disk import circle_arc, geodesic_paths, to_disk

__all__ = ["cone_regions", "half_apertures", "share_held"]


def half_apertures(
    tangents: NDArray[np.float64], *, cone_constant: float = 0.1
) -> NDArray[np.float64]:
    """``(N,)`` radians in (0, pi/2); see :func:`hyperlm.manifolds.cones.half_aperture`."""
    u = torch.from_numpy(np.array(tangents, dtype=np.float64))
    aperture: NDArray[np.float64] = polar_half_aperture(u, cone_constant=cone_constant).numpy()
    return aperture


def cone_regions(tangents: NDArray[np.float64], *, cone_constant: float = 0.1) -> list[Path]:
    """One closed path per apex ``(N, 2)``, in disk coordinates; the whole disk at the origin."""
    aperture = half_apertures(tangents, cone_constant=cone_constant)
    radius = np.linalg.norm(tangents, axis=1)
    middle = np.arctan2(tangents[:, 1], tangents[:, 0])
    half = 2 * np.arctan(np.exp(-radius) * np.tan(aperture / 2))
    apex = to_disk(tangents)
    # A hair inside the circle, which rounding must not leave.
    ends = [
        (1 - 1e-12) * np.stack([np.cos(middle + side * half), np.sin(middle + side * half)], 1)
        for side in (-1, 1)
    ]
    regions = []
    sides = zip(geodesic_paths(apex, ends[0]), geodesic_paths(ends[1], apex), strict=True)
    for node, (out, back) in enumerate(sides):
        if not radius[node] > 0:
            regions.append(circle_arc(0, 2 * np.pi))
            continue
        rim = circle_arc(middle[node] - half[node], 2 * half[node])
        parts = [(np.asarray(p.vertices), np.asarray(p.codes)) for p in (out, rim, back)]
        vertices = [part[0][1 if k else 0 :] for k, part in enumerate(parts)]
        codes = [part[1][1 if k else 0 :] for k, part in enumerate(parts)]
        regions.append(Path(np.concatenate(vertices), np.concatenate(codes)))
    return regions


def share_held(
    taxonomy: Any, tangents: NDArray[np.float64], *, cone_constant: float = 0.1
) -> float | None:
    """Share of the taxonomy's edges whose child lies in its parent's cone; None without edges."""
    edges = np.asarray(taxonomy.edges).reshape(-1, 2)
    if not len(edges):
        return None
    u = torch.from_numpy(np.array(tangents, dtype=np.float64))
    child, parent = torch.from_numpy(edges.copy()).T
    energy = polar_cone_energy(u[parent], u[child], cone_constant=cone_constant)
    return float((energy == 0).double().mean())
