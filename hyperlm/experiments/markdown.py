"""Pieces of the report: tables, figures with their spread, and verdicts gathered into sentences."""

import functools
import math
import re
from collections.abc import Sequence
from pathlib import Path

from hyperlm.experiments.quantities import Quantity
from hyperlm.experiments.statistics import Difference, Interval
from hyperlm.viz.save import save_figure

__all__ = ["BARS", "figure", "gathered", "picture", "save_picture", "signed", "spread", "table"]


BARS = "Bars: 95 % intervals over seeds; none where nothing is drawn or fewer than three ran."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell would end it."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def spread(interval: Interval, quantity: Quantity) -> str:
    """``80.1 ± 0.4``: mean and half the 95 % interval; the mean alone for a single seed."""
    digits = 1 if quantity.percent else 2
    if math.isnan(interval.mean):
        return "-"
    if math.isnan(interval.half):
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ± {interval.half:.{digits}f}"


def signed(value: float, quantity: Quantity) -> str:
    """``+0.4`` or ``−0.12``; what rounds to nothing has no sign."""
    text = f"{value:+.{1 if quantity.percent else 2}f}"
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


def gathered(
    found: Sequence[tuple[int, Difference, str]], quantity: Quantity, what: str = "d"
) -> str:
    """Verdicts of several dimensions as one sentence, equal ones together.

    ``poincare is better at d = 4 (+2.0), 8 (+1.1); no difference found at d = 64 (+0.2).``
    """
    by_words: dict[str, list[str]] = {}
    for at, difference, words in found:
        shown = f"{at} ({signed(difference.over_seeds.mean, quantity)})"
        by_words.setdefault(words, []).append(shown)
    if not by_words:
        return "not measured."
    return "; ".join(f"{words} at {what} = {', '.join(at)}" for words, at in by_words.items()) + "."


def picture(images: Path, *words: str) -> Path:
    """Where a picture lies: the name of a data set may have slashes, blanks and brackets."""
    return images / (re.sub(r"[^\w.-]+", "_", "-".join(words)) + ".png")


# Lines and labels do with few colours, and a repository with a third of the bytes.
save_picture = functools.partial(save_figure, colors=256)


def figure(image: Path, text: str) -> str:
    """A picture of the images folder beside the report."""
    return f"![{re.sub(r'[][]', '', text)}](images/{image.name})"
