"""Layer sweep: what a head scores on each layer of the backbone.

In: scores per curve and layer, or a table of them. Out: a Figure.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hyperlm.errors import DataError, OptionError
from hyperlm.viz.curves import Panel, draw_panel
from hyperlm.viz.palette import class_style
from hyperlm.viz.style import caption, heading, in_style, new_figure, panel

__all__ = ["layer_sweep_figure", "read_sweep"]


def read_sweep(path: str | PathLike[str]) -> dict[str, dict[int, list[float]]]:
    """Scores from a table with a column ``layer`` and a column for every curve.

    Args:
        path: ``.csv``, or ``.json`` with a list of objects. Rows of the same layer are
            repetitions; an empty cell is no score.
    Returns:
        Curve -> layer -> scores, as :func:`layer_sweep_figure` takes them.
    Raises:
        DataError: The file cannot be read, has no such column, or a cell is no number.
    """
    path = Path(path)
    remedy = "Give a .csv with a column layer and one column per curve, or a .json list of objects."
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            rows: Any = json.loads(text)
        else:
            rows = list(csv.DictReader(text.splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a layer sweep ({error}). {remedy}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: this is no list of objects. {remedy}")
    curves: dict[str, dict[int, list[float]]] = {}
    for number, row in enumerate(rows, start=1):
        if "layer" not in row:
            found = ", ".join(str(key) for key in list(row)[:8])
            raise DataError(f"{path}: row {number} has no layer, only {found}. {remedy}")
        layer = _number(row["layer"])
        if layer is None or layer != int(layer):
            raise DataError(f"{path}: row {number}: layer {row['layer']!r} is no whole number.")
        for name, cell in row.items():
            if name == "layer" or cell in (None, ""):
                continue
            value = _number(cell)
            if value is None:
                raise DataError(
                    f"{path}: row {number}, column {name!r}: {str(cell)[:40]!r} is no finite "
                    "number. Leave out columns that are not scores, and leave cells without a "
                    "score empty."
                )
            curves.setdefault(str(name), {}).setdefault(int(layer), []).append(value)
    if not curves:
        raise DataError(f"{path}: there are no scores. {remedy}")
    return curves


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


@in_style
def layer_sweep_figure(
    scores: Mapping[str, Mapping[int, Sequence[float]]],
    *,
    title: str = "",
    metric: str = "score",
    dark: bool = False,
) -> Figure:
    """One curve per name over the layers a head was put on.

    Args:
        scores: Curve (a level, a geometry, ...) -> layer -> one value per repetition.
        title: Drawn literally.
        metric: What the values are, for the axis.
        dark: On a dark page.
    Raises:
        OptionError: No curve, a layer without values, or values that are not finite.
    """
    if not scores or not all(scores.values()):
        raise OptionError("a layer sweep needs at least one curve of at least one layer.")
    for name, curve in scores.items():
        for layer, values in curve.items():
            if not len(values) or not np.isfinite(values).all():
                raise OptionError(
                    f"layer sweep: {name!r}, layer {layer} has the values {list(values)}; give one "
                    "or more finite numbers."
                )
    fig, colors = new_figure(5.6, 4.0, dark=dark)
    axes = panel(fig)
    series = {
        name: [
            (float(layer), float(np.mean(values)), min(values), max(values))
            for layer, values in sorted(curve.items())
        ]
        for name, curve in scores.items()
    }
    draw_panel(axes, Panel("", metric, series), list(scores), colors)
    for number, points in enumerate(series.values()):
        at, score = max(points, key=lambda point: point[1])[:2]
        axes.plot(
            at, score, marker="o", markersize=9, markerfacecolor="none",
            markeredgecolor=class_style(number, colors)[0], markeredgewidth=1.0, zorder=3,
        )  # fmt: skip
    axes.set_xlabel("layer of the backbone")
    axes.legend(loc="best", ncols=2 if len(scores) > 5 else 1)
    heading(fig, title)
    repeats = {len(values) for curve in scores.values() for values in curve.values()}
    facts = "Ringed: the best layer of each curve."
    if max(repeats) > 1:
        few, many = min(repeats), max(repeats)
        count = str(many) if few == many else f"{few} to {many}"
        facts += f" Mean of {count} repetitions; bands from least to greatest."
    caption(fig, [facts], colors)
    return fig
