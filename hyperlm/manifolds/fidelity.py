"""How well points reproduce a tree: distortion and mean average precision.

In: a taxonomy (``len``, ``distance``, ``edges``) and its nodes' tangent vectors at the origin in
Riemannian length. Out: one number each. Both sample, with a seed. Report them together, and with
the ``tau`` of a construction: reconstruction rises with ``tau`` while retrieval of held-out
ancestors falls.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds import polar

__all__ = ["distortion", "mean_average_precision"]


@torch.no_grad()
def distortion(
    taxonomy: Any, points: Tensor, *, c: float = 1.0, pairs: int = 20_000, seed: int = 0
) -> float:
    """Mean of ``|dist / (scale * tree distance) - 1|`` over sampled pairs of different nodes.

    The one global ``scale`` is the one that makes the mean smallest.

    Args:
        points: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        pairs: How many to sample.
    """
    _check(taxonomy, points)
    if len(taxonomy) < 2:
        return 0.0
    generator = np.random.default_rng(seed)
    first = generator.integers(len(taxonomy), size=pairs)
    second = (first + generator.integers(1, len(taxonomy), size=pairs)) % len(taxonomy)
    steps = torch.from_numpy(np.asarray(taxonomy.distance(first, second), dtype=np.float64))
    index_a, index_b = torch.from_numpy(first), torch.from_numpy(second)
    ratio = polar.dist(points[index_a], points[index_b], c).double().cpu() / steps
    # mean |ratio/scale - 1| is least where 1/scale is the median of 1/ratio weighted by ratio.
    ratio = ratio[ratio > 0].sort(descending=True).values
    weight = ratio.cumsum(0)
    scale = ratio[int(torch.searchsorted(weight, weight[-1] / 2))]
    return float((ratio / scale - 1).abs().mean())


@torch.no_grad()
def mean_average_precision(
    taxonomy: Any, points: Tensor, *, c: float = 1.0, nodes: int = 200, seed: int = 0
) -> float:
    """Average precision of tree neighbours among the nearest points, averaged over sampled nodes.

    For each sampled node all others are ranked by distance; its neighbours are its parents and
    children (the root is not a node). Ties count against it: a neighbour at the same distance as a
    stranger comes after it.

    Args:
        points: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        nodes: How many to sample, among those that have a neighbour.
    """
    _check(taxonomy, points)
    edges = np.asarray(taxonomy.edges, dtype=np.int64).reshape(-1, 2)
    if not len(edges):
        raise OptionError("No edges below the root: average precision needs a deeper taxonomy.")
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    having = np.unique(both[:, 0])
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(having, min(nodes, len(having)), replace=False))
    begin = np.searchsorted(both[:, 0], chosen, side="left")
    end = np.searchsorted(both[:, 0], chosen, side="right")
    total = 0.0
    step = max(1, (1 << 22) // len(points))
    for start in range(0, len(chosen), step):
        some = torch.from_numpy(chosen[start : start + step])
        dist = polar.pairwise_dist(points[some], points, c).cpu()
        for row, node in enumerate(some.tolist()):
            near = torch.from_numpy(both[begin[start + row] : end[start + row], 1].copy())
            mine = dist[row, near].sort().values
            others = dist[row].clone()
            others[near] = others[node] = torch.inf
            strangers = others[others <= mine[-1]].sort().values
            before = torch.searchsorted(strangers, mine, right=True)
            place = torch.arange(1, len(mine) + 1)
            total += float((place / (place + before)).mean())
    return total / len(chosen)


def _check(taxonomy: Any, points: Tensor) -> None:
    if points.dim() != 2 or len(points) != len(taxonomy):
        raise OptionError(
            f"points are {tuple(points.shape)}, the taxonomy has {len(taxonomy)} nodes: "
            "one row per node is needed, in the taxonomy's numbering."
        )
