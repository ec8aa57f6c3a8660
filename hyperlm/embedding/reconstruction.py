"""How well distances give a node's ancestors back: mean average precision and mean rank.

In: a taxonomy and its points. As in Nickel and Kiela (2017): all other nodes are ranked by their
distance to a node; its ancestors, the transitive ones too, are the relevant ones. A rank counts
the strangers in front alone, other ancestors are left out; ties count against. The root stands at
the origin and is everybody's ancestor, as in the published figures.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperlm.embedding.relations import Rows, take
from hyperlm.errors import OptionError
from hyperlm.manifolds import curved, polar
from hyperlm.taxonomy import Taxonomy

__all__ = ["Reconstruction", "reconstruction"]

_AT_ONCE = 1 << 22  # distances per block


class Reconstruction(NamedTuple):
    """Figures over ``nodes`` nodes.

    Attributes:
        map: Mean over nodes of the average precision, the root among the ancestors.
        mean_rank: Mean over (node, ancestor) pairs; 1 is best.
        map_below_root: ``map`` with the root left out, over nodes that have another ancestor;
            NaN where none has.
        nodes: How many were ranked.
    """

    map: float
    mean_rank: float
    map_below_root: float
    nodes: int


@torch.no_grad()
def reconstruction(
    taxonomy: Taxonomy,
    points: Tensor,
    *,
    c: float = 1.0,
    nodes: int | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Rank everything by distance to each node, blockwise.

    Args:
        points: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        c: Curvature is ``-c``; 0 is flat space.
        nodes: How many to sample, None for all. Each is still ranked against all others.
        seed: Of the sample.
    Raises:
        OptionError: Points and taxonomy do not fit.
        OffManifoldError: A row holds NaN or infinity: nothing would rank before it.
    """
    count = len(taxonomy)
    if points.dim() != 2 or len(points) != count:
        raise OptionError(
            f"points are {tuple(points.shape)}, the taxonomy has {count} nodes: one row per node "
            "is needed, in the taxonomy's numbering."
        )
    if nodes is not None and nodes < 1:
        raise OptionError(f"nodes = {nodes}: at least 1 must be ranked; None ranks all.")
    polar.check_finite(points, "points")
    chosen = np.arange(count)
    if nodes is not None and nodes < count:
        chosen = np.sort(np.random.default_rng(seed).choice(count, nodes, replace=False))
    everything = torch.cat([points, points.new_zeros(1, points.shape[1])])  # the root is last
    closure = Rows(taxonomy.ancestor_indptr, taxonomy.ancestor_indices)
    precision, below, ranks = [], [], []
    space, step = curved(c), max(1, _AT_ONCE // count)
    for start in range(0, len(chosen), step):
        some = chosen[start : start + step]
        dist = space.pairwise_dist(points[torch.from_numpy(some)], everything).cpu().numpy()
        before, owner, is_root = _strangers_before(dist, some, closure)
        ranks.append(before + 1)
        precision.append(_average_precision(before, owner, len(some)))
        average = _average_precision(before[~is_root], owner[~is_root], len(some))
        below.append(average[~np.isnan(average)])
    partial = np.concatenate(below)
    return Reconstruction(
        float(np.concatenate(precision).mean()),
        float(np.concatenate(ranks).mean()),
        float(partial.mean()) if len(partial) else float("nan"),
        len(chosen),
    )


def _strangers_before(
    dist: NDArray[np.floating], nodes: NDArray[np.int64], closure: Rows
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For every (node, ancestor): strangers as near or nearer; whose it is; whether it is the root.

    Sorted by node and then by distance. ``dist`` is ``(n, N + 1)`` and is overwritten.
    """
    rows, root = np.arange(len(nodes)), dist.shape[1] - 1
    owner, ancestor = take(closure, nodes)
    owner = np.concatenate([owner, rows])
    ancestor = np.concatenate([ancestor, np.full(len(rows), root)])
    mine = dist[owner, ancestor]
    farthest = np.zeros(len(rows))
    np.maximum.at(farthest, owner, mine)
    dist[owner, ancestor] = np.inf
    dist[rows, nodes] = np.inf
    row, column = np.nonzero(dist <= farthest[:, None])
    # One sort of strangers and ancestors by node, distance, strangers first: counting does the rest
    whose = np.concatenate([row, owner])
    far = np.concatenate([dist[row, column], mine])
    kind = np.repeat([0, 1], [len(row), len(owner)])
    order = np.lexsort((kind, far, whose))
    seen = np.cumsum(kind[order] == 0)
    earlier = np.append(0, np.cumsum(np.bincount(row, minlength=len(rows))))[whose[order]]
    is_mine = kind[order] == 1
    place = order[is_mine] - len(row)
    return (seen - earlier)[is_mine], owner[place], ancestor[place] == root


def _average_precision(
    before: NDArray[np.int64], owner: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """``(count,)``; NaN for nodes without an entry. Entries are sorted by node and distance."""
    sizes = np.bincount(owner, minlength=count)
    first = np.cumsum(sizes) - sizes
    place = np.arange(len(owner)) - first[owner] + 1
    total = np.bincount(owner, weights=place / (place + before), minlength=count)
    return np.where(sizes > 0, total / np.maximum(sizes, 1), np.nan)
