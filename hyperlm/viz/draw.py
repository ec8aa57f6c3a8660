"""Marks on the page: the disk, edges, nodes, names. What goes where is decided elsewhere.

In: axes in disk coordinates, a layout, colours. Every property is given, so that a user's own
matplotlib settings change nothing.
"""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from hyperlm.viz.disk import circle_arc, geodesic_paths
from hyperlm.viz.labels import Label, Ruler
from hyperlm.viz.layout import Layout
from hyperlm.viz.naming import Placed
from hyperlm.viz.palette import Theme, class_style, mix
from hyperlm.viz.rim import GAP

__all__ = ["DPI", "HALF", "INCHES", "draw_edges", "draw_names", "draw_nodes", "draw_page", "write"]

INCHES, DPI = 8.0, 200.0
HALF = INCHES * DPI / 2  # of the page, in pixels


def draw_page(fig: Figure, centre: NDArray[np.float64], radius: float, colors: Theme) -> Axes:
    """Axes over the whole page in disk coordinates, with the disk."""
    axes = fig.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-centre[0] / radius, (2 * HALF - centre[0]) / radius)
    axes.set_ylim(-centre[1] / radius, (2 * HALF - centre[1]) / radius)
    axes.add_patch(Circle((0, 0), 1, facecolor=colors.disk, edgecolor="none", zorder=0))
    axes.add_patch(
        Circle((0, 0), 1, facecolor="none", edgecolor=colors.rim, linewidth=0.9, zorder=1)
    )
    return axes


def draw_edges(
    axes: Axes,
    taxonomy: Any,
    plan: Layout,
    tops: NDArray[np.int64],
    leaves: NDArray[np.int64],
    colors: Theme,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Geodesics from parents; returns points along them and the length each stands for."""
    xy, parent = plan.xy, np.asarray(taxonomy.parent)
    with_root = np.concatenate([xy, np.zeros((1, 2))])  # -1 is the root
    paths = geodesic_paths(with_root[parent], xy)
    # Learned points mix families: there the edges of leaves stay in the background.
    pale = np.where((plan.wedges is None) & (leaves == 1), 0.6, 0.35)
    shade = [
        mix(class_style(int(t), colors)[0], colors.disk, float(p))
        for t, p in zip(tops, pale, strict=True)
    ]
    # Thousands of edges must not run together into an area.
    thin = 1.0 if len(parent) <= 400 else 0.6 if len(parent) <= 2000 else 0.4
    width = np.minimum(thin * (0.55 + 0.14 * np.sqrt(leaves)), 2.2)
    clear = np.where(leaves == 1, min(1.0, max(0.15, 700 / max(int((leaves == 1).sum()), 1))), 1.0)
    axes.add_collection(
        PathCollection(
            paths, facecolors="none", edgecolors=to_rgba_array(shade, clear), linewidths=width,
            zorder=2,
        )
    )  # fmt: skip
    edges = np.asarray(taxonomy.edges).reshape(-1, 2)
    extra = edges[parent[edges[:, 0]] != edges[:, 1]]
    if len(extra):
        axes.add_collection(
            PathCollection(
                geodesic_paths(xy[extra[:, 1]], xy[extra[:, 0]]),
                facecolors="none", edgecolors=colors.muted, linewidths=0.4,
                linestyles=[(0, (3, 2))], alpha=0.6, zorder=1.5,
            )
        )  # fmt: skip
    share = np.linspace(0, 1, 14 if len(parent) <= 600 else 6)[1:-1]
    # Chords are near enough to say what a label would hide.
    chords = with_root[parent][:, None] * (1 - share[:, None]) + xy[:, None] * share[:, None]
    length = np.linalg.norm(with_root[parent] - xy, axis=1) / len(share)
    return chords.reshape(-1, 2), np.repeat(length, len(share))


def draw_nodes(
    axes: Axes, plan: Layout, tops: NDArray[np.int64], dot: NDArray[np.float64], colors: Theme
) -> None:
    xy = plan.xy
    styles = [class_style(int(t), colors) for t in tops]
    points_per_pixel = 72 / DPI
    for marker in dict.fromkeys(style[1] for style in styles):
        mine = np.array([i for i, style in enumerate(styles) if style[1] == marker])
        mine = mine[
            np.argsort(dot[mine], kind="stable")
        ]  # small ones first, hidden by nobody larger
        axes.scatter(
            xy[mine, 0], xy[mine, 1], s=(2 * dot[mine] * points_per_pixel) ** 2, marker=marker,
            c=[styles[i][0] for i in mine], edgecolors=colors.disk,
            linewidths=np.minimum(0.12 * dot[mine] * points_per_pixel, 0.5), zorder=3,
        )  # fmt: skip
    axes.scatter([0], [0], s=14, c=colors.ink, marker="o", linewidths=0, zorder=3)


def draw_names(
    axes: Axes,
    placed: list[Placed],
    plan: Layout,
    taxonomy: Any,
    tops: NDArray[np.int64],
    radius: float,
    colors: Theme,
    ruler: Ruler,
) -> None:
    xy = plan.xy
    # A veil under each small name, an outline around each large one: outlines of small type would
    # multiply the size of vector files.
    veils = [p.label.corners(0.5) / radius for p in placed if p.kind in ("family", "leaf")]
    axes.add_collection(
        PolyCollection(veils, facecolors=colors.disk, edgecolors="none", alpha=0.78, zorder=2.8)
    )
    for one in placed:
        color = class_style(int(tops[one.node]), colors)[0]
        halo = colors.disk if one.kind == "top" else None
        write(axes, one.label, radius, colors.text_color(color), ruler, halo)
        if one.leader is not None:
            (x0, y0), (x1, y1) = one.leader / radius
            axes.plot([x0, x1], [y0, y1], color=color, linewidth=0.6, zorder=2.5, marker="")
    if plan.wedges is None:
        return
    near = 1 + 0.25 * GAP / radius
    far = 1 + 0.75 * GAP / radius
    ticks, brackets, shades = [], [], []
    children = np.bincount(taxonomy.parent[taxonomy.parent >= 0], minlength=len(xy))
    for one in placed:
        if one.kind != "rim":
            continue
        begin, end = plan.wedges[one.node]
        middle = (begin + end) / 2
        way = np.array([math.cos(middle), math.sin(middle)])
        if children[one.node]:  # a family: a bracket over its wedge
            arc = circle_arc(float(begin), float(end - begin), radius=(near + far) / 2)
            brackets.append(arc)
            shades.append(class_style(int(tops[one.node]), colors)[0])
        else:
            ticks.append(np.stack([xy[one.node] * 1.0, way * far]))
    if ticks:
        axes.add_collection(
            LineCollection(
                ticks, colors=colors.rim, linewidths=0.45, linestyles=[(0, (1, 2))], zorder=1.2
            )
        )
    if brackets:
        axes.add_collection(
            PathCollection(brackets, facecolors="none", edgecolors=shades, linewidths=1.4, zorder=2)
        )


def write(
    axes: Axes, label: Label, radius: float, color: str, ruler: Ruler, halo: str | None
) -> None:
    text = axes.text(
        label.x / radius, label.y / radius, label.text, color=color, rotation=label.angle,
        rotation_mode="anchor", ha="left", va="baseline", parse_math=False, usetex=False,
        fontproperties=ruler.font(label.size, label.bold), zorder=5, clip_on=False,
    )  # fmt: skip
    if halo:
        text.set_path_effects([withStroke(linewidth=2.4, foreground=halo)])
