"""Per-level confusion: which classes are taken for which, and how far wrong answers go.

In: gold and predicted end nodes. Out: a Figure with a matrix for every level. Wide levels show
their largest classes in the order of the tree, divided by top class; the rest is one row.
"""

from collections import Counter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hyperlm.errors import OptionError
from hyperlm.viz.labels import shorten
from hyperlm.viz.palette import Theme, class_style, top_classes
from hyperlm.viz.rundata import RunData, TextData
from hyperlm.viz.style import caption, heading, in_style, name_ticks, new_figure, panel

__all__ = ["confusion_figure", "level_confusion"]

_LARGEST = 24  # classes shown of a level
_ACROSS = 3  # matrices side by side
_REST = "(rest)"  # no label is called so
_MOST = 9  # levels drawn; deeper ones have too few texts to say anything


def level_confusion(
    taxonomy: Any, texts: TextData, level: int, *, largest: int = _LARGEST
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of gold against predicted classes of one level.

    Args:
        level: From 1, the top.
        largest: How many classes to keep apart: those with most gold texts, equals from all over
            the tree.
    Returns:
        ``(K,)`` classes kept, in the order of the tree; ``(K + 1, K + 1)`` texts of each gold row
        in each predicted column, other classes of the level, and paths that end above it, in the
        last row and column. Texts whose gold path ends above the level are not counted.
    """
    lines = np.concatenate([taxonomy.path_matrix, np.full((1, taxonomy.num_levels), -1)])
    gold, said = lines[texts.gold, level - 1], lines[texts.predicted, level - 1]
    said, gold = said[gold >= 0], gold[gold >= 0]
    size = np.bincount(gold, minlength=len(taxonomy))
    nodes = np.asarray(taxonomy.levels[level - 1])
    kept = nodes[np.lexsort((nodes * 0.618034 % 1, -size[nodes]))[:largest]]
    kept = np.sort(kept[size[kept] > 0]) if len(nodes) > largest else np.sort(kept)
    # Breadth-first numbers keep siblings together, and families of one top class.
    column = np.full(len(taxonomy) + 1, len(kept))
    column[kept] = np.arange(len(kept))
    matrix = np.zeros((len(kept) + 1, len(kept) + 1), dtype=np.int64)
    np.add.at(matrix, (column[gold], column[said]), 1)
    return kept, matrix


@in_style
def confusion_figure(
    run: RunData, *, level: int | None = None, title: str | None = None, dark: bool = False
) -> Figure:
    """Matrices of gold (rows) against predicted classes (columns), in shares of the gold class.

    Args:
        run: With texts that have gold paths.
        level: Only this level, counted from 1; by default the first nine.
        title: By default the run's.
        dark: On a dark page.
    Raises:
        OptionError: No texts with gold paths, or no such level.
    """
    texts, taxonomy = run.texts, run.taxonomy
    if texts is None or not (texts.gold >= 0).any():
        raise OptionError(
            "confusion needs texts with gold labels; there are none. Give the folder of a run, "
            "name its texts with --data, and leave --limit above 0."
        )
    deepest = taxonomy.num_levels
    if level is not None and not 1 <= level <= deepest:
        raise OptionError(f"level = {level}; this taxonomy has the levels 1 to {deepest}.")
    levels = [level] if level is not None else list(range(1, min(deepest, _MOST) + 1))
    found = [level_confusion(taxonomy, texts, one) for one in levels]
    across = min(_ACROSS, len(levels))
    down = -(-len(levels) // across)
    widest = max(len(kept) for kept, _ in found)
    side = 2.4 + 0.115 * widest
    fig, colors = new_figure(across * side, 0.9 + down * side, dark=dark)
    tops = top_classes(taxonomy)
    for number, (one, (kept, matrix)) in enumerate(zip(levels, found, strict=True), start=1):
        axes = panel(fig, down, across, number)
        name = shorten(run.level_names[one - 1], 24)
        right = _right(taxonomy, texts, one)
        axes.set_title(f"{name}: {right}" if right else name)
        _matrix(axes, taxonomy, kept, matrix, tops, colors)
    heading(fig, run.title if title is None else title)
    facts = [
        f"{int((texts.gold >= 0).sum()):,} texts ({texts.split}). Rows: gold classes, columns: "
        "predicted, shade: share of the row.",
    ]
    if max(len(taxonomy.levels[one - 1]) for one in levels) > _LARGEST:
        facts.append(
            f"Of wide levels the {_LARGEST} largest classes, in the order of the tree with lines "
            "between top classes."
        )
    if any(_has_rest(matrix) for _, matrix in found):
        facts.append(
            "(rest): classes that are not shown, and in columns also answers that end above the "
            "level."
        )
    facts.append(_how_wrong(taxonomy, texts))
    caption(fig, facts, colors)
    return fig


def _has_rest(matrix: NDArray[np.int64]) -> bool:
    return bool(matrix[-1].any() or matrix[:, -1].any())


def _names(taxonomy: Any, nodes: NDArray[np.int64]) -> list[str]:
    """Names, and before those that several nodes have their parents'."""
    plain = [taxonomy.name(int(node)) for node in nodes]
    times, named = Counter(plain), []
    for node, name in zip(nodes.tolist(), plain, strict=True):
        above = int(taxonomy.parent[node])
        if times[name] > 1 and above >= 0:
            named.append(f"{shorten(taxonomy.name(above), 14)} \u203a {shorten(name, 14)}")
        else:
            named.append(shorten(name, 22))
    return named


def _matrix(
    axes: Axes,
    taxonomy: Any,
    kept: NDArray[np.int64],
    matrix: NDArray[np.int64],
    tops: NDArray[np.int64],
    colors: Theme,
) -> None:
    rest = _has_rest(matrix)
    shown = matrix if rest else matrix[:-1, :-1]
    share = shown / np.maximum(shown.sum(1, keepdims=True), 1)
    # A square root shows what is rare: 4 per cent is a fifth of the way.
    ramp = LinearSegmentedColormap.from_list("share", colors.shades())
    image = axes.imshow(np.sqrt(share), vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    image.set_cmap(ramp)
    names = _names(taxonomy, kept) + [_REST] * rest
    shades = [colors.text_color(class_style(int(tops[n]), colors)[0]) for n in kept]
    shades += [colors.muted] * rest
    size = min(7.0, max(3.6, 165 / max(len(names), 1)))
    for which in ("x", "y"):
        name_ticks(axes, which, range(len(names)), names)
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_tick_params(labelsize=size, length=0, rotation=90 if which == "x" else 0)
        for label, shade in zip(axis.get_ticklabels(), shades, strict=True):
            label.set_color(shade)
    # Lines between top classes.
    ends = np.flatnonzero(np.diff(tops[kept])) + 0.5 if len(kept) > 1 else np.zeros(0)
    if rest and len(kept):
        ends = np.append(ends, len(kept) - 0.5)
    if len(ends) < len(names) - 1:
        for end in ends:
            axes.axhline(end, color=colors.muted, linewidth=0.5)
            axes.axvline(end, color=colors.muted, linewidth=0.5)
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    if len(names) <= 12:
        for row, column in zip(*np.nonzero(shown), strict=True):
            dark_cell = np.sqrt(share[row, column]) > 0.5
            axes.text(
                column, row, str(int(shown[row, column])), ha="center", va="center",
                fontsize=min(6.5, 60 / len(names)), color=colors.paper if dark_cell else colors.ink,
            )  # fmt: skip


def _right(taxonomy: Any, texts: TextData, level: int) -> str:
    """``82% right``, of the texts whose gold path reaches the level."""
    lines = np.concatenate([taxonomy.path_matrix, np.full((1, taxonomy.num_levels), -1)])
    gold, said = lines[texts.gold, level - 1], lines[texts.predicted, level - 1]
    there = gold >= 0
    return f"{(gold == said)[there].mean():.0%} right" if there.any() else ""


def _how_wrong(taxonomy: Any, texts: TextData) -> str:
    """Where wrong paths leave the gold ones: among top classes, or how far down."""
    known = (texts.gold >= 0) & (texts.predicted != texts.gold)
    if not known.any():
        return "Every path is right."
    lines = np.concatenate([taxonomy.path_matrix, np.full((1, taxonomy.num_levels), -1)])
    gold, said = lines[texts.gold[known]], lines[texts.predicted[known]]
    left = (gold != said).argmax(1)  # the first level they differ at
    wrong = int(known.sum())
    early = float((left == 0).mean())
    return (
        f"Of {wrong:,} wrong paths {early:.0%} leave the gold one at the top; the others stay in "
        "its top class."
    )
