"""One look for every figure: fonts, lines and colours, light and dark.

In: whether the page is dark. Out: matplotlib settings, for our figures and for anybody's own:
``with matplotlib.rc_context(hyperlm.viz.style(dark=True)): ...``. Our figures start from
matplotlib's defaults, so that a user's settings change nothing, and put everything back.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib.style
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hyperlm.viz.fonts import font_families
from hyperlm.viz.labels import shorten
from hyperlm.viz.palette import Theme, theme

__all__ = ["caption", "heading", "in_style", "name_ticks", "new_figure", "panel", "style"]

P = ParamSpec("P")
DPI = 200.0
_TICK = 7.0  # points


def style(dark: bool = False) -> dict[str, Any]:
    """Settings for :func:`matplotlib.rc_context` or ``matplotlib.style.use``."""
    colors = theme(dark)
    return {
        "figure.facecolor": colors.paper,
        "figure.edgecolor": colors.paper,
        "figure.dpi": DPI,
        "savefig.dpi": "figure",
        "savefig.facecolor": colors.paper,
        "axes.facecolor": colors.disk,
        "axes.edgecolor": colors.rim,
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlecolor": colors.ink,
        "axes.labelsize": 8.0,
        "axes.labelcolor": colors.ink,
        "axes.prop_cycle": cycler(color=list(colors.classes)),
        "grid.color": colors.rim,
        "grid.alpha": 0.45,
        "grid.linewidth": 0.5,
        "font.family": list(font_families()),
        "font.size": 8.0,
        "text.color": colors.ink,
        "text.parse_math": False,
        "xtick.color": colors.muted,
        "ytick.color": colors.muted,
        "xtick.labelsize": _TICK,
        "ytick.labelsize": _TICK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 3.0,
        "ytick.major.size": 3.0,
        "legend.fontsize": 7.0,
        "legend.frameon": False,
        "legend.labelcolor": colors.ink,
        "lines.linewidth": 1.5,
        "lines.markersize": 4.0,
        "patch.linewidth": 0.6,
        "svg.fonttype": "path",
        "svg.hashsalt": "hyperlm",
    }


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A function with a keyword ``dark`` draws in our style, whatever the user's is."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", style(bool(kwargs.get("dark", False)))]):
            fig = draw(*args, **kwargs)
            # Ticks are made when they are first drawn: while our settings hold. The layout stays as
            # it is then, or later drawing would make others.
            fig.draw_without_rendering()
            fig.set_layout_engine("none")
        return fig

    return styled


def new_figure(width: float, height: float, *, dark: bool) -> tuple[Figure, Theme]:
    """An empty figure, ``width`` x ``height`` inches, without pyplot."""
    colors = theme(dark)
    fig = Figure(figsize=(width, height), dpi=DPI, facecolor=colors.paper, layout="constrained")
    FigureCanvasAgg(fig)
    engine = fig.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.08, h_pad=0.07, wspace=0.03, hspace=0.03)
    return fig, colors


def panel(fig: Figure, down: int = 1, across: int = 1, number: int = 1) -> Axes:
    """Axes whose ticks keep our size even where they are made after our settings have ended."""
    axes = fig.add_subplot(down, across, number)
    axes.tick_params(which="both", labelsize=_TICK)
    return axes


def heading(fig: Figure, title: str) -> None:
    """The title, top left, drawn literally, with air between it and the titles of panels."""
    if title:
        engine = fig.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)
        engine.set(rect=(0, 0, 1, 1 - 0.1 / fig.get_figheight()))
        fig.suptitle(
            shorten(title, 90), x=0.012, ha="left", fontsize=11, fontweight="bold", parse_math=False
        )


def caption(fig: Figure, lines: Sequence[str], colors: Theme) -> None:
    """What the reader must know, below the axes."""
    fig.supxlabel(
        "\n".join(lines), x=0.012, ha="left", fontsize=6.6, color=colors.muted, parse_math=False,
        linespacing=1.35,
    )  # fmt: skip


def name_ticks(axes: Axes, which: str, at: Sequence[float], names: Sequence[str]) -> None:
    """Names as tick labels, literally."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(list(at), labels=list(names))
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
