"""The nearest of many points, exactly, without an ``N x M x d`` tensor.

In: queries and points as tangent vectors at the origin in Riemannian length. Out: the k smallest
distances and their indices. Blocks of points pass through
:func:`hyperlm.manifolds.polar.pairwise_dist` (a matrix product that redoes close pairs exactly),
and only the best k so far are kept.
"""

import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds import polar

__all__ = ["nearest"]


@torch.no_grad()
def nearest(
    queries: Tensor, points: Tensor, k: int, *, c: float | Tensor = 1.0, block: int = 1 << 22
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest points of each query, nearest first.

    Args:
        queries: ``(B, d)`` tangent vectors at the origin, Riemannian length.
        points: ``(N, d)`` likewise.
        k: At most N.
        c: Positive; curvature is ``-c``.
        block: Distances held at once; memory is about 8 bytes times this.
    Returns:
        Distances ``(B, k)`` and indices ``(B, k)`` into ``points``.
    """
    if not 1 <= k <= points.shape[0]:
        raise OptionError(f"k = {k} nearest of {points.shape[0]} points: k must be in between.")
    step = max(k, block // max(1, queries.shape[0]))
    best = queries.new_empty(
        (queries.shape[0], 0), dtype=polar.pairwise_dist(queries[:0], points[:0], c).dtype
    )
    index = torch.empty_like(best, dtype=torch.int64)
    for start in range(0, points.shape[0], step):
        dist = polar.pairwise_dist(queries, points[start : start + step], c)
        some, at = dist.topk(min(k, dist.shape[1]), largest=False)
        best, index = torch.cat([best, some], 1), torch.cat([index, at + start], 1)
        best, keep = best.topk(min(k, best.shape[1]), largest=False)
        index = index.gather(1, keep)
    return best, index
