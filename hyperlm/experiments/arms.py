"""The arms of a comparison and how each is tuned.

An arm changes one thing, the geometry or the start, and has learning rates of its own: a grid of
rates is trained on seeds that are used for nothing else, and the best mean path accuracy on val
wins, once it has been compared with every pair of rates beside it. A head that starts from texts
begins at smaller rates, and may also stay as it is.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

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
    "TUNE_SEEDS",
    "beside",
    "best",
    "chosen",
    "enclosed",
    "grid",
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
TUNE_SEEDS = (100, 101)


def grid(arm: HeadRun) -> list[HeadRun]:
    """What the tuning of an arm begins with, with the seed that it has."""
    near = arm.init == "texts"
    heads, nodes = NEAR_RATES if near else (HEAD_RATES, NODE_RATES[arm.head])
    rates = [replace(arm, head_lr=head, node_lr=node) for head in heads for node in nodes]
    return [replace(rates[0], epochs=0), *rates] if near else rates


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
    """Whether everything beside a run's rates was tried, and they are at no end of the ladder."""
    run = replace(run, seed=0)
    ends = {LADDER[0], LADDER[-1]}
    at_end = bool(run.epochs) and bool(ends & {run.head_lr, run.node_lr})
    return not at_end and not beside(run, {_without_seed(record) for record in tried})


def tuned(
    arm: HeadRun,
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: Sequence[int],
    labels: dict[str, Any],
    tune_as: HeadRun | None = None,
    extra: Mapping[str, Extra] | None = None,
    progress: bool = False,
) -> list[Record]:
    """Tune an arm on val, then run it with other seeds.

    Args:
        tune_as: another arm whose choice is taken, because it is the same model.
        extra: see :func:`~.runner.run_all`; asked of the measured runs alone.
    Returns:
        The records of ``seeds``, in order.
    """
    tried: list[Record] = []
    ahead = grid(tune_as or arm)
    while ahead:
        tries = [replace(run, seed=seed) for run in ahead for seed in TUNE_SEEDS]
        tuning = labels | {"stage": "tune"}
        tried += run_all(tries, data, results, labels=tuning, progress=progress)
        found = best(tried)
        ahead = beside(found, {_without_seed(record) for record in tried})
    own = replace(arm, head_lr=found.head_lr, node_lr=found.node_lr, epochs=found.epochs)
    runs = [replace(own, seed=seed) for seed in seeds]
    labels = labels | {"stage": "measure"}
    return run_all(runs, data, results, labels=labels, extra=extra, progress=progress)


def chosen(records: Sequence[Record]) -> list[Record]:
    """The measured runs of an arm, of tuning and measuring runs together.

    Where an arm was measured with several settings, because the grid has been changed between,
    those that tuning prefers.
    """
    measured = [record for record in records if record.labels["stage"] == "measure"]
    settings = {_without_seed(record) for record in measured}
    if len(settings) > 1:
        tried = [record for record in records if record.labels["stage"] == "tune"]
        # By what tuning chooses alone: an arm may have been tuned as another of the same model.
        known = {_rates(run) for run in settings}
        preferred = _rates(best([r for r in tried if _rates(r.head) in known]))
        measured = [record for record in measured if _rates(record.head) == preferred]
    return measured


def best(records: Sequence[Record]) -> HeadRun:
    """The settings of the best mean path accuracy on val, with seed 0; ties go to the first."""
    scores: dict[HeadRun, list[float]] = {}
    for record in records:
        path = record.figures["val"]["path_accuracy"]
        scores.setdefault(_without_seed(record), []).append(path)
    return max(scores, key=lambda run: float(np.mean(scores[run])))


def _steps(rate: float) -> tuple[float, ...]:
    """The rates of the ladder from one below to one above; a rate beside the ladder has none."""
    at = LADDER.index(rate) if rate in LADDER else None
    return (rate,) if at is None else LADDER[max(0, at - 1) : at + 2]


def _rates(run: HeadRun) -> tuple[float, float, int]:
    return run.head_lr, run.node_lr, run.epochs


def _without_seed(record: Record) -> HeadRun:
    return replace(record.head, seed=0)
