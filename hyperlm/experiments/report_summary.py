"""The beginning of the report: geometry against geometry on all data sets, on one page.

One table of accuracies, and for each pair of geometries one of all verdicts, figure by dimension.
The verdicts are those of the sections below, gathered, not tested again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hyperlm.experiments import compare_geometries, compare_tuned, starts
from hyperlm.experiments.compare_geometries import question
from hyperlm.experiments.markdown import signed, spread, table
from hyperlm.experiments.quantities import Quantity, interval, known
from hyperlm.experiments.report_compare import PAIRS, Arms
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.statistics import BETTER, Difference

__all__ = ["section"]

_ARMS = ("poincare", "euclidean", "linear")
# The arms of ``starts`` that are these three, started from texts.
_FROM_TEXTS = {"poincare": "texts", "euclidean": "texts, Euclidean", "linear": "texts, linear"}


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs; empty where geometries have not been compared."""
    sets = {name: compare_geometries.arms_of(results, name) for name in _names(results)}
    sets = {name: arms for name, arms in sets.items() if arms}
    if not sets:
        return []
    parts = [
        "## In short",
        "Accuracy of whole paths. What a row has in common is the set, the dimension and how the "
        "heads were trained; every arm has its own learning rates. Lorentz points, which are the "
        "ball in other coordinates, stand in the sections. *Untrained*: val preferred the start to "
        "what training made of it.",
        _accuracies(results, sets),
    ]
    tallies = [tally for pair in PAIRS if (tally := _tally(sets, *pair))]
    if tallies:
        parts.append(
            "Frozen features, heads from a random start: every difference that a verdict below is "
            "given for, by dimension and data set. *For : against* counts the verdicts for either "
            "arm among all comparisons; in the others no difference was found. *Raw cons.*, "
            "*severity*, *distance* (edges) and *ECE* as explained above: of the last three, less "
            "is better."
        )
    return parts + tallies


def _names(results: ResultsFile) -> list[str]:
    found = results.of(experiment=compare_geometries.NAME)
    return list(dict.fromkeys(record.data["name"] for record in found))


def _accuracies(results: ResultsFile, sets: dict[str, Arms]) -> str:
    """Whole paths on test: a row for each set, dimension and kind of training."""
    rows: list[list[str]] = []
    for name, arms in sets.items():
        rows += _rows(f"{name}, random start", arms)
        texts = {
            (arm, dim): found
            for dim in sorted({dim for _, dim in arms})
            for arm, start in _FROM_TEXTS.items()
            if (found := starts.arms_of(results, name, 1.0, dim).get(start))
        }
        rows += _rows(f"{name}, start from texts", texts)
        rows += _rows(f"{name}, backbone trained too", compare_tuned.arms_of(results, name))
    return table(["path accuracy", "d", "seeds", *_ARMS], rows)


def _rows(what: str, arms: Arms) -> Iterator[list[str]]:
    """A row for each dimension of at least 64, or for the largest there is."""
    dims = sorted({dim for _, dim in arms})
    for dim in [dim for dim in dims if dim >= 64] or dims[-1:]:
        at = [arms.get((arm, dim), []) for arm in _ARMS]
        if not any(at):
            continue
        counts = sorted({len(records) for records in at if records})
        seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        yield [what, str(dim), seeds, *(_path(records) for records in at)]


def _path(records: Sequence[Record]) -> str:
    if not records:
        return "-"
    kind = next(kind for kind in known(records) if kind.name == "path")
    first = records[0]
    if isinstance(first.run, HeadRun) and not first.run.epochs:  # no spread where nothing is drawn
        return f"{spread(interval([first], kind, 'test'), kind)} untrained"
    return spread(interval(records, kind, "test"), kind)


def _tally(sets: dict[str, Arms], first: str, second: str) -> str:
    """All verdicts on a pair of arms; empty where it was not compared."""
    found: dict[str, list[tuple[str, Quantity, int, Difference, str]]] = {}
    for name, arms in sets.items():
        kinds = known(record for records in arms.values() for record in records)
        for kind in kinds:
            if kind.name.startswith("L"):  # levels of different trees are no common question
                continue
            for dim, difference, words in question(arms, kind, first, second):
                entry = (name, kind, dim, difference, words)
                found.setdefault(kind.name, []).append(entry)
    dims = sorted({dim for entries in found.values() for _, _, dim, _, _ in entries})
    if not dims:
        return ""
    rows = []
    for figure, entries in found.items():
        cells: dict[int, list[str]] = {dim: [] for dim in dims}
        wins = {f"{arm} {BETTER}": 0 for arm in (first, second)}
        for name, kind, dim, difference, words in entries:
            if words in wins:
                wins[words] += 1
                cells[dim].append(f"{name} {signed(difference.over_seeds.mean, kind)}")
        score = " : ".join(map(str, wins.values()))
        rows.append([figure, *map(", ".join, cells.values()), score, str(len(entries))])
    head = [f"{first} less {second}", *(f"d = {dim}" for dim in dims), "for : against", "of"]
    return table(head, rows)
