"""How well points reproduce a tree or DAG: distortion, average precision, retrieval of ancestors.

In: a taxonomy (``len``, ``distance``, ``edges``; for retrieval also ``ancestor_indptr`` and
``ancestor_indices``) and its nodes' tangent vectors at the origin in Riemannian length. Out: one
number each. ``c = 0`` is flat space. All sample, with a seed. ``report`` gives them side by side;
read them together, and with the ``tau`` of a construction.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds import polar
from hyperlm.manifolds.tangent import curved

__all__ = [
    "ancestor_retrieval",
    "best_scale",
    "distortion",
    "mean_average_precision",
    "report",
    "sample_pairs",
]


def report(
    taxonomy: Any, points: Tensor, *, c: float = 1.0, nodes: int = 200, seed: int = 0
) -> dict[str, float]:
    """All three measures, and the largest radius.

    Returns:
        ``distortion``; ``average_precision`` of neighbours; ``retrieval`` of the ancestors above
        the parents, by distance and radius, and ``retrieval_by_distance``, by distance alone;
        ``largest_radius``. A measure that a taxonomy of one or two levels does not have is NaN.
    """
    edges = len(np.asarray(taxonomy.edges).reshape(-1, 2))
    deep = len(taxonomy.ancestor_indices) > edges
    common: dict[str, Any] = {"c": c, "nodes": nodes, "seed": seed}
    nan = float("nan")
    return {
        "distortion": distortion(taxonomy, points, c=c, seed=seed),
        "average_precision": mean_average_precision(taxonomy, points, **common) if edges else nan,
        "retrieval": ancestor_retrieval(taxonomy, points, **common) if deep else nan,
        "retrieval_by_distance": (
            ancestor_retrieval(taxonomy, points, radius_weight=0.0, **common) if deep else nan
        ),
        "largest_radius": float(polar.dist0(points).max()),
    }


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
    first, second, steps = sample_pairs(taxonomy, pairs, np.random.default_rng(seed))
    ratio = curved(c).dist(points[first], points[second]).double().cpu() / steps
    return float((ratio / best_scale(ratio) - 1).abs().mean())


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
    no_others = np.zeros((0, 2), dtype=np.int64)
    return _ranked(points, both, no_others, 0.0, c=c, nodes=nodes, seed=seed)


@torch.no_grad()
def ancestor_retrieval(
    taxonomy: Any,
    points: Tensor,
    held_out: ArrayLike | None = None,
    *,
    c: float = 1.0,
    radius_weight: float = 1.0,
    nodes: int = 200,
    seed: int = 0,
) -> float:
    """Average precision of held-out ancestors among all candidates, averaged over sampled nodes.

    For each sampled node ``n`` every other node ``a`` is a candidate for its ancestor, except its
    ancestors that are not held out, and candidates are ranked by ``dist(n, a) + radius_weight (|a|
    - |n|)``, smallest first: HiT's score (arXiv 2401.11374) with its sign turned. By the triangle
    inequality this is at least 0 for a weight of 1, and near 0 for points on the way to the origin.
    Ties count against the ancestor.

    Args:
        points: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        held_out: ``(K, 2)`` pairs (descendant, ancestor) that the points were made without. None:
            every pair of the transitive closure that is no edge; a construction sees edges alone.
        radius_weight: 0 ranks by distance alone.
        nodes: How many to sample, among those that have a held-out ancestor.
    Raises:
        OptionError: No held-out pairs, pairs outside the closure, or points that do not fit.
    """
    _check(taxonomy, points)
    size = len(taxonomy)
    above = np.asarray(taxonomy.ancestor_indices, dtype=np.int64)
    below = np.repeat(np.arange(size), np.diff(taxonomy.ancestor_indptr))
    closure = np.stack([below, above], 1)
    keys = below * size + above
    if held_out is None:
        edges = np.asarray(taxonomy.edges, dtype=np.int64).reshape(-1, 2)
        out = ~np.isin(keys, edges[:, 0] * size + edges[:, 1])
    else:
        given = np.asarray(held_out, dtype=np.int64).reshape(-1, 2)
        given_keys = given[:, 0] * size + given[:, 1]
        strange = given[~np.isin(given_keys, keys)]
        if len(strange):
            raise OptionError(
                f"{len(strange)} held-out pairs are not in the transitive closure, first "
                f"{strange[0].tolist()}: give pairs (descendant, ancestor)."
            )
        out = np.isin(keys, given_keys)
    if not out.any():
        raise OptionError(
            "No held-out ancestors: the taxonomy needs three levels, or pairs in held_out."
        )
    return _ranked(points, closure[out], closure[~out], radius_weight, c=c, nodes=nodes, seed=seed)


def sample_pairs(
    taxonomy: Any, pairs: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Random pairs of different nodes and their distances in the taxonomy, float64."""
    first = generator.integers(len(taxonomy), size=pairs)
    second = (first + generator.integers(1, len(taxonomy), size=pairs)) % len(taxonomy)
    steps = np.asarray(taxonomy.distance(first, second), dtype=np.float64)
    return torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(steps)


def best_scale(ratio: Tensor) -> Tensor:
    """The scale that makes the mean of ``|ratio / scale - 1|`` least.

    It is where ``1/scale`` is the median of ``1/ratio`` weighted by ``ratio``.
    """
    ratio = ratio[ratio > 0].sort(descending=True).values
    if not len(ratio):
        raise OptionError("all points coincide: distances of zero have no scale. Place them first.")
    weight = ratio.cumsum(0)
    return ratio[int(torch.searchsorted(weight, weight[-1] / 2))]


def _ranked(
    points: Tensor,
    wanted: NDArray[np.int64],
    left_out: NDArray[np.int64],
    radius_weight: float,
    *,
    c: float,
    nodes: int,
    seed: int,
) -> float:
    """Mean average precision of ``wanted`` (node, other); ``left_out`` pairs are no candidates."""
    having = np.unique(wanted[:, 0])
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(having, min(nodes, len(having)), replace=False))
    near, near_at = _rows(wanted, chosen)
    gone, gone_at = _rows(left_out, chosen)
    radius = polar.dist0(points).cpu()
    total = 0.0
    step = max(1, (1 << 22) // len(points))
    for start in range(0, len(chosen), step):
        some = torch.from_numpy(chosen[start : start + step])
        score = curved(c).pairwise_dist(points[some], points).cpu()
        if radius_weight:
            score += radius_weight * (radius - radius[some, None])
        for row, node in enumerate(some.tolist()):
            at = slice(near_at[start + row], near_at[start + row + 1])
            out = slice(gone_at[start + row], gone_at[start + row + 1])
            mine = score[row, near[at]].sort().values
            others = score[row]
            others[near[at]] = others[gone[out]] = others[node] = torch.inf
            strangers = others[others <= mine[-1]].sort().values
            before = torch.searchsorted(strangers, mine, right=True)
            place = torch.arange(1, len(mine) + 1)
            total += float((place / (place + before)).mean())
    return total / len(chosen)


def _rows(pairs: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[Tensor, list[int]]:
    """Second members of the pairs that begin with a chosen node, node by node, and where each."""
    pairs = pairs[np.isin(pairs[:, 0], chosen)]
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], np.append(chosen, np.iinfo(np.int64).max))
    return torch.from_numpy(pairs[:, 1].copy()), starts.tolist()


def _check(taxonomy: Any, points: Tensor) -> None:
    if points.dim() != 2 or len(points) != len(taxonomy):
        raise OptionError(
            f"points are {tuple(points.shape)}, the taxonomy has {len(taxonomy)} nodes: "
            "one row per node is needed, in the taxonomy's numbering."
        )
    polar.check_finite(points, "points")
