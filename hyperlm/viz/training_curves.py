"""What a training run logged: loss, path accuracy, temperatures, curvature.

In: rows of ``train_log.jsonl``. Out: a Figure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hyperlm.errors import DataError, OptionError
from hyperlm.viz.labels import shorten
from hyperlm.viz.palette import Theme, class_style
from hyperlm.viz.rundata import RunData
from hyperlm.viz.style import caption, heading, in_style, new_figure, panel

__all__ = ["training_figure"]


@in_style
def training_figure(run: RunData, *, title: str | None = None, dark: bool = False) -> Figure:
    """Loss, path accuracy, temperatures, and curvature with the labels' mean radius, over epochs.

    Args:
        run: With a training log.
        title: By default the run's.
        dark: On a dark page.
    Raises:
        OptionError: No training log. DataError: The log has no numbers to draw.
    """
    if not run.log:
        raise OptionError(
            f"{run.title or 'this'} has no training log; give the folder of a run, which holds "
            "train_log.jsonl."
        )
    log = [row for row in run.log if isinstance(row.get("epoch"), int | float)]
    fig, colors = new_figure(8.0, 5.2, dark=dark)
    panels = [panel(fig, 2, 2, number) for number in range(1, 5)]
    drawn = _curve(panels[0], log, "loss", "training", colors, 0)
    drawn += _curve(panels[0], log, "eval_loss", "validation", colors, 4, marker="o")
    drawn += _curve(panels[1], log, "eval_path_accuracy", "validation", colors, 4, marker="o")
    levels = sorted(
        {key for row in log for key in row if key.startswith("temperature_")}, key=_level
    )
    for number, key in enumerate(levels):
        name = run.level_names[number] if number < len(run.level_names) else f"L{number + 1}"
        drawn += _curve(panels[2], log, key, shorten(name, 20), colors, number)
    learned = _curve(panels[3], log, "curvature", "curvature c", colors, 1)
    drawn += learned + _curve(
        panels[3], log, "node_radius", "mean label radius, sqrt(c) r", colors, 6
    )
    if not drawn:
        raise DataError(
            f"{run.title or 'this'}: the training log has none of loss, eval_path_accuracy, "
            "temperature and curvature. Give a run of this version of hyperlm."
        )
    names = (
        "Loss",
        "Path accuracy",
        "Temperature",
        "Curvature and radius" if learned else "Radius",
    )
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name)
        if not axes.lines:
            axes.text(
                0.5, 0.5, "not in the log", ha="center", va="center", color=colors.muted,
                transform=axes.transAxes,
            )  # fmt: skip
            axes.grid(visible=False)
            continue
        axes.set_xlim(0, 1.02 * max(float(np.asarray(line.get_xdata())[-1]) for line in axes.lines))
        if name in ("Loss", "Path accuracy", "Radius", "Curvature and radius"):
            top = max(float(np.nan_to_num(line.get_ydata()).max()) for line in axes.lines)
            axes.set_ylim(0, 1.08 * top or 1.0)
        labels = axes.get_legend_handles_labels()[1]
        if len(labels) > 1:
            axes.legend(loc="best", ncols=2 if len(labels) > 6 else 1)
        else:
            axes.set_ylabel(labels[0])
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    for axes in panels[2:]:
        axes.set_xlabel("epoch")
    heading(fig, run.title if title is None else title)
    best = [row["eval_path_accuracy"] for row in log if "eval_path_accuracy" in row]
    facts = [f"Best path accuracy on validation texts {max(best):.1%}."] if best else []
    if not learned:
        facts.append(
            "Flat points have no curvature."
            if run.c == 0
            else f"The curvature was held at c = {run.c:.3g}."
        )
    caption(fig, [" ".join(facts)], colors)
    return fig


def _level(key: str) -> tuple[int, str]:
    number = key.rpartition("_")[2]
    return (int(number) if number.isdigit() else 0, key)


def _curve(
    axes: Axes,
    log: Sequence[Mapping[str, Any]],
    key: str,
    name: str,
    colors: Theme,
    number: int,
    *,
    marker: str = "",
) -> int:
    """One quantity over epochs; 1 if the log has it. A gap where it is not finite."""
    rows = [(row["epoch"], row[key]) for row in log if isinstance(row.get(key), int | float)]
    if not rows:
        return 0
    x, y = np.array(rows, dtype=np.float64).T
    y = np.where(np.isfinite(y), y, np.nan)
    shade, mark = class_style(number, colors)
    dot = marker or (mark if len(rows) == 1 else "")
    axes.plot(x, y, color=shade, label=name, marker=dot)
    return 1
