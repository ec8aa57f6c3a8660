"""The label tree in the Poincare disk, as a matplotlib Figure.

In: a run, or a taxonomy and perhaps its node points as tangent vectors at the origin. Out: a Figure
of 8 x 8 inches at 200 dots an inch, drawn with the object interface: no pyplot, no global setting
read or changed. The root is at the centre, edges are geodesics, colours are top classes, sizes are
leaves below; cones, the density of texts and confusion lie behind on request.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hyperlm.errors import OptionError
from hyperlm.viz.behind import draw_cones, draw_confusion, draw_density
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
from hyperlm.viz.layout import Layout, as_points, leaf_counts
from hyperlm.viz.naming import Naming, place_names
from hyperlm.viz.palette import theme, top_classes
from hyperlm.viz.project import default_projection, project
from hyperlm.viz.rim import Rim, plan_rim
from hyperlm.viz.rundata import RunData, taxonomy_data

__all__ = ["label_tree_figure", "run_tree_figure"]

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
    seed: int = 0,
    cones: bool = False,
) -> Figure:
    """Draw a label tree from arrays; :func:`run_tree_figure` draws that of a run.

    Args:
        taxonomy: :class:`hyperlm.taxonomy.Taxonomy`; a DAG is laid out along ``parent``, its
            other edges dashed.
        tangents: ``(N, d)`` numpy array or torch tensor: node points as tangent vectors at the
            origin in Riemannian length, or None.
        layout: A projection, see :func:`hyperlm.viz.project`; by default ``"tree"`` without points
            and hyperbolic PCA with points.
        c: Of the points; curvature is ``-c``, 0 where they are flat.
        title, dark, max_labels, seed, cones: See :func:`run_tree_figure`.
    Raises:
        OptionError: An unknown layout or one that needs points, points of another shape, a
            negative ``max_labels`` or ``c``.
        OffManifoldError: Points that are NaN or infinite.
    """
    if not 0 <= c < math.inf:
        raise OptionError(f"c = {c}; it must not be negative (the curvature is -c, 0 is flat).")
    run = taxonomy_data(taxonomy)
    if tangents is not None:
        geometry = "poincare" if c else "euclidean"
        points = as_points(tangents, len(taxonomy))
        run = replace(run, points=points, geometry=geometry, c=c)
    return run_tree_figure(
        run, layout, title=title, dark=dark, max_labels=max_labels, seed=seed, cones=cones
    )


def run_tree_figure(
    run: RunData,
    layout: str | Layout | None = None,
    *,
    title: str | None = None,
    dark: bool = False,
    max_labels: int | None = None,
    seed: int = 0,
    cones: bool = False,
    texts: bool = False,
    confusion: bool = False,
) -> Figure:
    """Draw the label tree of a run.

    Args:
        run: What to show.
        layout: A projection's name, or what :func:`hyperlm.viz.project` made of this run; by
            default hyperbolic PCA, ``pca`` for flat points, ``tree`` where there are no points.
        title: Drawn literally; by default the run's.
        dark: On a dark page.
        max_labels: Most names to write, most important first; by default all there is room for.
        seed: Of the projection.
        cones: Draw the entailment cones (K = 0.1) of the inner nodes as they are drawn.
        texts: Draw where the run's texts lie, as a density.
        confusion: Draw arcs between the siblings that are taken for each other.
    Raises:
        OptionError: See :func:`hyperlm.viz.project`; a negative ``max_labels``; texts or confusion
            of a run without texts.
        OffManifoldError: Points that are NaN or infinite.
    """
    if max_labels is not None and max_labels < 0:
        raise OptionError(f"max_labels = {max_labels}; give 0 or more, or None for all that fit.")
    if run.texts is None and (texts or confusion):
        raise OptionError(
            "there are no texts to show: a density of texts and confusion need a run and labelled "
            "texts that it has read. Name texts with --data, or leave these out."
        )
    layout = default_projection(run) if layout is None else layout
    plan = project(run, layout, seed=seed) if isinstance(layout, str) else layout
    taxonomy = run.taxonomy
    colors = theme(dark)
    ruler = Ruler(DPI)
    heading = run.title if title is None else title
    heading = shorten(heading, 70) if heading else ""
    strip = 44.0 if len(heading) > _TITLE_IN_CORNER else 0.0

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
    tops = top_classes(taxonomy)
    marks, lengths = draw_edges(axes, taxonomy, plan, tops, leaves, colors)
    draw_nodes(axes, plan, tops, dot, colors)
    facts = []
    if cones:
        facts.append(draw_cones(axes, taxonomy, plan, tops, colors))
    if run.texts is not None and texts:
        facts.append(draw_density(axes, plan, run.texts, tops, colors))
    if run.texts is not None and confusion:
        facts.append(draw_confusion(axes, taxonomy, plan, run.texts, colors))

    limits = (-centre[0] + 8, -centre[1] + 8, 2 * HALF - centre[0] - 8, 2 * HALF - centre[1] - 8)
    placer = Placer(limits, at, dot, marks * radius, lengths * radius)
    left = (_counts(taxonomy), *plan.note)
    right = plan.quality.lines() if plan.quality else ()
    for label in _corners(ruler, centre, heading, left, right, _folded(facts), strip):
        placer.add(label)
        write(axes, label, radius, colors.ink if label.bold else colors.muted, ruler, None)

    angle = plan.wedges.mean(1) if plan.wedges is not None else None
    size = rim.size if rim else 6.5 if len(leaves) > 60 else 8.0
    naming = Naming(taxonomy, at, dot, leaves, radius, min(size * 1.08, 9.5), angle, rim)
    placed = place_names(naming, placer, ruler, max_labels)
    draw_names(axes, placed, plan, taxonomy, tops, radius, colors, ruler)
    return fig


def _rim(taxonomy: Any, plan: Layout, ruler: Ruler, half: float, most: int | None) -> Rim | None:
    if plan.wedges is None:
        return None
    room = None
    if most is not None:  # inner nodes are more important than leaves
        parent = np.asarray(taxonomy.parent)
        room = max(0, most - len(np.unique(parent[parent >= 0])))
    return plan_rim(taxonomy, plan.wedges, ruler, half, room)


def _corners(
    ruler: Ruler,
    centre: NDArray[np.float64],
    heading: str,
    left: Sequence[str],
    right: Sequence[str],
    above: Sequence[str],
    strip: float,
) -> Iterator[Label]:
    """The title, top left, captions in the other corners, in pixels about the disk's centre.

    A title too long for its corner has a strip of its own, below which the captions begin.
    """
    edge = HALF - _MARGIN
    if heading:
        top = 2 * HALF - centre[1] - _MARGIN
        yield ruler.label(heading, -edge, top - _TITLE * DPI / 72, size=_TITLE, bold=True)
    line_height = 1.3 * _CAPTION * DPI / 72
    for row, line in enumerate(above):
        y = 2 * HALF - centre[1] - _MARGIN - strip - (row + 0.8) * line_height
        yield ruler.label(line, edge - ruler.extent(line, _CAPTION)[0], y, size=_CAPTION)
    for lines, at_right in ((left, False), (right, True)):
        for row, line in enumerate(reversed(lines)):
            y = -centre[1] + _MARGIN + 4 + row * line_height
            x = edge - ruler.extent(line, _CAPTION)[0] if at_right else -edge
            yield ruler.label(line, x, y, size=_CAPTION)


def _folded(facts: Sequence[str]) -> list[str]:
    """Short lines for a corner, which is narrower further down."""
    lines: list[str] = []
    for fact in facts:
        lines += textwrap.wrap(fact, max(30, 54 - 4 * len(lines)))
    return lines


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
