"""The label tree in the Poincare disk, as a matplotlib Figure.

In: a taxonomy and, if a model has been trained, its node points as tangent vectors at the origin.
Out: a Figure of 8 x 8 inches at 200 dots an inch, drawn with the object interface: no pyplot, no
global setting read or changed. The root is at the centre, edges are geodesics, colours are top
classes, sizes are leaves below.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hyperlm.errors import OptionError
from hyperlm.viz.draw import (
    DPI,
    HALF,
    INCHES,
    draw_edges,
    draw_names,
    draw_nodes,
    draw_page,
    write,
)
from hyperlm.viz.labels import Label, Placer, Ruler, shorten
from hyperlm.viz.layout import Layout, as_points, leaf_counts, points_layout, tree_layout
from hyperlm.viz.naming import Naming, place_names
from hyperlm.viz.palette import theme
from hyperlm.viz.quality import picture_quality
from hyperlm.viz.rim import Rim, plan_rim

__all__ = ["label_tree_figure"]

_MARGIN = 20.0
_CAPTION, _TITLE = 6.2, 13.0
_TITLE_IN_CORNER = 22  # characters; a longer title gets a strip of its own


def label_tree_figure(
    taxonomy: Any,
    tangents: Any = None,
    *,
    layout: str | None = None,
    title: str | None = None,
    dark: bool = False,
    max_labels: int | None = None,
    c: float = 1.0,
) -> Figure:
    """Draw the label tree.

    Args:
        taxonomy: :class:`hyperlm.taxonomy.Taxonomy`; a DAG is laid out along ``parent``, its
            other edges dashed.
        tangents: ``(N, d)`` numpy array or torch tensor: node points as tangent vectors at the
            origin in Riemannian length, or None.
        layout: ``"tree"`` draws the taxonomy's own construction, ``"points"`` the learned points;
            by default points if there are any.
        title: Drawn literally; by default the taxonomy's title.
        dark: On a dark page.
        max_labels: Most names to write, most important first; by default all there is room for.
        c: Of the points; curvature is ``-c``.
    Raises:
        OptionError: Unknown layout, ``"points"`` without points, points of another shape, a
            negative ``max_labels``.
        OffManifoldError: Points that are NaN or infinite.
    """
    plan, points = _layout(taxonomy, tangents, layout, c)
    if max_labels is not None and max_labels < 0:
        raise OptionError(f"max_labels = {max_labels}; give 0 or more, or None for all that fit.")
    colors = theme(dark)
    ruler = Ruler(DPI)
    heading = taxonomy.title if title is None else title
    heading = shorten(heading, 70) if heading else ""
    strip = 44.0 if len(heading) > _TITLE_IN_CORNER else 0.0
    quality = picture_quality(plan.tangents, taxonomy, points, c=c)

    half = HALF - _MARGIN - strip / 2
    leaves = leaf_counts(taxonomy)
    rim = _rim(taxonomy, plan, ruler, half, max_labels)
    radius = rim.radius if rim else half - 40
    centre = np.array([HALF, HALF - strip / 2])
    at = plan.xy * radius
    dot = _dots(plan, leaves, radius)

    fig = Figure(figsize=(INCHES, INCHES), dpi=DPI, facecolor=colors.paper)
    FigureCanvasAgg(fig)
    axes = draw_page(fig, centre, radius, colors)
    tops = _top_of(taxonomy)
    marks, lengths = draw_edges(axes, taxonomy, plan, tops, leaves, colors)
    draw_nodes(axes, plan, tops, dot, colors)

    limits = (-centre[0] + 8, -centre[1] + 8, 2 * HALF - centre[0] - 8, 2 * HALF - centre[1] - 8)
    placer = Placer(limits, at, dot, marks * radius, lengths * radius)
    left = (_counts(taxonomy), *plan.note)
    for label in _corners(ruler, centre, heading, left, quality.lines() if quality else ()):
        placer.add(label)
        write(axes, label, radius, colors.ink if label.bold else colors.muted, ruler, None)

    angle = plan.wedges.mean(1) if plan.wedges is not None else None
    size = rim.size if rim else 6.5 if len(leaves) > 60 else 8.0
    naming = Naming(taxonomy, at, dot, leaves, radius, min(size * 1.08, 9.5), angle, rim)
    placed = place_names(naming, placer, ruler, max_labels)
    draw_names(axes, placed, plan, taxonomy, tops, radius, colors, ruler)
    return fig


def _layout(
    taxonomy: Any, tangents: Any, layout: str | None, c: float
) -> tuple[Layout, NDArray[np.float64] | None]:
    """The layout asked for, and the points it shows if it shows points."""
    layout = layout or ("tree" if tangents is None else "points")
    if layout not in ("tree", "points"):
        raise OptionError(f"layout = {layout!r}; it is 'tree' or 'points'.")
    if not c > 0:
        raise OptionError(f"c = {c}; it must be positive (the curvature is -c).")
    points = None if tangents is None else as_points(tangents, len(taxonomy))
    if layout == "tree":
        return tree_layout(taxonomy), None
    if points is None:
        raise OptionError("layout = 'points' needs tangents, (N, d); without a model use 'tree'.")
    return points_layout(points, count=len(taxonomy), c=c), points


def _rim(taxonomy: Any, plan: Layout, ruler: Ruler, half: float, most: int | None) -> Rim | None:
    if plan.wedges is None:
        return None
    room = None
    if most is not None:  # inner nodes are more important than leaves
        parent = np.asarray(taxonomy.parent)
        room = max(0, most - len(np.unique(parent[parent >= 0])))
    return plan_rim(taxonomy, plan.wedges, ruler, half, room)


def _top_of(taxonomy: Any) -> NDArray[np.int64]:
    """(N,) the top class each node lies under."""
    parent = np.asarray(taxonomy.parent)
    top = np.arange(len(parent))
    for level in taxonomy.level_slices[1:]:
        top[level] = top[parent[level]]
    return top


def _corners(
    ruler: Ruler,
    centre: NDArray[np.float64],
    heading: str,
    left: Sequence[str],
    right: Sequence[str],
) -> Iterator[Label]:
    """The title, top left, and two captions at the bottom, in pixels about the disk's centre."""
    edge = HALF - _MARGIN
    if heading:
        top = 2 * HALF - centre[1] - _MARGIN
        yield ruler.label(heading, -edge, top - _TITLE * DPI / 72, size=_TITLE, bold=True)
    for lines, at_right in ((left, False), (right, True)):
        for row, line in enumerate(reversed(lines)):
            y = -centre[1] + _MARGIN + 4 + row * 1.3 * _CAPTION * DPI / 72
            x = edge - ruler.extent(line, _CAPTION)[0] if at_right else -edge
            yield ruler.label(line, x, y, size=_CAPTION)


def _counts(taxonomy: Any) -> str:
    count, levels = len(taxonomy), taxonomy.num_levels
    return f"{count:,} label{'s' * (count != 1)} in {levels} level{'s' * (levels != 1)}."


def _dots(plan: Layout, leaves: NDArray[np.int64], radius: float) -> NDArray[np.float64]:
    """Radius of every node in pixels: grows with the leaves below, never crowds the neighbours."""
    least = min(6.5, max(1.4, 75 / math.sqrt(len(leaves))))
    dot = np.minimum(least + 1.35 * (np.sqrt(leaves) - 1), 20.0)
    if plan.wedges is not None:
        room = (plan.wedges[:, 0] - plan.wedges[:, 1]) * np.linalg.norm(plan.xy, axis=1) * radius
        dot = np.minimum(dot, np.maximum(0.42 * room, 0.7))
    result: NDArray[np.float64] = dot
    return result
