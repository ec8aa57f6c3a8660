"""Names around the disk: every leaf if there is room, else the finest families that have it.

In: a taxonomy and its layout. Out: which nodes are named at the rim, in what size of type, and
the disk's radius that leaves room for them.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperlm.viz.labels import Ruler, shorten

__all__ = ["Rim", "plan_rim"]

GAP = 14.0  # pixels between the boundary and a name
_AIR = 2.0  # pixels between two lines
_LEAF_SIZES = (11.0, 10.0, 9.0, 8.0, 7.5, 7.0, 6.5, 6.0, 5.6, 5.2, 4.9, 4.6, 4.3, 4.0)
_FAMILY_SIZE, _FAMILY_DISK = 5.6, 0.61
# The disk's least radius, of the page's half, and how many characters of a name are kept. Smaller
# type comes before a smaller disk or shorter names.
_CHOICES = ((0.66, (36, 27)), (0.5, (27, 20)))
_LENGTHS = (36, 32, 28, 24, 20)
# Names must leave the page's corners to title and captions: (free half width above, its height).
_COLUMN, _CORNER = 300.0, 670.0


@dataclass(frozen=True)
class Rim:
    """Nodes named around the disk, their names, the size of type, the disk's radius in pixels."""

    nodes: tuple[int, ...]
    names: dict[int, str]
    size: float
    radius: float


def plan_rim(
    taxonomy: Any, wedges: NDArray[np.float64], ruler: Ruler, half: float, room: int | None
) -> Rim:
    """Choose what to write around the circle.

    Args:
        wedges: ``(N, 2)``, see :class:`hyperlm.viz.layout.Layout`.
        half: Pixels from the centre to where names must end.
        room: Largest number of names, or None.
    """
    width = wedges[:, 0] - wedges[:, 1]
    parent = np.asarray(taxonomy.parent)
    leaf = np.ones(len(parent), dtype=bool)
    leaf[parent[parent >= 0]] = False
    leaves = np.flatnonzero(leaf)
    reach = _reach(wedges.mean(1), half)
    # Names more than pi / 8 apart never touch, whatever the size.
    narrowest = min(float(width[leaves].min()), math.pi / 8)
    for wanted, lengths in _CHOICES:
        for size in _LEAF_SIZES:
            line = ruler.height(size) + _AIR
            if narrowest * half < line:  # not even on the largest circle: do not measure them
                continue
            for length in lengths:
                rim = _fit(taxonomy, leaves, ruler, size, length, reach)
                room_for_all = narrowest * (rim.radius + GAP) >= line
                if rim.radius >= wanted * half and room_for_all:
                    return _thinned(rim, room)
    need = (ruler.height(_FAMILY_SIZE) + _AIR) / (_FAMILY_DISK * half)
    nodes = _families(parent, width, leaf, need)
    for length in _LENGTHS:
        rim = _fit(taxonomy, nodes, ruler, _FAMILY_SIZE, length, reach)
        if rim.radius >= _FAMILY_DISK * half:
            break
    return _thinned(rim, room)


def _reach(angle: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """How far from the centre a name may end in each direction, given the page and its corners."""
    cos, sin = np.maximum(np.abs(np.cos(angle)), 1e-9), np.maximum(np.abs(np.sin(angle)), 1e-9)
    beside = np.minimum(half / cos, _CORNER / sin)
    above = np.minimum(half / sin, _COLUMN / cos)
    return np.minimum(np.maximum(beside, above), 1.15 * half)


def _fit(
    taxonomy: Any,
    nodes: NDArray[np.int64],
    ruler: Ruler,
    size: float,
    length: int,
    reach: NDArray[np.float64],
) -> Rim:
    names = {int(n): shorten(taxonomy.name(int(n)), length) for n in nodes}
    ends = [reach[n] - ruler.about(text, size) for n, text in names.items()]
    return Rim(tuple(names), names, size, min(ends, default=0.9 * float(reach.min())) - GAP)


def _thinned(rim: Rim, room: int | None) -> Rim:
    if room is None or room >= len(rim.nodes):
        return rim
    pick = np.unique(np.linspace(0, len(rim.nodes) - 1, max(room, 0)).round().astype(int))
    return Rim(tuple(rim.nodes[i] for i in pick), rim.names, rim.size, rim.radius)


def _families(
    parent: NDArray[np.int64], width: NDArray[np.float64], leaf: NDArray[np.bool_], need: float
) -> NDArray[np.int64]:
    """Nodes, none inside another, whose wedge holds a name: as fine as half of the leaves allow.

    Top classes are named inside the disk, unless they are leaves.
    """
    chosen: list[list[int]] = [[] for _ in range(len(parent) + 1)]
    covered = np.zeros(len(parent) + 1)
    # Children have larger numbers than their parents; the root collects in the last place.
    for node in range(len(parent) - 1, -1, -1):
        fits = width[node] >= need
        if leaf[node]:
            mine, share = ([node], width[node]) if fits else ([], 0.0)
        elif fits and parent[node] >= 0 and covered[node] < 0.5 * width[node]:
            mine, share = [node], width[node]
        else:
            mine, share = chosen[node], covered[node]
        chosen[parent[node]] += mine
        covered[parent[node]] += share
        chosen[node] = []
    if not chosen[-1] and leaf[parent < 0].all():  # a star too wide for its names: some of them
        step = max(1, math.ceil(need / float(width.min())))
        return np.arange(0, len(parent) - step + 1, step)
    return np.array(sorted(chosen[-1]), dtype=np.int64)
