"""Which nodes get their name, and where: the rim, top classes, families, then leaves.

In: positions in pixels about the disk's centre. Out: labels that touch neither each other nor the
page's edge.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperlm.viz.labels import Label, Placer, Ruler, shorten
from hyperlm.viz.rim import GAP, Rim

__all__ = ["Naming", "Placed", "place_names"]

_LONGEST = 30
_TRIES = 700  # names tried below the top classes, the largest families first
_LONE_TOPS = 30  # as many top classes without children are still named like the others
_KEPT = 0.7  # of a name, or it is not written


@dataclass(frozen=True)
class Placed:
    """A label, its node, its kind (``top rim family leaf``), and its leader line, if any."""

    label: Label
    node: int
    kind: str
    leader: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Naming:
    """What the names are placed around.

    Attributes:
        at: ``(N, 2)`` nodes in pixels about the centre.
        dot: ``(N,)`` radius of each node in pixels.
        leaves: ``(N,)`` leaves below each node.
        disk: Radius of the boundary circle in pixels.
        size: Of the type for families and leaves; top classes are larger.
        angle: ``(N,)`` middle of each node's wedge, or None if there are no wedges.
    """

    taxonomy: Any
    at: NDArray[np.float64]
    dot: NDArray[np.float64]
    leaves: NDArray[np.int64]
    disk: float
    size: float
    angle: NDArray[np.float64] | None
    rim: Rim | None

    @property
    def top_size(self) -> float:
        count = int((np.asarray(self.taxonomy.parent) < 0).sum())
        most = 13.0 if count <= 6 else 10.0 if count <= 12 else 8.5 if count <= 30 else 7.0
        return max(min(self.size * 1.9, most), min(8.5, most))


def place_names(plan: Naming, placer: Placer, ruler: Ruler, most: int | None) -> list[Placed]:
    """All labels there is room for, at most ``most`` of them."""
    parent = np.asarray(plan.taxonomy.parent)
    budget = len(parent) if most is None else most
    placed: list[Placed] = []
    at_rim = set(plan.rim.nodes) if plan.rim else set()
    is_leaf = np.ones(len(parent), dtype=bool)
    is_leaf[parent[parent >= 0]] = False

    # The rim's places are fixed: reserve them, so that nobody else takes them.
    rim = list(_rim_labels(plan, ruler)) if plan.rim else []
    tops = [n for n in np.flatnonzero(parent < 0).tolist() if n not in at_rim]
    if sum(is_leaf[tops]) > _LONE_TOPS or plan.rim:
        tops = [n for n in tops if not is_leaf[n]]
    tops.sort(key=lambda n: -int(plan.leaves[n]))
    rim = rim[: max(0, budget - len(tops))]
    for one in rim:
        if placer.free(one.label):
            placer.add(one.label)
            placed.append(one)
    for node in tops[:budget]:
        # A long name in smaller type: it hides less.
        name = shorten(plan.taxonomy.name(node), _LONGEST)
        size = plan.top_size * min(1.0, max(0.72, 15 / len(name)))
        best = _cheapest(_around(plan, node, ruler, size, bold=True), placer, gap=7.0)
        if best is not None:
            placer.add(best[1])
            placed.append(Placed(best[1], node, "top", _leader(plan, node, best[1])))

    done = at_rim.union(tops)
    rest = [n for n in range(len(parent)) if n not in done]
    # Families by level and size; leaves last. Where the rim names the leaves or their families,
    # a leaf inside would only repeat it or crowd the edges.
    if plan.rim:
        rest = [n for n in rest if not is_leaf[n]]
    # Equals in an order that jumps about: what there is room for is not of the first class alone.
    rest.sort(
        key=lambda n: (
            is_leaf[n], int(plan.taxonomy.depth[n]), -int(plan.leaves[n]), n * 0.618034 % 1
        )
    )  # fmt: skip
    for node in rest[:_TRIES]:
        if len(placed) >= budget:
            break
        best = _cheapest(_beside(plan, node, ruler), placer, strict=True)
        # What is named in the disk must not run into the names around it.
        if best is not None and plan.rim:
            outermost = np.linalg.norm(best[1].corners(), axis=1).max()
            best = best if outermost < plan.disk else None
        if best is not None:
            placer.add(best[1])
            placed.append(Placed(best[1], node, "leaf" if is_leaf[node] else "family"))
    return placed


def _rim_labels(plan: Naming, ruler: Ruler) -> Iterator[Placed]:
    assert plan.rim is not None
    assert plan.angle is not None
    for node in plan.rim.nodes:
        angle = float(plan.angle[node])
        start = (plan.disk + GAP) * np.array([math.cos(angle), math.sin(angle)])
        label = ruler.radial(plan.rim.names[node], start[0], start[1], angle, size=plan.rim.size)
        yield Placed(label, node, "rim")


def _around(
    plan: Naming, node: int, ruler: Ruler, size: float, *, bold: bool
) -> Iterator[tuple[float, Label]]:
    """Level labels at growing distances all round a node; the cost grows with the distance."""
    text = shorten(plan.taxonomy.name(node), _LONGEST)
    width, up, down = ruler.extent(text, size, bold)
    half = np.array([width / 2, (up + down) / 2])
    line = up + down
    for away in (0.15, 0.5, 1.2, 2.0, 3.0, 4.2, 5.6, 7.5, 10.0):
        for turn in range(16):
            angle = math.pi / 8 * turn
            way = np.array([math.cos(angle), math.sin(angle)])
            # From the node's rim to the nearest point of the box.
            reach = float((half / np.maximum(np.abs(way), 1e-9)).min())
            centre = plan.at[node] + way * (plan.dot[node] + away * line + reach)
            label = ruler.label(
                text, centre[0] - half[0], centre[1] - half[1] + down, size=size, bold=bold
            )
            yield 1.6 * away + 0.4 * (abs(way[1]) < 0.3), label


def _beside(plan: Naming, node: int, ruler: Ruler) -> Iterator[tuple[float, Label]]:
    """Labels close to a node: along its wedge, or level beside it."""
    size = plan.size if plan.leaves[node] > 1 else min(plan.size, 6.5)
    text = shorten(plan.taxonomy.name(node), _LONGEST)
    gap = plan.dot[node] + 5
    if plan.angle is not None:
        angle = float(plan.angle[node])
        way = np.array([math.cos(angle), math.sin(angle)])
        # Inwards a name may reach as far as the parent's level.
        above = int(plan.taxonomy.parent[node])
        reach = np.linalg.norm(plan.at[node]) - np.linalg.norm(plan.at[above]) - 2 * gap
        fitting = int(len(text) * reach / ruler.about(text, size))
        if fitting >= _KEPT * len(text):
            short = shorten(plan.taxonomy.name(node), min(fitting, len(text)))
            inward = plan.at[node] - way * (gap + ruler.extent(short, size)[0])
            yield 0.0, ruler.radial(short, inward[0], inward[1], angle, size=size)
        outward = plan.at[node] + way * gap
        yield 1.0, ruler.radial(text, outward[0], outward[1], angle, size=size)
    level = 50.0 if plan.angle is not None else 0.0  # only where the spoke is taken
    width, up, down = ruler.extent(text, size)
    x, y = plan.at[node]
    middle = y - 0.4 * up
    yield level, ruler.label(text, x + gap, middle, size=size)
    yield level + 0.2, ruler.label(text, x - gap - width, middle, size=size)
    if level:
        return
    yield 0.4, ruler.label(text, x - width / 2, y + gap + down, size=size)
    yield 0.4, ruler.label(text, x - width / 2, y - gap - up, size=size)
    for left in (x + 0.7 * gap, x - 0.7 * gap - width):
        yield 0.6, ruler.label(text, left, y + 0.7 * gap + down, size=size)
        yield 0.6, ruler.label(text, left, y - 0.7 * gap - up, size=size)


def _cheapest(
    candidates: Iterator[tuple[float, Label]],
    placer: Placer,
    *,
    strict: bool = False,
    gap: float = 0.0,
) -> tuple[float, Label] | None:
    """The free candidate that hides least; with ``strict`` none that hides a node or many edges."""
    best: tuple[float, Label] | None = None
    for cost, label in candidates:
        if (best is not None and cost >= best[0]) or not placer.free(label, gap):
            continue
        nodes, edges = placer.hidden(label)
        if strict and (nodes or edges > (0.7 if cost >= 50 else 2.6) * label.width):
            continue
        cost += 0.5 * nodes + 0.008 * edges
        if best is None or cost < best[0]:
            best = cost, label
    return best


def _leader(plan: Naming, node: int, label: Label) -> NDArray[np.float64] | None:
    """From a node to the nearest point of a level label's box, if that is too far to be obvious."""
    corners = label.corners(3.0)
    near = np.clip(plan.at[node], corners.min(0), corners.max(0))
    away = float(np.linalg.norm(near - plan.at[node])) - plan.dot[node]
    return np.stack([plan.at[node], near]) if away > 0.9 * (label.up + label.down) else None
