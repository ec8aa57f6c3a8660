"""Named values with their intervals, one line each: what reaches how much, and how surely.

In: panels of name -> ``(middle, low, high)``. Out: a Figure.
"""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from hyperlm.errors import OptionError
from hyperlm.viz.labels import shorten
from hyperlm.viz.palette import class_style
from hyperlm.viz.style import caption, heading, in_style, name_ticks, new_figure, panel

__all__ = ["Lines", "intervals_figure"]

Lines = Mapping[str, tuple[float, float, float]]
_ACROSS = 5  # panels side by side at most


@in_style
def intervals_figure(
    panels: Mapping[str, Lines],
    *,
    x_label: str,
    origin: float | None = None,
    same_scale: bool = False,
    title: str = "",
    notes: Sequence[str] = (),
    dark: bool = False,
) -> Figure:
    """A marker at ``middle`` and a bar from ``low`` to ``high`` where both are finite.

    Args:
        panels: title -> lines, top to bottom; all panels share the names, and a name that a panel
            lacks has an empty line in it.
        x_label: of the horizontal axes.
        origin: where a vertical line marks no difference.
        same_scale: all panels show one quantity.
        title: Drawn literally.
        notes: Lines below the panels.
        dark: On a dark page.
    Raises:
        OptionError: No panel, or a panel without a line.
    """
    if not panels or not all(panels.values()):
        raise OptionError("intervals need at least one panel, and every panel at least one line.")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    down = -(-len(panels) // _ACROSS)
    across = -(-len(panels) // down)  # rows of equal length
    height = 0.9 + down * (0.45 + 0.19 * len(names))
    fig, colors = new_figure(5.4 if across == 1 else 8.0, height, dark=dark)
    shade, _ = class_style(0, colors)  # rows have names: colours would say nothing more
    for number, (head, lines) in enumerate(panels.items(), start=1):
        axes = panel(fig, down, across, number)
        if origin is not None:
            axes.axvline(origin, color=colors.muted, linewidth=0.8, zorder=1)
        for row, name in enumerate(names):
            middle, low, high = lines.get(name, (math.nan,) * 3)
            if not math.isfinite(middle):
                continue
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [row, row], color=shade, alpha=0.55, zorder=2)
            axes.plot([middle], [row], color=shade, marker="o", linestyle="none", zorder=3)
        axes.set_ylim(len(names) - 0.4, -0.6)
        first = (number - 1) % across == 0
        name_ticks(axes, "y", range(len(names)), [shorten(n, 66) if first else "" for n in names])
        axes.set_title(shorten(head, 30), parse_math=False)
        if same_scale:
            axes.set_xlim(*_ends(panels))
        if len(panels) - number < across:
            axes.set_xlabel(shorten(x_label, 60), parse_math=False)
    heading(fig, title)
    if notes:
        caption(fig, notes, colors)
    return fig


def _ends(panels: Mapping[str, Lines]) -> tuple[float, float]:
    every = [x for lines in panels.values() for line in lines.values() for x in line]
    known = [x for x in every if math.isfinite(x)] or [0.0]
    pad = 0.05 * (max(known) - min(known)) or 1.0
    return min(known) - pad, max(known) + pad
