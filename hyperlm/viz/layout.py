"""A taxonomy's nodes in two dimensions: where each one is drawn, and what the reader must know.

In: a taxonomy, or learned points as tangent vectors at the origin. Out: a :class:`Layout`, whose
coordinates are tangent vectors at the origin of the hyperbolic plane (``c = 1``, Riemannian
length), so that the distances of the picture can be measured without losing digits at the boundary.
Both layouts are deterministic. A DAG is laid out along ``taxonomy.parent``.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.viz.disk import to_disk

__all__ = ["Layout", "leaf_counts", "points_layout", "tree_layout"]

# Outermost radius in the disk by number of levels: shallow trees need no crowding at the rim.
_OUTER = {1: 0.72, 2: 0.88, 3: 0.935}
_DEEPEST = 0.955
_EDGE = 0.97  # of learned points


@dataclass(frozen=True)
class Layout:
    """Positions of all nodes.

    Attributes:
        name: ``"tree"`` or ``"points"``.
        tangents: ``(N, 2)`` at the origin, Riemannian length, ``c = 1``.
        wedges: ``(N, 2)`` first and last angle of what lies below each node, counter-clockwise
            positive and running clockwise, or None where subtrees have no wedge of their own.
        note: How the picture came about, for the caption.
    """

    name: str
    tangents: NDArray[np.float64]
    wedges: NDArray[np.float64] | None
    note: tuple[str, ...]

    @property
    def xy(self) -> NDArray[np.float64]:
        """``(N, 2)`` coordinates in the Poincare disk."""
        return to_disk(self.tangents)


def leaf_counts(taxonomy: Any) -> NDArray[np.int64]:
    """(N,) leaves at or below each node, along ``taxonomy.parent``; a leaf counts itself."""
    parent = np.asarray(taxonomy.parent)
    count = np.ones(len(parent), dtype=np.int64)
    count[parent[parent >= 0]] = 0
    for level in reversed(taxonomy.level_slices):
        above = parent[level]
        inside = above >= 0
        np.add.at(count, above[inside], count[level][inside])
    return count


def tree_layout(taxonomy: Any) -> Layout:
    """The taxonomy's own construction: radius says depth, angle is shared out by leaves.

    Every level is a hyperbolic circle further out than the one before; every subtree owns a wedge
    in proportion to its leaves, and sits in the middle of it. Sarkar's construction gives each
    child of a node an equal angle instead, whatever hangs below, and the large families become
    unreadable. A little air separates families, more of it the top classes.
    """
    parent = np.asarray(taxonomy.parent)
    levels = list(taxonomy.level_slices)
    leaves = leaf_counts(taxonomy)
    inner = np.zeros(len(parent), dtype=bool)
    inner[parent[parent >= 0]] = True
    total = int(leaves[parent < 0].sum())
    air = np.where(inner, 0.3, 0.0)
    air[(parent < 0) & inner] = max(0.5, 0.008 * total)
    width = np.ones(len(parent))
    width[inner] = air[inner]
    for level in reversed(levels):
        below = parent[level] >= 0
        np.add.at(width, parent[level][below], width[level][below])

    begin = np.zeros(len(parent))
    for level in levels:
        nodes = np.arange(len(parent))[level]
        nodes = nodes[np.argsort(parent[nodes], kind="stable")]
        above = parent[nodes]
        before = np.cumsum(width[nodes]) - width[nodes]
        first = np.searchsorted(above, above, side="left")
        origin = np.where(above >= 0, begin[above] + air[above] / 2, 0.0)
        begin[nodes] = origin + before - before[first]
    full = float(width[parent < 0].sum())
    wedges = np.stack([begin + air / 2, begin + width - air / 2], 1)
    wedges = math.pi / 2 - 2 * math.pi * wedges / full  # from the top, clockwise

    outer = _OUTER.get(len(levels), _DEEPEST)
    angle = wedges.mean(1)
    direction = np.stack([np.cos(angle), np.sin(angle)], 1)
    # Deep trees spend more on the first levels, whose names and families are the largest.
    share = (np.asarray(taxonomy.depth) / len(levels)) ** (1.0 if len(levels) <= 3 else 0.8)
    tangents = direction * (2 * math.atanh(outer) * share)[:, None]
    note = ("Drawn from the taxonomy alone:", "radius is depth, angle is share of leaves.")
    return Layout("tree", tangents, wedges, note)


def points_layout(tangents: Any, *, count: int, c: float = 1.0) -> Layout:
    """Learned points by tangent PCA: the plane through the origin that holds most of them.

    The origin stays where it is, since the root sits there. Learned points tend to lie at nearly
    one radius, so radii in the picture are stretched by an increasing function: the order of the
    radii is kept, their size is not, and the note says so.

    Args:
        tangents: ``(N, d)`` numpy array or torch tensor, tangent vectors at the origin in
            Riemannian length.
        count: N, the number of nodes.
        c: Positive; curvature is ``-c``.
    Raises:
        OptionError: Wrong shape. OffManifoldError: NaN or infinity.
    """
    points = as_points(tangents, count) * math.sqrt(c)
    axes = np.linalg.svd(points, full_matrices=False)
    spread = axes.S**2
    basis = axes.Vh[:2]
    # The sign of a singular vector is arbitrary: fix it by the largest component.
    lead = np.abs(basis).argmax(1)
    basis = basis * np.where(basis[np.arange(len(basis)), lead] < 0, -1.0, 1.0)[:, None]
    flat = points @ basis.T  # (N, 2), (N, 1) for d = 1
    flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    held = float(spread[:2].sum() / spread.sum()) if spread.sum() > 0 else 1.0
    radius = np.linalg.norm(flat, axis=1)
    target = 2 * np.arctanh(_EDGE * _spread_radii(radius))
    flat = flat / np.where(radius > 0, radius, 1)[:, None] * target[:, None]
    note = (
        f"Learned points by tangent PCA ({held:.0%} of the",
        "squared length). Radii are stretched to be",
        "readable: their order is kept, their size is not.",
    )
    return Layout("points", flat, None, note)


def as_points(tangents: Any, count: int) -> NDArray[np.float64]:
    """``tangents`` as a checked ``(N, d)`` float64 array."""
    if hasattr(tangents, "detach"):  # a torch tensor, possibly bfloat16, which numpy lacks
        tangents = tangents.detach().cpu().double().numpy()
    points = np.asarray(tangents, dtype=np.float64)
    if points.ndim != 2 or len(points) != count or not points.shape[1]:
        raise OptionError(
            f"tangents have the shape {points.shape}, the taxonomy has {count} nodes: give one row "
            "per node, (N, d), in the taxonomy's numbering and without the root."
        )
    bad = ~np.isfinite(points).all(1)
    if bad.any():
        raise OffManifoldError(
            f"{int(bad.sum())} of {count} node points hold NaN or infinity, first node "
            f"{int(bad.argmax())}. The training has diverged; lower its learning rate."
        )
    return points


def _spread_radii(radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Increasing in ``radius``, within [0, 1]: mostly even density, partly the size."""
    largest = radius.max()
    if not largest > 0:
        return np.zeros_like(radius)
    rank = np.searchsorted(np.sort(radius), radius, side="right") / len(radius)
    blend = 0.65 * np.sqrt(rank) + 0.35 * radius / largest
    return np.where(radius > 0, blend, 0.0)
