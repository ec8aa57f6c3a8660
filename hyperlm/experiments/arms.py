"""The arms of a comparison and how each is tuned.

An arm changes one thing, the geometry or the start, and has learning rates of its own. Every seed
tunes for itself: it is trained at a grid of rates, and the best path accuracy on val wins, once it
has been compared with every pair of rates beside it. So the spread over seeds is that of the whole
procedure, tuning included, on the same training and val texts. A head that starts from texts
tries smaller rates too, and may also stay as it is.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hyperlm.errors import OptionError
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import Extra, run_all
from hyperlm.experiments.settings import HeadRun

__all__ = [
    "GEOMETRIES",
    "HEAD_RATES",
    "LADDER",
    "NEAR_RATES",
    "NODE_RATES",
    "apart",
    "beside",
    "best",
    "chosen",
    "enclosed",
    "grid",
    "named",
    "tuned",
]

GEOMETRIES: Mapping[str, HeadRun] = {
    "poincare": HeadRun(geometry="poincare"),
    # In native coordinates: as tangent vectors it would be the first arm to the last digit.
    "lorentz": HeadRun(geometry="lorentz", coordinates="native"),
    "euclidean": HeadRun(geometry="euclidean"),
    "linear": HeadRun(head="linear"),
}
# Every rate there is, a step being a factor of about three. Tuning starts in the midst of it.
LADDER = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
HEAD_RATES = (1e-3, 3e-3, 1e-2)
# Points move by a length, weights by coordinates: each its own three.
NODE_RATES: Mapping[str, tuple[float, ...]] = {
    "points": (3e-2, 1e-1, 3e-1),
    "linear": (1e-2, 3e-2, 1e-1),
}
# From a start that answers already: of projections, and of nodes.
NEAR_RATES = (1e-4, 3e-4), (3e-3, 1e-2)


def named(arms: Sequence[str] | None, known: Iterable[str]) -> list[str]:
    """The arms to run: those of the names, or all.

    Raises:
        OptionError: a name that is none of ``known``.
    """
    there = list(known)
    for arm in arms or ():
        if arm not in there:
            raise OptionError(f"arm {arm!r} is unknown; choose from {'; '.join(there)}.")
    return list(arms or there)


def apart(
    arms: Sequence[str], dims: Sequence[int], settings: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Settings for each arm and dimension by itself, the largest dimension first, by title."""
    return {
        f"{arm}, d = {dim}": settings | {"dims": (dim,), "arms": [arm]}
        for dim in sorted(dims, reverse=True)
        for arm in arms
    }


def grid(arm: HeadRun) -> list[HeadRun]:
    """What the tuning of an arm begins with, all with the seed that it has.

    A start that answers already may stay as it is, be kept by low rates, or be left behind by the
    rates of all others: in few dimensions, or with many texts, it is not worth keeping.
    """
    usual = itertools.product(HEAD_RATES, NODE_RATES[arm.head])
    near = itertools.product(*NEAR_RATES) if arm.init == "texts" else ()
    rates = [replace(arm, head_lr=head, node_lr=node) for head, node in (*near, *usual)]
    return [replace(rates[0], epochs=0), *rates] if arm.init == "texts" else rates


def beside(run: HeadRun, tried: Collection[HeadRun]) -> list[HeadRun]:
    """Settings one step from a run's in either rate or in both that are not among ``tried``.

    None for a head that stays untrained.
    """
    if not run.epochs:
        return []
    rates = itertools.product(_steps(run.head_lr), _steps(run.node_lr))
    near = [replace(run, head_lr=head, node_lr=node) for head, node in rates]
    return [other for other in near if other not in tried]


def enclosed(run: HeadRun, tried: Iterable[Record]) -> bool:
    """Whether its seed has tried everything beside a run's rates, and they are at no end.

    From texts also all that tuning begins with: earlier versions began with low rates alone.

    Args:
        tried: tuning runs of the arm, of any seed.
    """
    ends = {LADDER[0], LADDER[-1]}
    at_end = bool(run.epochs) and bool(ends & {run.head_lr, run.node_lr})
    heads = {record.head for record in tried}
    return not at_end and not beside(run, heads) and (run.init != "texts" or _begun(run, heads))


def _begun(run: HeadRun, heads: Iterable[HeadRun]) -> bool:
    """Whether the usual rates have been tried for a run, be it one that stayed untrained."""
    at: dict[str, Any] = {"head_lr": run.head_lr, "node_lr": run.node_lr, "epochs": run.epochs}
    rates = {(head.head_lr, head.node_lr) for head in heads if replace(head, **at) == run}
    return rates >= set(itertools.product(HEAD_RATES, NODE_RATES[run.head]))


def tuned(
    arm: HeadRun,
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: Sequence[int],
    labels: dict[str, Any],
    tune_as: tuple[str, HeadRun] | None = None,
    extra: Mapping[str, Extra] | None = None,
    progress: bool = False,
) -> list[Record]:
    """Tune an arm on val, every seed by itself, and measure what each has chosen.

    Args:
        tune_as: name and settings of another arm whose choices are taken, because it is the same
            model.
        extra: see :func:`~.runner.run_all`; asked of the measured runs alone.
    Returns:
        The records of ``seeds``, in order.
    """
    name, like = tune_as or (labels["arm"], arm)
    tuning = labels | {"arm": name, "stage": "tune"}
    found: dict[int, HeadRun] = {}
    tried: dict[int, list[Record]] = {seed: [] for seed in seeds}
    ahead = {seed: [replace(run, seed=seed) for run in grid(like)] for seed in seeds}
    while any(ahead.values()):
        # Seed after seed, for those of one seed share what it draws.
        runs = [run for own in ahead.values() for run in own]
        for record in run_all(runs, data, results, labels=tuning, progress=progress):
            tried[record.head.seed].append(record)
        for seed, records in tried.items():
            found[seed] = best(records)
            ahead[seed] = beside(found[seed], {record.head for record in records})
    measured = [
        replace(arm, head_lr=own.head_lr, node_lr=own.node_lr, epochs=own.epochs, seed=own.seed)
        for own in map(found.__getitem__, seeds)
    ]
    labels = labels | {"stage": "measure"}
    return run_all(measured, data, results, labels=labels, extra=extra, progress=progress)


def chosen(records: Sequence[Record]) -> list[Record]:
    """The measured runs among the records of an arm, one for each seed.

    Where a seed was measured with several settings, because the grid has changed between, the best
    on val, as its tuning would have it.
    """
    seeds: dict[int, list[Record]] = {}
    for record in records:
        if record.labels["stage"] == "measure":
            seeds.setdefault(record.head.seed, []).append(record)
    return [max(found, key=_on_val) for found in seeds.values()]


def best(records: Sequence[Record]) -> HeadRun:
    """The settings of the best path accuracy on val; ties go to the first."""
    return max(records, key=_on_val).head


def _on_val(record: Record) -> float:
    return float(record.figures["val"]["path_accuracy"])


def _steps(rate: float) -> tuple[float, ...]:
    """The rates of the ladder from one below to one above; a rate beside the ladder has none."""
    at = LADDER.index(rate) if rate in LADDER else None
    return (rate,) if at is None else LADDER[max(0, at - 1) : at + 2]
