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

__all__ = ["Quality", "picture_quality"]

_ROWS = 400
_NEIGHBOURS = 10


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
        c: Of ``points``; curvature is ``-c``.
        seed: Of the sample of 400 nodes, taken when there are more.
    Returns:
        None for fewer than three nodes, where there is nothing to compare.
    """
    count = len(drawn)
    if count < 3:
        return None
    rows = np.arange(count)
    if count > _ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(count, _ROWS, replace=False))
    shown = _hyperbolic(drawn, rows, 1.0)
    if points is None:
        true = np.asarray(taxonomy.distance(rows[:, None], np.arange(count)), dtype=np.float64)
    else:
        true = _hyperbolic(points, rows, c)
    others = np.ones((len(rows), count), dtype=bool)
    others[np.arange(len(rows)), rows] = False
    a, b = shown[others], true[others]
    k = min(_NEIGHBOURS, count - 2)
    return Quality(
        distortion=_distortion(a, b),
        rank_correlation=_spearman(a, b),
        neighbours=_neighbours(a.reshape(len(rows), -1), b.reshape(len(rows), -1), k),
        k=k,
        of="tree's distances" if points is None else "learned distances",
    )


def _hyperbolic(u: NDArray[np.float64], rows: NDArray[np.int64], c: float) -> NDArray[np.float64]:
    tensor = torch.from_numpy(np.ascontiguousarray(u, dtype=np.float64))
    return polar.pairwise_dist(tensor[torch.from_numpy(rows)], tensor, c).numpy()


def _distortion(drawn: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    apart = true > 0
    ratio = drawn[apart] / true[apart]
    positive = np.sort(ratio[ratio > 0])[::-1]
    if not len(positive):
        return 1.0
    # mean |ratio/s - 1| is least where 1/s is the median of 1/ratio weighted by ratio.
    weight = np.cumsum(positive)
    scale = positive[np.searchsorted(weight, weight[-1] / 2)]
    return float(np.abs(ratio / scale - 1).mean())


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    x, y = _ranks(a), _ranks(b)
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
