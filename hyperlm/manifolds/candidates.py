"""Approximate search among many points: a graph index proposes, exact distances decide.

In: points and queries as tangent vectors at the origin in Riemannian length. Out: nearest points,
as :func:`hyperlm.manifolds.search.nearest` gives them, except for those that are missed. The index
(HNSW, of the optional library faiss) compares coordinates by Euclidean distance, which orders
points as the geodesic distance does only roughly. How much is missed depends on the points:
measure it with ``recall`` before relying on it. ``docs/geometry.md`` has examples from 0.1 to 1;
exact search is fast enough for 100,000 nodes.
"""

import warnings
from typing import Any, Literal

import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds import polar
from hyperlm.manifolds.poincare import PoincareBall
from hyperlm.manifolds.search import nearest

__all__ = ["FaissIndex"]


class FaissIndex:
    """An index over points, built once; needs ``pip install 'hyperlm-toolkit[faiss]'``.

    Args:
        points: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        c: Positive; curvature is ``-c``.
        coordinates: What the index compares: ``ball`` coordinates, ``direction`` from the origin,
            or ``tangent``, the vectors themselves. Directions suit points far out, tangent vectors
            those near the origin.
        links: Neighbours each point keeps in the graph: more is slower and finds more.
    Raises:
        OptionError: faiss is missing, or unknown coordinates.
    """

    def __init__(
        self,
        points: Tensor,
        *,
        c: float = 1.0,
        coordinates: Literal["ball", "direction", "tangent"] = "ball",
        links: int = 32,
    ) -> None:
        if coordinates not in ("ball", "direction", "tangent"):
            raise OptionError(
                f"coordinates {coordinates!r} are unknown; choose ball, direction or tangent."
            )
        faiss = _faiss()
        self.points, self.c, self.coordinates = points.detach().cpu(), c, coordinates
        self._index = faiss.IndexHNSWFlat(points.shape[1], links)
        self._index.hnsw.efConstruction = 4 * links
        self._index.add(self._coordinates(self.points))

    def nearest(self, queries: Tensor, k: int, *, pool: int = 200) -> tuple[Tensor, Tensor]:
        """The ``k`` nearest of ``pool`` candidates, by exact distance, nearest first.

        Args:
            queries: ``(B, d)`` tangent vectors at the origin, Riemannian length.
            k: At most N.
            pool: Candidates fetched for each query, at least k.
        Returns:
            Distances ``(B, k)`` and indices ``(B, k)``. Where the graph gave fewer than ``k``
            candidates the distance is infinite and the index -1.
        """
        size = len(self.points)
        if not 1 <= k <= min(pool, size):
            raise OptionError(
                f"k = {k} nearest of {size} points and {pool} candidates: k must be in between."
            )
        queries = queries.detach().cpu()
        pool = min(pool, size)
        self._index.hnsw.efSearch = max(pool, 64)
        found = torch.from_numpy(self._index.search(self._coordinates(queries), pool)[1])
        dist = polar.dist(queries.unsqueeze(1), self.points[found], self.c)  # (B, pool)
        dist = torch.where(found < 0, torch.inf, dist)
        best, keep = dist.topk(k, largest=False)
        return best, found.gather(1, keep)

    def recall(self, queries: Tensor, k: int, *, pool: int = 200) -> float:
        """Share of the exact ``k`` nearest that ``nearest`` finds; ties count as found."""
        found = self.nearest(queries, k, pool=pool)[0]
        exact = nearest(queries.detach().cpu(), self.points, k, c=self.c)[0]
        return float((found <= exact[:, -1:] * (1 + 1e-6)).double().mean())

    def _coordinates(self, u: Tensor) -> Any:
        u = u.float()
        if self.coordinates == "ball":
            u = PoincareBall(self.c).from_polar(u)
        elif self.coordinates == "direction":
            u = torch.nn.functional.normalize(u, dim=1)
        return u.contiguous().numpy()


def _faiss() -> Any:
    try:
        with warnings.catch_warnings():
            # faiss's generated wrappers, on import: nothing a caller could change.
            warnings.filterwarnings("ignore", message=".*[Ss]wig", category=DeprecationWarning)
            import faiss
    except ImportError as error:
        raise OptionError(
            "FaissIndex needs the library faiss: pip install 'hyperlm-toolkit[faiss]'. Without it "
            "nearest() searches exactly."
        ) from error
    return faiss
