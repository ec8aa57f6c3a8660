"""The arms of a comparison and how each is tuned.

An arm changes one thing, here the geometry, and has learning rates of its own: a grid of rates is
trained on seeds that are used for nothing else, and the best mean path accuracy on val wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import Extra, run_all
from hyperlm.experiments.settings import HeadRun

__all__ = ["GEOMETRIES", "HEAD_RATES", "NODE_RATES", "TUNE_SEEDS", "best_rates", "chosen", "tuned"]

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
TUNE_SEEDS = (100, 101)


def tuned(
    arm: HeadRun,
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: Sequence[int],
    labels: dict[str, Any],
    tune_as: HeadRun | None = None,
    extra: Extra | None = None,
    progress: bool = False,
) -> list[Record]:
    """Tune the learning rates of an arm on val, then run it with other seeds.

    Args:
        tune_as: another arm whose rates are taken, because it is the same model.
        extra: see :func:`~.runner.run_all`; asked of the measured runs alone.
    Returns:
        The records of ``seeds``, in order.
    """
    grid = [
        replace(tune_as or arm, head_lr=head, node_lr=node, seed=seed)
        for head in HEAD_RATES
        for node in NODE_RATES[arm.head]
        for seed in TUNE_SEEDS
    ]
    tried = run_all(grid, data, results, labels=labels | {"stage": "tune"}, progress=progress)
    head, node = best_rates(tried)
    runs = [replace(arm, head_lr=head, node_lr=node, seed=seed) for seed in seeds]
    labels = labels | {"stage": "measure"}
    return run_all(runs, data, results, labels=labels, extra=extra, progress=progress)


def chosen(records: Sequence[Record]) -> list[Record]:
    """The measured runs of an arm, of tuning and measuring runs together.

    Where an arm was measured at several rates, because the grid has been changed between, those
    that tuning prefers.
    """
    measured = [record for record in records if record.labels["stage"] == "measure"]
    rates = {(record.head.head_lr, record.head.node_lr) for record in measured}
    if len(rates) > 1:
        best = best_rates(
            [
                record
                for record in records
                if record.labels["stage"] == "tune"
                and (record.head.head_lr, record.head.node_lr) in rates
            ]
        )
        measured = [r for r in measured if (r.head.head_lr, r.head.node_lr) == best]
    return measured


def best_rates(records: Sequence[Record]) -> tuple[float, float]:
    """``(head_lr, node_lr)`` of the best mean path accuracy on val; ties go to the first."""
    scores: dict[tuple[float, float], list[float]] = {}
    for record in records:
        rates = record.head.head_lr, record.head.node_lr
        scores.setdefault(rates, []).append(record.figures["val"]["path_accuracy"])
    return max(scores, key=lambda rates: float(np.mean(scores[rates])))
