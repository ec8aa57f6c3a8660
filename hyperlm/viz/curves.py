"""Curves with their uncertainty, one panel per quantity.

In: panels of named series of ``(x, middle, low, high)``. Out: a Figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hyperlm.errors import OptionError
from hyperlm.viz.labels import shorten
from hyperlm.viz.palette import Theme, class_style
from hyperlm.viz.style import caption, heading, in_style, new_figure, panel

__all__ = ["Panel", "curves_figure", "draw_panel"]

_ACROSS = 2  # panels side by side
_LINES = ("o", "s", "^", "D", "v", "P", "X", "*")  # lines of near colours differ in these


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Attributes:
        title: What it is.
        unit: Of the vertical axis.
        series: Name -> points ``(x, middle, low, high)``, in any order; ``low = high`` draws no
            band, and points that are not finite are left out.
        x_label: Of the horizontal axis, where it is not that of the other panels.
        diagonal: Equal axes from 0 on, and a line where both are equal.
    """

    title: str
    unit: str
    series: Mapping[str, Sequence[tuple[float, float, float, float]]]
    x_label: str = ""
    diagonal: bool = False


@in_style
def curves_figure(
    panels: Sequence[Panel],
    *,
    x_label: str,
    title: str = "",
    notes: Sequence[str] = (),
    dark: bool = False,
) -> Figure:
    """Draw every panel; equal names have equal colours in all of them.

    Args:
        panels: At least one.
        x_label: Of the horizontal axes.
        title: Drawn literally.
        notes: Lines below the panels.
        dark: On a dark page.
    Raises:
        OptionError: No panel, or a panel without a series.
    """
    if not panels or not all(one.series for one in panels):
        raise OptionError("curves need at least one panel, and every panel at least one series.")
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    fig, colors = new_figure(5.4 if across == 1 else 8.0, 0.8 + 2.9 * down, dark=dark)
    names = list(dict.fromkeys(name for one in panels for name in one.series))
    for number, one in enumerate(panels, start=1):
        axes = panel(fig, down, across, number)
        draw_panel(axes, one, names, colors)
        if one.x_label or len(panels) - number < across:
            axes.set_xlabel(shorten(one.x_label or x_label, 60), parse_math=False)
        if number == 1:
            axes.legend(loc="best", ncols=2 if len(names) > 5 else 1)
    heading(fig, title)
    if notes:
        caption(fig, notes, colors)
    return fig


def draw_panel(axes: Axes, panel: Panel, names: Sequence[str], colors: Theme) -> None:
    """The series of one panel on axes; ``names`` in the order of their colours."""
    xs: set[float] = set()
    for name, points in panel.series.items():
        number = names.index(name)
        shade, mark = class_style(number, colors)
        values = np.array(sorted(points), dtype=np.float64).reshape(-1, 4)
        x, middle, low, high = values[np.isfinite(values[:, 1])].T
        xs |= set(x.tolist())
        marker = _LINES[number % len(_LINES)] if mark == "o" else mark
        axes.plot(x, middle, color=shade, marker=marker, label=shorten(name, 28), zorder=3)
        if (high > low).any():
            axes.fill_between(x, low, high, color=shade, alpha=0.15, linewidth=0, zorder=2)
    if panel.diagonal:
        most = max(float(np.nanmax(line.get_xydata())) for line in axes.lines)
        ends = (0.0, 1.03 * most)  # markers at the end stay whole
        axes.plot((0.0, most), (0.0, most), color=colors.muted, linewidth=0.8, zorder=1)
        axes.set(xlim=ends, ylim=ends)
    if panel.title:
        axes.set_title(shorten(panel.title, 40), parse_math=False)
    axes.set_ylabel(shorten(panel.unit, 40), parse_math=False)
    doubling = min(xs, default=0.0) > 0 and all(np.log2(x) % 1 == 0 for x in xs)
    if doubling and len(xs) > 1 and max(xs) >= 16 * min(xs):
        axes.set_xscale("log", base=2)  # powers of two, as dimensions usually are; no layers
        axes.set_xticks(sorted(xs), labels=[f"{x:g}" for x in sorted(xs)])
        axes.minorticks_off()
    elif all(x == int(x) for x in xs):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
