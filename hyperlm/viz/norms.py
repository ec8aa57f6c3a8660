"""Norm against depth: do general labels lie near the root, and specific ones further out?

In: a run with label points. Out: a Figure with a column of points per level.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hyperlm.errors import OptionError
from hyperlm.viz.labels import shorten
from hyperlm.viz.layout import as_points
from hyperlm.viz.palette import Theme, class_style, top_classes
from hyperlm.viz.rundata import RunData
from hyperlm.viz.style import caption, heading, in_style, name_ticks, new_figure, panel

__all__ = ["norms_figure"]

_VECTOR = 2000  # more points than this are drawn as one picture
_LEVELS = 40  # as many columns have room for a name each


@in_style
def norms_figure(
    run: RunData, *, texts: bool = False, title: str | None = None, dark: bool = False
) -> Figure:
    """Distance of every label from the origin, by depth; quartiles as bars.

    Args:
        run: With points.
        texts: Add a column for the run's texts; the axis is logarithmic if they are far away.
        title: By default the run's.
        dark: On a dark page.
    Raises:
        OptionError: The run has no label points, or no texts. OffManifoldError: NaN points.
    """
    if run.points is None:
        raise OptionError(
            f"norms need label points; {run.title or 'this'} has none. "
            "Give a run with a points head, or a file that 'hyperlm embed' wrote."
        )
    if texts and run.texts is None:
        raise OptionError("there are no texts to show; name labelled texts with --data.")
    taxonomy = run.taxonomy
    norm = np.linalg.norm(as_points(run.points, len(taxonomy)), axis=1)
    depth = np.asarray(taxonomy.depth)
    fig, colors = new_figure(min(8.0, 4.2 + 0.5 * taxonomy.num_levels), 4.4, dark=dark)
    axes = panel(fig)
    tops = top_classes(taxonomy)
    small = 4.5 if len(norm) <= 300 else 2.2
    groups = [(level, norm[depth == level]) for level in range(1, taxonomy.num_levels + 1)]
    x = depth + _beside(depth, norm)
    for marker, mine, shades in _styles(tops, colors):
        axes.scatter(
            x[mine], norm[mine], s=small**2, marker=marker, c=shades, linewidths=0, alpha=0.75,
            rasterized=len(norm) > _VECTOR, zorder=2,
        )  # fmt: skip
    names = [shorten(name, 18) for name in run.level_names]
    if run.texts is not None and texts and len(run.texts):
        far = np.linalg.norm(run.texts.tangents, axis=1)
        at = taxonomy.num_levels + 1
        axes.scatter(
            at + _beside(np.full(len(far), at), far), far, s=2.0**2, c=colors.muted, linewidths=0,
            alpha=0.6, rasterized=len(far) > _VECTOR, zorder=2,
        )  # fmt: skip
        groups.append((at, far))
        names.append("texts")
        if np.median(far) > 4 * np.median(norm) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
    for at, values in groups:
        _quartiles(axes, at, values, colors)
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, None)
    step = max(1, len(names) // _LEVELS + 1) if len(names) > _LEVELS else 1
    name_ticks(axes, "x", range(1, len(names) + 1, step), names[::step])
    axes.set_xlim(0.4, len(names) + 0.6)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("level of the taxonomy")
    flat = run.c == 0
    axes.set_ylabel("length" if flat else f"hyperbolic distance to the root (c = {run.c:.3g})")
    heading(fig, run.title if title is None else title)
    caption(fig, _facts(run, norm, depth), colors)
    return fig


def _facts(run: RunData, norm: NDArray[np.float64], depth: NDArray[np.int64]) -> list[str]:
    facts = [f"{len(norm):,} labels, one dot each, coloured by top class. Bars: quartiles."]
    if len(np.unique(depth)) > 1 and np.ptp(norm) > 0:
        facts.append(f"Rank correlation of norm and depth {spearmanr(norm, depth).statistic:.2f}")
    edges = np.asarray(run.taxonomy.edges).reshape(-1, 2)
    if len(edges):
        nearer = float((norm[edges[:, 1]] < norm[edges[:, 0]]).mean())
        lead = f"{facts.pop()}; " if len(facts) > 1 else ""
        facts.append(f"{lead}{nearer:.0%} of parents lie nearer the root than their child.")
    return facts


def _styles(
    tops: NDArray[np.int64], colors: Theme
) -> list[tuple[str, NDArray[np.int64], list[str]]]:
    """Marker, nodes and their colours, for each marker in use."""
    styles = [class_style(int(top), colors) for top in tops]
    found = []
    for marker in dict.fromkeys(style[1] for style in styles):
        mine = np.array([i for i, style in enumerate(styles) if style[1] == marker])
        found.append((marker, mine, [styles[i][0] for i in mine]))
    return found


def _beside(group: NDArray[np.int64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far beside its column each value stands: the denser its neighbourhood, the further."""
    away = np.zeros(len(value))
    for one in np.unique(group):
        mine = np.flatnonzero(group == one)
        low, high = float(value[mine].min()), float(value[mine].max())
        bins = max(1, min(40, len(mine) // 4))
        place = np.minimum(
            ((value[mine] - low) / max(high - low, 1e-12) * bins).astype(int), bins - 1
        )
        fullest = int(np.bincount(place).max())
        for number in np.unique(place):
            here = mine[place == number]
            half = 0.36 * len(here) / fullest
            # Alternately left and right, so that the order of nodes makes no slope.
            order = (np.arange(len(here)) * 0.618034) % 1.0
            away[here] = (2 * order - 1) * half if len(here) > 1 else 0.0
    return away


def _quartiles(axes: Axes, at: float, values: NDArray[np.float64], colors: Theme) -> None:
    if not len(values):
        return
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    axes.plot([at, at], [low, high], color=colors.ink, linewidth=1.6, zorder=3)
    axes.plot([at - 0.16, at + 0.16], [middle, middle], color=colors.ink, linewidth=1.6, zorder=3)
