"""Geometries on the mean of the data sets: what single sets are too small to tell apart."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from hyperlm.experiments.markdown import BARS, figure, picture, save_picture, table
from hyperlm.experiments.quantities import (
    Quantity,
    by_text,
    difference,
    known,
    quantities,
    shared,
    values,
)
from hyperlm.experiments.report_compare import PAIRS, Arms, differences
from hyperlm.experiments.results import Record
from hyperlm.experiments.statistics import Difference, over_sets, verdicts
from hyperlm.viz.intervals import Lines, intervals_figure

__all__ = ["pooled"]

_LEAST = 3  # seeds of a set that both arms share
_Answer = tuple[int, Difference, str]
_INTRODUCTION = (
    "All sets together: the mean of their differences, each set counting alike, where both arms "
    "share three seeds on every one of them; in brackets the number of sets where a figure is not "
    "defined on all. Seeds and texts of all sets are tested at once, so that smaller differences "
    "show than on a single one; whether further sets would have them, so few cannot say. Bold: a "
    "verdict, adjusted over the dimensions (dagger: over seeds alone, on these texts). `±`: over "
    "seeds."
)


def pooled(kinds_of_training: Mapping[str, Mapping[str, Arms]], images: Path) -> list[str]:
    """Paragraphs; empty where no pair of arms was measured on two sets. Draws one figure.

    Args:
        kinds_of_training: by its name, the arms of each data set. Of one set with texts of several
            lengths (``wos, 256 tokens``) that with the most runs counts. The first that compares
            anything is drawn.
    """
    rows: list[tuple[list[str], dict[str, str]]] = []
    drawn: list[str] = []
    for training, sets in kinds_of_training.items():
        sets = _one_of_each(sets)
        for first, second in PAIRS:
            rows += _rows(training, _with_both(sets, first, second), first, second)
        if rows and not drawn:
            drawn = [_draw(training, sets, images)]
    if not rows:
        return []
    there = {name for _, cells in rows for name in cells}
    figures = [name for kind in quantities(1) if (name := _marked(kind)) in there]
    header = ["mean over sets", "sets", "d", *figures]
    cells = [[*begin, *(found.get(name, "-") for name in figures)] for begin, found in rows]
    return [_INTRODUCTION, table(header, cells), *drawn]


def _rows(
    training: str, sets: Mapping[str, Arms], first: str, second: str
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """For each dimension what begins its row, and the difference by figure."""
    if len(sets) < 2:
        return
    kinds, answers, counts = [], {}, {}
    for kind, having in _figures(sets):
        if found := _answers(having, kind.name, first, second):
            kinds.append(kind)
            answers[kind.name], counts[kind.name] = found, len(having)
    dims = sorted({dim for found in answers.values() for dim, _, _ in found})
    shown = {kind: differences(answers[kind.name], dims, kind) for kind in kinds}
    for at, dim in enumerate(dims):
        cells = {}
        for kind, row in shown.items():
            half = {of: d.over_seeds.half for of, d, _ in answers[kind.name]}.get(dim)
            spread = f" ± {half:.1f}" if kind.name == "path" and half is not None else ""
            fewer = f" ({counts[kind.name]})" if counts[kind.name] < len(sets) else ""
            cells[_marked(kind)] = row[at] + spread + fewer
        yield [f"{training}: {first} less {second}", str(len(sets)), str(dim)], cells


def _draw(training: str, sets: Mapping[str, Arms], images: Path) -> str:
    """Whole paths: every pair's difference on each set, and their mean below."""
    panels: dict[str, Lines] = {}
    there = {arm for arms in sets.values() for arm, _ in arms}
    dim = 0
    for first, second in PAIRS:
        having = _with_both(sets, first, second)
        found = _answers(having, "path", first, second) if len(having) > 1 else []
        if not found or (second == "linear" and "linear, names" in there):
            continue  # heads that start alike say more
        dim = min(found, key=lambda one: abs(one[0] - 64))[0]
        lines = {}
        for name, arms in having.items():
            kind = next(one for one in known(arms[first, dim]) if one.name == "path")
            lines[name] = difference(arms[first, dim], arms[second, dim], kind, "test")
        [mean] = [d for at, d, _ in found if at == dim]
        panels[f"{first} less {second}"] = {
            name: d.over_seeds.bar for name, d in [*lines.items(), ("all together", mean)]
        }
    image = picture(images, "together")
    notes = [f"{training.capitalize()}, d = {dim}. {BARS}"]
    label = "points of whole paths, test"
    save_picture(
        intervals_figure(panels, x_label=label, origin=0.0, same_scale=True, notes=notes), image
    )
    return figure(image, "Differences on each data set and on all together")


def _marked(kind: Quantity) -> str:
    return kind.name + " †" * (kind.texts is None)


def _with_both(sets: Mapping[str, Arms], first: str, second: str) -> dict[str, Arms]:
    return {
        name: arms for name, arms in sets.items() if {first, second} <= {arm for arm, _ in arms}
    }


def _one_of_each(sets: Mapping[str, Arms]) -> dict[str, Arms]:
    best: dict[str, str] = {}
    for name, arms in sets.items():
        base = name.partition(", ")[0]
        if base not in best or _runs(arms) > _runs(sets[best[base]]):
            best[base] = name
    return {name: sets[name] for name in best.values()}


def _runs(arms: Arms) -> int:
    return sum(map(len, arms.values()))


def _figures(sets: Mapping[str, Arms]) -> Iterator[tuple[Quantity, dict[str, Arms]]]:
    """Quantities that two sets have, with these sets; levels of different trees are none."""
    kinds: dict[str, Quantity] = {}
    having: dict[str, dict[str, Arms]] = {}
    for name, arms in sets.items():
        for kind in known(record for records in arms.values() for record in records):
            kinds.setdefault(kind.name, kind)
            having.setdefault(kind.name, {})[name] = arms
    for name, kind in kinds.items():
        if len(having[name]) > 1 and not kind.is_level:
            yield kind, having[name]


def _answers(sets: Mapping[str, Arms], name: str, first: str, second: str) -> list[_Answer]:
    """The difference and the verdict by dimension, of those with enough seeds on every set."""
    every = [
        {dim for arm, dim in arms if (second, dim) in arms and arm == first}
        for arms in sets.values()
    ]
    found, higher = {}, True
    for dim in sorted(set.intersection(*every)):
        parts = []
        for arms in sets.values():
            a, b = shared(arms[first, dim], arms[second, dim])
            if len(a) >= _LEAST:
                kind = next(one for one in known([*a, *b]) if one.name == name)
                higher = kind.higher is not False
                parts.append(_part(a, b, kind))
        if len(parts) == len(sets):
            found[dim] = over_sets(parts)
    pairs = [(first, second)] * len(found)
    words = verdicts(list(found.values()), pairs, higher_is_better=higher)
    return [(dim, d, said) for (dim, d), said in zip(found.items(), words, strict=True)]


def _part(
    first: Sequence[Record], second: Sequence[Record], kind: Quantity
) -> tuple[np.ndarray, np.ndarray | None]:
    """First less second by seed, and by text."""
    of_seeds = np.subtract(values(first, kind, "test"), values(second, kind, "test"))
    mine, yours = by_text(first, kind, "test"), by_text(second, kind, "test")
    if mine is None or yours is None:
        return of_seeds, None
    return of_seeds, (mine - yours).mean(0)
