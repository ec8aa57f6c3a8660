"""The arms of a comparison and how each is tuned.

An arm changes one thing, the geometry or the start, and has learning rates of its own: a grid of
rates is trained on seeds that are used for nothing else, and the best mean path accuracy on val
wins. A head that starts from texts has smaller rates to choose from, and to stay as it is.
"""

from collections.abc import Mapping, Sequence
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
    "NEAR_RATES",
    "NODE_RATES",
    "TUNE_SEEDS",
    "best",
    "chosen",
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
    """What an arm is tuned over, with the seed that it has."""
    near = arm.init == "texts"
    heads, nodes = NEAR_RATES if near else (HEAD_RATES, NODE_RATES[arm.head])
    rates = [replace(arm, head_lr=head, node_lr=node) for head in heads for node in nodes]
    return [replace(rates[0], epochs=0), *rates] if near else rates


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
    tries = [replace(run, seed=seed) for run in grid(tune_as or arm) for seed in TUNE_SEEDS]
    tried = run_all(tries, data, results, labels=labels | {"stage": "tune"}, progress=progress)
    found = best(tried)
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


def _rates(run: HeadRun) -> tuple[float, float, int]:
    return run.head_lr, run.node_lr, run.epochs


def _without_seed(record: Record) -> HeadRun:
    return replace(record.head, seed=0)
