"""The beginning of the report: geometry against geometry on all data sets, on one page.

One table of accuracies, one of differences over all sets together, and for each pair of geometries
one of all verdicts, figure by dimension: those of the sections below, gathered, not tested again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hyperlm.experiments import (
    calibration,
    compare_geometries,
    compare_tuned,
    report_calibration,
    starts,
    trees,
)
from hyperlm.experiments.compare_geometries import question
from hyperlm.experiments.markdown import signed, spread, table
from hyperlm.experiments.quantities import Quantity, interval, known, seeds_of
from hyperlm.experiments.report_compare import PAIRS, Arms
from hyperlm.experiments.report_pooled import pooled
from hyperlm.experiments.report_starts import QUESTIONS
from hyperlm.experiments.report_trees import AVERAGE_PRECISION
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.statistics import (
    BETTER,
    BETTER_HERE,
    NO_DIFFERENCE,
    NO_VERDICT,
    Difference,
)
from hyperlm.experiments.verdicts import judged

__all__ = ["section"]

_ARMS = ("poincare", "euclidean", "linear")
_OTHERS = ("linear", "euclidean")  # that Poincaré points are compared with
_NAMED = "linear, names"  # of whole models, whose linear heads start at random otherwise
_GAIN = "start less random"
# The arms of ``starts`` that are these three, by what they start from.
_STARTED = {
    "names": dict(zip(_ARMS, ("names, T = 20", "names, Euclidean", "names, linear"), strict=True)),
    "texts": dict(zip(_ARMS, ("texts", "texts, Euclidean", "texts, linear"), strict=True)),
}
_SEEDS_ALONE = " †"


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs; empty where geometries have not been compared."""
    names = _names(results, *(one.NAME for one in (compare_geometries, starts, compare_tuned)))
    sets = {name: compare_geometries.arms_of(results, name) for name in names}
    if not any(sets.values()):
        return []
    parts = [
        "## In short",
        "Accuracy of whole paths on test. A row shares the set, the dimension and the start; every "
        "arm has its own learning rates, and val may prefer a start from texts to what training "
        "makes of it (*untrained*). Differences are over the seeds that both arms have. Bold: the "
        "sections below give a verdict. From names, points start at temperature 20, at random at "
        "10: a start is compared as it is used. Lorentz points, which are the ball in other "
        "coordinates, stand below too.",
        _accuracies(results, sets),
        *pooled(
            {
                "backbone trained": {name: compare_tuned.arms_of(results, name) for name in sets},
                "frozen, random start": sets,
            },
            images,
        ),
    ]
    sure = {name: calibration.arms_of(results, name) for name in sets}
    if any(sure.values()):
        parts += [
            "Calibration error of whole paths (ECE), as training leaves the heads and with one "
            "temperature fitted to val, as `hyperlm train` does; by chance: of exact probabilities "
            "on as many texts, on average and at most in 95 of 100 cases. Everywhere else in this "
            "report ECE is as training leaves it.",
            _probabilities({name: arms for name, arms in sure.items() if arms}),
        ]
    if held := _trees(results):
        parts += [
            "Label trees without texts: average precision with which so many dimensions give a "
            "node's ancestors back, each geometry from the better of its starts.",
            held,
        ]
    compared = {name: arms for name, arms in sets.items() if arms}
    tallies = [tally for pair in PAIRS if (tally := _tally(compared, *pair))]
    if tallies:
        parts.append(
            "Frozen features, heads from a random start: every difference with a verdict, by "
            "dimension and data set. *For : against* counts the verdicts for either arm among all "
            "comparisons that allow one (*of*); *open*: seeds agree, texts are too few. In the "
            "others no difference was found. Less is better of *severity*, *distance* (edges) and "
            "*ECE*, which follows the learning rates that accuracy chose. A dagger marks figures "
            "that are tested over seeds alone. Tests are adjusted within a row and a set: among "
            "all of these, some verdicts are chance."
        )
    return parts + tallies


def _probabilities(sets: dict[str, dict[str, list[Record]]]) -> str:
    """Calibration errors before and after, a row for each set."""
    names = list(dict.fromkeys(arm for arms in sets.values() for arm in arms))
    rows = []
    for name, arms in sets.items():
        cells = []
        for arm in names:
            kinds = [Quantity("ECE", "", (state, "ece"), False) for state in ("trained", "fitted")]
            means = (
                [interval(arms[arm], kind, calibration.TRUST).mean for kind in kinds]
                if arm in arms
                else []
            )
            chance, most = report_calibration.by_chance_of_paths(arms.get(arm, []))
            cells.append(
                (" to ".join(f"{mean:.1f}" for mean in means) or "-")
                + ("" if math.isnan(chance) else f" ({100 * chance:.1f}, up to {100 * most:.1f})")
            )
        rows.append([f"{name}, {seeds_of(arms.values())}", *cells])
    return table(["ECE, as trained to fitted (by chance)", *names], rows)


def _names(results: ResultsFile, *experiments: str) -> list[str]:
    found = [record for one in experiments for record in results.of(experiment=one)]
    return list(dict.fromkeys(record.data["name"] for record in found))


def _trees(results: ResultsFile) -> str:
    """Average precision by dimension; empty where no trees were trained."""
    rows: dict[str, dict[int, str]] = {}
    for name in _names(results, trees.NAME):
        arms = trees.arms_of(results, name, "closure")
        for geometry in ("poincare", "euclidean"):
            for dim in sorted({dim for _, dim in arms}):
                found = [
                    interval(records, AVERAGE_PRECISION, "test")
                    for (arm, at), records in arms.items()
                    if at == dim and trees.ARMS[arm]["geometry"] == geometry
                ]
                if found:
                    best = max(found, key=lambda one: one.mean)
                    rows.setdefault(f"{name}, {geometry}", {})[dim] = spread(
                        best, AVERAGE_PRECISION
                    )
    dims = sorted({dim for cells in rows.values() for dim in cells})
    return (
        table(
            ["average precision of ancestors", *(f"d = {dim}" for dim in dims)],
            [[row, *(cells.get(dim, "-") for dim in dims)] for row, cells in rows.items()],
        )
        if rows
        else ""
    )


def _accuracies(results: ResultsFile, sets: dict[str, Arms]) -> str:
    """Whole paths on test: a row for each set, dimension and kind of training."""
    rows: list[list[str]] = []
    for name, arms in sets.items():
        rows += _rows(f"{name}, random start", arms, _asked(arms))
        begun = [r for r in results.of(experiment=starts.NAME) if r.data["name"] == name]
        dims = sorted({dim for _, dim in arms} | {record.head.dim for record in begun})
        for start, own in _STARTED.items():
            rows += _rows(f"{name}, start from {start}", *_started(results, name, dims, own))
        whole = compare_tuned.arms_of(results, name)
        kinds = {arm for arm, _ in whole}
        if _NAMED not in kinds or "linear" in kinds:
            unlike = (
                "too, points from names, linear at random" if "linear" in kinds else "trained too"
            )
            rows += _rows(f"{name}, backbone {unlike}", whole, _asked(whole))
        if _NAMED in kinds:
            fair = {at: records for at, records in whole.items() if at[0] != "linear"}
            fair = {(arm.removesuffix(", names"), dim): r for (arm, dim), r in fair.items()}
            rows += _rows(f"{name}, backbone too, all from names", fair, _asked(fair))
    header = ["path accuracy", "d", "seeds", *_ARMS, *(f"poincare less {arm}" for arm in _OTHERS)]
    return table([*header, f"poincare: {_GAIN}"], rows)


_Cells = Mapping[tuple[str, int], str]  # what is compared with, and the dimension


def _asked(arms: Arms) -> _Cells:
    """Poincaré points less each other arm, by the dimensions of one question."""
    cells = {}
    for other in _OTHERS:
        if {"poincare", other} <= {arm for arm, _ in arms}:
            kind = _kind([record for records in arms.values() for record in records])
            for dim, difference, words in question(arms, kind, "poincare", other):
                cells[other, dim] = _cell(difference.over_seeds.mean, kind, words)
    return cells


def _started(
    results: ResultsFile, name: str, dims: Sequence[int], own: Mapping[str, str]
) -> tuple[Arms, _Cells]:
    """Arms that start alike, and their differences as ``starts`` asks for them."""
    start = own["poincare"]
    arms: Arms = {}
    cells = {}
    for dim in dims:
        there = starts.arms_of(results, name, 1.0, dim)
        arms |= {(arm, dim): there[own[arm]] for arm in own if own[arm] in there}
        for base, others in QUESTIONS:
            asked = {arm: there[arm] for arm in (base, *others) if arm in there}
            if base not in asked:
                continue
            kind = _kind(asked[base])
            found = judged(asked, base, kind)
            for arm in _OTHERS:
                if base == start and own[arm] in found:
                    difference, words = found[own[arm]]
                    cells[arm, dim] = _cell(-difference.over_seeds.mean, kind, words)
            if base == "random" and start in found:
                difference, words = found[start]
                cells[_GAIN, dim] = _cell(difference.over_seeds.mean, kind, words)
    return arms, cells


def _cell(difference: float, kind: Quantity, words: str) -> str:
    shown = signed(difference, kind)
    return f"**{shown}**" if words.endswith(BETTER) else shown


def _rows(what: str, arms: Arms, cells: _Cells) -> Iterator[list[str]]:
    """A row for each dimension of at least 64, or for the largest there is."""
    dims = sorted({dim for _, dim in arms})
    for dim in [dim for dim in dims if dim >= 64] or dims[-1:]:
        at = [arms.get((arm, dim), []) for arm in _ARMS]
        if any(at):
            seeds = seeds_of(records for records in at if records).partition(" seed")[0]
            compared = [cells.get((other, dim), "") for other in (*_OTHERS, _GAIN)]
            yield [what, str(dim), seeds, *(_path(records) for records in at), *compared]


def _kind(records: Sequence[Record]) -> Quantity:
    return next(kind for kind in known(records) if kind.name == "path")


def _path(records: Sequence[Record]) -> str:
    if not records:
        return "-"
    kind, first = _kind(records), records[0]
    untrained = all(isinstance(r.run, HeadRun) and not r.run.epochs for r in records)
    if untrained:  # no spread where nothing is drawn
        return f"{spread(interval([first], kind, 'test'), kind)} untrained"
    return spread(interval(records, kind, "test"), kind)


def _tally(sets: dict[str, Arms], first: str, second: str) -> str:
    """All verdicts on a pair of arms; empty where it was not compared."""
    found: dict[str, list[tuple[str, Quantity, int, Difference, str]]] = {}
    for name, arms in sets.items():
        kinds = known(record for records in arms.values() for record in records)
        for kind in kinds:
            if kind.is_level:  # levels of different trees are no common question
                continue
            for dim, difference, words in question(arms, kind, first, second):
                if not words.startswith(NO_VERDICT):
                    entry = (name, kind, dim, difference, words)
                    found.setdefault(kind.name, []).append(entry)
    dims = sorted({dim for entries in found.values() for _, _, dim, _, _ in entries})
    if not dims:
        return ""
    rows = []
    for figure, entries in found.items():
        cells: dict[int, list[str]] = {dim: [] for dim in dims}
        score, unsettled = [0, 0], 0
        for name, kind, dim, difference, words in entries:
            if words.endswith((BETTER, BETTER_HERE)):
                score[not words.startswith(first)] += 1
                cells[dim].append(f"{name} {signed(difference.over_seeds.mean, kind)}")
            elif words != NO_DIFFERENCE:
                unsettled += 1
        alone = _SEEDS_ALONE * (entries[0][1].texts is None)
        counts = [" : ".join(map(str, score)), str(unsettled), str(len(entries))]
        rows.append([figure + alone, *map(", ".join, cells.values()), *counts])
    dims_ = [f"d = {dim}" for dim in dims]
    return table([f"{first} less {second}", *dims_, "for : against", "open", "of"], rows)
