"""How well a picture keeps the distances of what it shows: a pretty lie is worse than none.

In: the drawn positions and either the taxonomy (distances count edges) or the points they stand for
(hyperbolic distances). Out: three numbers, each over the same sample of nodes against all others.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyperlm.manifolds import polar

__all__ = ["Quality", "best_scale", "compare", "picture_quality", "sampled_distances"]

_ROWS = 400
_DISTANCES = 2_000_000  # of large trees fewer nodes are compared with all others
_NEIGHBOURS = 10
_PAIRS = 2_000_000  # whose ranks are compared; of more, every n-th


@dataclass(frozen=True)
class Quality:
    """Agreement of drawn with true distances.

    Attributes:
        distortion: Mean of ``|drawn / (s true) - 1|``, one scale ``s`` chosen to make it least; 0
            is perfect.
        rank_correlation: Spearman's, over pairs; 1 is perfect, nan where all distances are equal.
        neighbours: Share of the ``k`` nearest in the picture that are among the nearest in truth
            (everything as near as the ``k``-th counts); 1 is perfect.
        k: Number of neighbours.
        of: What the true distances are, for the caption.
    """

    distortion: float
    rank_correlation: float
    neighbours: float
    k: int
    of: str

    def lines(self) -> tuple[str, ...]:
        """For the caption."""
        rank = "n/a" if math.isnan(self.rank_correlation) else f"{self.rank_correlation:.2f}"
        return (
            f"Does the picture keep the {self.of}?",
            f"distortion {self.distortion:.2f} (best 0), rank correlation {rank} (best 1),",
            f"{self.k} nearest neighbours kept {self.neighbours:.0%}",
        )


def picture_quality(
    drawn: NDArray[np.float64],
    taxonomy: Any,
    points: NDArray[np.float64] | None = None,
    *,
    c: float = 1.0,
    seed: int = 0,
) -> Quality | None:
    """Compare the picture with tree distances, or with the points if these are what it shows.

    Args:
        drawn: ``(N, 2)`` tangent vectors at the origin of the drawn disk, ``c = 1``.
        points: ``(N, d)`` tangent vectors at the origin in Riemannian length, or None.
        c: Of ``points``; curvature is ``-c``, 0 where they are flat.
        seed: Of the sample of up to 400 nodes, taken when there are more.
    Returns:
        None for fewer than three nodes, where there is nothing to compare.
    """
    if len(drawn) < 3:
        return None
    shown = _distances(drawn, 1.0, seed)
    if points is None:
        return compare(shown, _in_tree(taxonomy, len(drawn), seed), of="tree's distances")
    return compare(shown, _distances(points, c, seed), of="learned distances")


def sampled_distances(
    taxonomy: Any, points: NDArray[np.float64], *, c: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tree distances and distances of ``points`` ``(N, d)``, both ``(R, N - 1)``.

    One row for each of up to 400 sampled nodes, its distances to all others.
    """
    return _in_tree(taxonomy, len(points), seed), _distances(points, c, seed)


def compare(drawn: NDArray[np.float64], true: NDArray[np.float64], *, of: str) -> Quality:
    """Measure ``drawn`` against ``true``, both ``(R, N - 1)``, see :func:`sampled_distances`."""
    k = min(_NEIGHBOURS, drawn.shape[1] - 1)
    return Quality(
        distortion=_distortion(drawn, true),
        rank_correlation=_spearman(drawn, true),
        neighbours=_neighbours(drawn, true, k),
        k=k,
        of=of,
    )


def best_scale(drawn: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """The ``s`` for which the mean of ``|drawn / (s true) - 1|`` is least; nan where all are 0."""
    ratio = drawn[true > 0] / true[true > 0]
    positive = np.sort(ratio[ratio > 0])[::-1]
    if not len(positive):
        return math.nan
    # mean |ratio/s - 1| is least where 1/s is the median of 1/ratio weighted by ratio.
    weight = np.cumsum(positive)
    return float(positive[np.searchsorted(weight, weight[-1] / 2)])


def _distances(u: NDArray[np.float64], c: float, seed: int) -> NDArray[np.float64]:
    rows = _rows(len(u), seed)
    points = torch.from_numpy(np.ascontiguousarray(u, dtype=np.float64))
    some = points[torch.from_numpy(rows)]
    dist = torch.cdist(some, points) if c == 0 else polar.pairwise_dist(some, points, c)
    return _without_self(dist.numpy(), rows)


def _in_tree(taxonomy: Any, count: int, seed: int) -> NDArray[np.float64]:
    rows = _rows(count, seed)
    steps = np.asarray(taxonomy.distance(rows[:, None], np.arange(count)), dtype=np.float64)
    return _without_self(steps, rows)


def _rows(count: int, seed: int) -> NDArray[np.int64]:
    if count <= _ROWS:
        return np.arange(count)
    sample = min(_ROWS, max(50, _DISTANCES // count))
    return np.sort(np.random.default_rng(seed).choice(count, sample, replace=False))


def _without_self(values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    others = np.ones(values.shape, dtype=bool)
    others[np.arange(len(rows)), rows] = False
    return values[others].reshape(len(rows), -1)


def _distortion(drawn: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    scale = best_scale(drawn, true)
    if math.isnan(scale):
        return 1.0
    apart = true > 0
    return float(np.abs(drawn[apart] / (scale * true[apart]) - 1).mean())


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    step = max(1, a.size // _PAIRS)
    x, y = _ranks(a.reshape(-1)[::step]), _ranks(b.reshape(-1)[::step])
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / size if size > 0 else math.nan


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, ties sharing their mean; rounding noise in distances does not break a tie."""
    _, inverse, number = np.unique(np.round(values, 9), return_inverse=True, return_counts=True)
    last = np.cumsum(number)
    mean: NDArray[np.float64] = (last - (number - 1) / 2)[inverse.reshape(-1)]
    return mean


def _neighbours(drawn: NDArray[np.float64], true: NDArray[np.float64], k: int) -> float:
    near = np.argsort(drawn, axis=1, kind="stable")[:, :k]
    limit = np.sort(true, axis=1)[:, k - 1 : k]
    return float((np.take_along_axis(true, near, 1) <= limit * (1 + 1e-9)).mean())
