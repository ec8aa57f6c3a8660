"""A taxonomy's nodes in two dimensions: where each one is drawn, and what the reader must know.

In: a taxonomy. Out: a :class:`Layout`, whose coordinates are tangent vectors at the origin of the
hyperbolic plane (``c = 1``, Riemannian length), so that the distances of the picture can be
measured without losing digits at the boundary. :mod:`hyperlm.viz.project` makes layouts of learned
points. A DAG is laid out along ``taxonomy.parent``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.viz.disk import to_disk

if TYPE_CHECKING:
    from hyperlm.viz.quality import Quality
    from hyperlm.viz.rundata import TextData

__all__ = ["Layout", "as_points", "leaf_counts", "tree_layout"]

# Outermost radius in the disk by number of levels: shallow trees need no crowding at the rim.
_OUTER = {1: 0.72, 2: 0.88, 3: 0.935}
_DEEPEST = 0.955


@dataclass(frozen=True)
class Layout:
    """Positions of all nodes, and of texts.

    Attributes:
        name: Of the projection: ``tree pca horopca umap``.
        tangents: ``(N, 2)`` at the origin, Riemannian length, ``c = 1``.
        wedges: ``(N, 2)`` first and last angle of what lies below each node, counter-clockwise
            positive and running clockwise, or None where subtrees have no wedge of their own.
        note: How the picture came about, for the caption.
        texts: ``(M, 2)`` like ``tangents``, or None.
        quality: How well the distances between the nodes are kept, or None if not measured.
        place: Puts more texts where ``texts`` would have them; None where that cannot be done
            without drawing everything anew.
    """

    name: str
    tangents: NDArray[np.float64]
    wedges: NDArray[np.float64] | None
    note: tuple[str, ...]
    texts: NDArray[np.float64] | None = None
    quality: "Quality | None" = None
    place: "Callable[[TextData], NDArray[np.float64]] | None" = None

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


def as_points(tangents: Any, count: int) -> NDArray[np.float64]:
    """``tangents``, an array or a torch tensor, as a checked ``(N, d)`` float64 array.

    Raises:
        OptionError: Another shape. OffManifoldError: NaN or infinity.
    """
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
