"""UMAP onto the hyperbolic plane: neighbourhoods are kept, distances are not promised.

In: tangent vectors at the origin, Riemannian length, and the curvature ``-c`` of their space (0 for
flat points). Out: ``(N, 2)`` tangent vectors of the plane with the same ``c``. The neighbours given
to UMAP (McInnes et al. 2018) are exact ones in the points' own geometry; it lays them out on the
hyperboloid. That layout has no origin of its own: the root takes part as a point, and an isometry
moves it to the origin.
"""

import importlib
import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import polar
from hyperlm.viz.hyperbolic_pca import principal_plane

__all__ = ["umap_plane"]

_NEIGHBOURS = 15
_FEWEST = 4  # points, with the root
_ROWS = 512


def umap_plane(u: NDArray[np.float64], *, c: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    """Lay points out in the hyperbolic plane by their nearest neighbours.

    Args:
        u: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        c: Curvature is ``-c``; 0 for flat points, whose image has curvature -1.
        seed: Of UMAP's sampling.
    Returns:
        ``(N, 2)`` tangent vectors at the origin of the plane, Riemannian length; the root, which is
        not among them, is the origin.
    Raises:
        OptionError: umap-learn is not installed, fewer than three points, or all in one place.
        OffManifoldError: UMAP diverged.
    """
    umap = _library()
    points = np.concatenate([np.zeros((1, u.shape[1])), u]) * math.sqrt(c or 1.0)
    if len(points) < _FEWEST:
        raise OptionError(
            f"UMAP needs at least {_FEWEST - 1} points, there are {len(u)}; use the projection "
            "pca or tree."
        )
    start = points @ principal_plane(points)
    if (np.ptp(start, axis=0) == 0).any():
        raise OptionError(
            "UMAP needs points in more than one place and direction; use the projection pca or "
            "tree."
        )
    near = min(_NEIGHBOURS, len(points) - 1)
    index, dist = _nearest(torch.from_numpy(points), near, flat=c == 0)
    fitted = umap.UMAP(
        n_neighbors=near,
        output_metric="hyperboloid",
        precomputed_knn=(index, dist, None),
        force_approximation_algorithm=True,  # or a small set's neighbours are sought once more
        init=start,
        random_state=seed,
        n_jobs=1,
    )
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        # New points could not be added later, which nobody asks for.
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]")
        try:
            sheet = np.asarray(fitted.fit_transform(points.astype(np.float32)), dtype=np.float64)
        finally:
            # Numba gives the OpenMP that torch shares as many threads as there are cores.
            torch.set_num_threads(threads)
    if not np.isfinite(sheet).all():
        raise OffManifoldError(
            "UMAP diverged on these points. Choose another seed, or the projection pca."
        )
    return _centred(sheet)[1:] / math.sqrt(c or 1.0)


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            # It tells everybody that its neural variant lacks TensorFlow.
            warnings.filterwarnings("ignore", category=ImportWarning)
            return importlib.import_module("umap")
    except ImportError as error:
        raise OptionError(
            "the projection umap needs the package umap-learn: "
            "pip install 'hyperlm-toolkit[viz]', or choose another projection."
        ) from error


def _nearest(
    points: Tensor, count: int, *, flat: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(M, count) indices and distances of the nearest points, each point its own first."""
    indices, distances = [], []
    for start in range(0, len(points), _ROWS):
        some = points[start : start + _ROWS]
        dist = torch.cdist(some, points) if flat else polar.pairwise_dist(some, points, 1.0)
        own = torch.arange(len(some))
        dist[own, own + start] = -1.0
        best = dist.topk(count, largest=False, sorted=True)
        indices.append(best.indices)
        distances.append(best.values.clamp_min(0))
    return torch.cat(indices).numpy(), torch.cat(distances).numpy()


def _centred(sheet: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hyperboloid coordinates (M, 2) as tangents, after the boost that takes row 0 to the origin.

    ``(t, x) -> (t t_0 - <x, x_0>, x - x_0 t + x_0 <x, x_0> / (1 + t_0))``.
    """
    time = np.sqrt(1 + (sheet * sheet).sum(1, keepdims=True))
    x, t = sheet[0], float(time[0, 0])
    moved = sheet - x * time + x * (sheet @ x / (1 + t))[:, None]
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return moved / np.where(length > 0, length, 1) * np.arcsinh(length)
