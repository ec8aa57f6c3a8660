"""Named points with their spread: what a thing costs against what it gives.

In: name -> ``(x, middle, low, high)``. Out: a Figure.
"""

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from hyperlm.errors import OptionError
from hyperlm.viz.labels import shorten
from hyperlm.viz.palette import class_style
from hyperlm.viz.style import caption, heading, in_style, new_figure, panel

__all__ = ["scatter_figure"]

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "p")


@in_style
def scatter_figure(
    points: Mapping[str, tuple[float, float, float, float]],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    notes: Sequence[str] = (),
    dark: bool = False,
) -> Figure:
    """One marker for each name, with a bar from ``low`` to ``high`` where both are finite.

    Args:
        points: x > 0, drawn on a logarithmic axis.
        title: Drawn literally.
        notes: Lines below the axes.
        dark: On a dark page.
    Raises:
        OptionError: No point, or an x that has no logarithm.
    """
    if not points:
        raise OptionError("a scatter needs at least one point.")
    bad = [name for name, (x, *_) in points.items() if not 0 < x < math.inf]
    if bad:
        raise OptionError(f"{bad[0]}: x is {points[bad[0]][0]:g}; a logarithmic axis needs x > 0.")
    fig, colors = new_figure(7.2, 3.8, dark=dark)
    axes = panel(fig)
    for number, (name, (x, middle, low, high)) in enumerate(points.items()):
        shade, _ = class_style(number, colors)
        spread = None
        if math.isfinite(low) and math.isfinite(high):
            spread = [[middle - low], [high - middle]]
        axes.errorbar(
            [x],
            [middle],
            yerr=spread,
            color=shade,
            marker=_MARKS[number % len(_MARKS)],
            markersize=6,
            linestyle="none",
            elinewidth=1,
            label=shorten(name, 34),
            zorder=3,
        )
    axes.set_xscale("log")
    # Plain numbers: nothing in our figures is read as mathematics.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(shorten(x_label, 70), parse_math=False)
    axes.set_ylabel(shorten(y_label, 60), parse_math=False)
    # Beside the axes: points may lie anywhere inside them.
    fig.legend(loc="outside right center")
    heading(fig, title)
    if notes:
        caption(fig, notes, colors)
    return fig
