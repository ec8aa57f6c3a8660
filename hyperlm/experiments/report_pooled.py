"""Geometries on the mean of the data sets: what single sets are too small to tell apart."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hyperlm.experiments.markdown import (
    BARS,
    figure,
    picture,
    save_picture,
    signed,
    table,
)
from hyperlm.experiments.quantities import (
    Quantity,
    by_text,
    difference,
    drawn,
    known,
    quantities,
    shared,
    values,
)
from hyperlm.experiments.report_compare import Arms
from hyperlm.experiments.results import Record
from hyperlm.experiments.sources import called
from hyperlm.experiments.statistics import (
    BETTER,
    BETTER_HERE,
    Difference,
    over_sets,
    verdicts,
)
from hyperlm.viz.intervals import Lines, intervals_figure

__all__ = ["pooled"]

_LEAST = 3  # seeds of a set that both arms share
_TWIN = "linear, names"  # starts as points do; a linear head from a random start does not
_PAIRS = (("poincare", "euclidean"), ("poincare", "linear"), ("euclidean", "linear"))
_INTRODUCTION = (
    "All sets together: the mean of their differences, each set counting alike, over the sets on "
    "which both arms share three seeds; in brackets on how many a figure is defined, where not on "
    "all. Seeds and texts of all sets are tested at once, so that smaller differences show than on "
    "a single one; whether further sets would have them, so few cannot say. Bold: a verdict "
    "(dagger: over seeds alone, on these texts), adjusted over the dimensions of a pair, and not "
    "for all that stands here: some are chance. `±`: over seeds. Less is better of *severity*, "
    "*distance* (both in edges, of which deep trees have more) and *ECE*. Of one set in several "
    "forms (length of texts, backbone, its dropout and precision, files) that with the most runs "
    "of a pair counts."
)
_Pool = Mapping[str, tuple[Sequence[Record], Sequence[Record]]]
"""By set, the records of two arms at one dimension for the seeds that both have."""
_Cell = tuple[Difference, str, int]
"""Difference, verdict, number of sets."""


def pooled(kinds_of_training: Mapping[str, Mapping[str, Arms]], images: Path) -> list[str]:
    """Paragraphs; empty where no pair of arms was measured on two sets.

    Args:
        kinds_of_training: by its name, the arms of each data set. A figure is drawn for each.
        images: folder of the figures.
    """
    rows: list[list[str]] = []
    figures: list[str] = []
    names = [_marked(kind) for kind in quantities(1)]
    for training, sets in kinds_of_training.items():
        pools = {
            (first, second): found
            for first, second in _pairs(sets)
            if (found := _pools(sets, first, second))
        }
        for (first, second), by_dim in pools.items():
            for (dim, pool), cells in zip(
                by_dim.items(), _cells(by_dim, first, second), strict=True
            ):
                begin = [
                    f"{training}: {first} less {second}",
                    ", ".join(map(_short, pool)),
                    f"{dim}",
                ]
                rows.append([*begin, *(cells.get(name, "-") for name in names)])
        figures += _draw(training, pools, images)
    if not rows:
        return []
    kept = [at for at in range(len(rows[0])) if any(row[at] != "-" for row in rows)]
    header = ["mean over sets", "sets", "d", *names]
    return [
        _INTRODUCTION,
        table([header[at] for at in kept], [[row[at] for at in kept] for row in rows]),
        *figures,
    ]


def _pairs(sets: Mapping[str, Arms]) -> list[tuple[str, str]]:
    """Pairs of geometries whose heads start alike."""
    there = {arm for arms in sets.values() for arm, _ in arms}
    return [
        (first, _TWIN if second == "linear" and _TWIN in there else second)
        for first, second in _PAIRS
    ]


def _pools(sets: Mapping[str, Arms], first: str, second: str) -> dict[int, _Pool]:
    """By dimension, the sets on which two arms can be compared, where these are two or more."""
    pools: dict[int, _Pool] = {}
    for dim in sorted({dim for arms in sets.values() for _, dim in arms}):
        best: dict[str, tuple[str, list[Record], list[Record]]] = {}
        for name, arms in sets.items():
            a, b = shared(arms.get((first, dim), ()), arms.get((second, dim), ()))
            if sum(drawn(a, b, "test")) < _LEAST:
                continue
            base = called(a[0].data)
            if base not in best or len(a) > len(best[base][1]):
                best[base] = name, a, b
        if len(best) > 1:
            pools[dim] = {name: (a, b) for name, a, b in best.values()}
    return pools


def _cells(by_dim: Mapping[int, _Pool], first: str, second: str) -> list[dict[str, str]]:
    """For each dimension the difference by figure."""
    cells: list[dict[str, str]] = [{} for _ in by_dim]
    for kind in quantities(1):
        found = _answers(by_dim, kind.name, first, second)
        for row, (dim, pool) in zip(cells, by_dim.items(), strict=True):
            if dim in found and not kind.is_level:
                answer, words, count = found[dim]
                shown = signed(answer.over_seeds.mean, kind)
                bold = words.endswith((BETTER, BETTER_HERE))
                row[_marked(kind)] = (
                    (f"**{shown}**" if bold else shown)
                    + (f" ± {answer.over_seeds.half:.1f}" if kind.name == "path" else "")
                    + (f" ({count})" if count < len(pool) else "")
                )
    return cells


def _answers(by_dim: Mapping[int, _Pool], name: str, first: str, second: str) -> dict[int, _Cell]:
    """One figure: by dimension the difference, the verdict and on how many sets it is defined."""
    found: dict[int, tuple[Difference, int]] = {}
    higher = True
    for dim, pool in by_dim.items():
        parts = []
        for a, b in pool.values():
            for kind in known([*a, *b]):
                if kind.name == name:
                    higher = kind.higher is not False
                    parts.append(_part(a, b, kind))
        if len(parts) > 1:
            found[dim] = over_sets(parts), len(parts)
    differences = [one for one, _ in found.values()]
    words = verdicts(differences, [(first, second)] * len(found), higher_is_better=higher)
    return {
        dim: (one, said, count)
        for (dim, (one, count)), said in zip(found.items(), words, strict=True)
    }


def _part(
    first: Sequence[Record], second: Sequence[Record], kind: Quantity
) -> tuple[np.ndarray, np.ndarray | None]:
    """First less second by seed, copies left out, and by text."""
    of_seeds = np.subtract(values(first, kind, "test"), values(second, kind, "test"))
    of_seeds = of_seeds[drawn(first, second, "test")]
    mine, yours = by_text(first, kind, "test"), by_text(second, kind, "test")
    if mine is None or yours is None:
        return of_seeds, None
    of_texts = (mine - yours).mean(0)
    if kind.name == "hF1":
        # Known by its distances: F1 lacks of 100 what they are to the lengths of the set's paths.
        lacking = 100 - np.mean(values([*first, *second], kind, "test"))
        of_texts = -of_texts * lacking / (np.concatenate([mine, yours]).mean() or 1.0)
    return of_seeds, of_texts


def _marked(kind: Quantity) -> str:
    return kind.name + " †" * (kind.texts is None)


def _short(name: str) -> str:
    """``wos (256 tokens)``: without commas, which part the sets of a row."""
    base, comma, form = name.partition(", ")
    return f"{base} ({form})" if comma else base


def _draw(
    training: str, pools: Mapping[tuple[str, str], Mapping[int, _Pool]], images: Path
) -> list[str]:
    """Whole paths: every pair's difference on each set, and their mean below."""
    dims = [set(by_dim) for by_dim in pools.values()]
    together = set.intersection(*dims) if dims else set()
    if not together:
        return []
    dim = min(together, key=lambda one: abs(one - 64))
    order = list(dict.fromkeys(name for by_dim in pools.values() for name in by_dim[dim]))
    panels: dict[str, Lines] = {}
    for (first, second), by_dim in pools.items():
        mean, _, _ = _answers({dim: by_dim[dim]}, "path", first, second)[dim]
        bars = dict.fromkeys(order, (math.nan,) * 3)
        for name, (a, b) in by_dim[dim].items():
            kind = next(one for one in known(a) if one.name == "path")
            bars[name] = difference(a, b, kind, "test").over_seeds.bar
        panels[f"{first} less {second}"] = {**bars, "all together": mean.over_seeds.bar}
    image = picture(images, "together", training)
    save_picture(
        intervals_figure(
            panels,
            x_label="points of whole paths, test",
            origin=0.0,
            same_scale=True,
            notes=[f"{training.capitalize()}, d = {dim}. {BARS}"],
        ),
        image,
    )
    return [figure(image, f"Differences on each set and on all together, {training}")]
