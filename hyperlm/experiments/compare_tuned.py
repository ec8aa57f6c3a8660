"""Geometry against geometry where the backbone learns too, as ``hyperlm train`` trains it.

Arms differ in the head's geometry alone; points start from label names in each of them. Every arm
is trained at every rate of the backbone, and has the one whose mean over the seeds is best on val.
Command: ``hyperlm experiment compare-geometries --set trained=model``; a run takes minutes, all of
them hours.
"""

import itertools
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperlm.calibration import fit_temperature
from hyperlm.classifier import Classifier
from hyperlm.decoding import cuts_of, decode
from hyperlm.errors import OptionError
from hyperlm.experiments.features import FrozenData, Split
from hyperlm.experiments.measure import geometry_of, measure, unbits
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.lm.model import HierarchicalLM
from hyperlm.metrics import expected_calibration_error
from hyperlm.options import TrainingOptions
from hyperlm.run import build_model
from hyperlm.training import fit

__all__ = ["ARMS", "NAME", "RATES", "arms_of", "run", "train_and_score", "tries_of"]

NAME = "compare-geometries, whole models"
ARMS: Mapping[str, dict[str, Any]] = {
    "poincare": {},
    # In native coordinates: as tangent vectors it would be the first arm to the last digit.
    "lorentz": {"geometry": "lorentz", "coordinates": "native"},
    "euclidean": {"geometry": "euclidean"},
    "linear": {"head": "linear"},
}
RATES = "1e-4,2e-4"


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int,
    dims: Sequence[int],
    arms: Sequence[str] = tuple(ARMS),
    rates: str = RATES,
    progress: bool = False,
) -> None:
    """Train what is missing in the results file: seed after seed, all arms of each.

    Args:
        rates: of the backbone, numbers with commas.
    Raises:
        OptionError: rates that are no positive numbers.
    """
    numbers = _numbers(rates)
    for dim, seed, rate in itertools.product(dims, range(seeds), numbers):
        for arm in arms:
            run_trials(
                [Trial("hyperlm train", _settings(arm, dim, rate), seed)],
                lambda trial: train_and_score(data, trial),
                results,
                source=data.describe(),
                labels={"experiment": NAME, "arm": arm},
                progress=progress,
            )


def tries_of(results: ResultsFile, data: str) -> dict[tuple[str, int, float], list[Record]]:
    """All runs of a data set, by arm, dimension and rate, in the order of the arms."""
    found: dict[tuple[str, int, float], list[Record]] = {}
    for record in results.of(experiment=NAME):
        if record.data["name"] == data and isinstance(record.run, Trial):
            options = record.run.settings["options"]
            at = record.labels["arm"], options["dim"], options["learning_rate"]
            found.setdefault(at, []).append(record)
    order = list(ARMS)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:])))


def arms_of(results: ResultsFile, data: str) -> dict[tuple[str, int], list[Record]]:
    """By arm and dimension, the runs at the rate that is best on val.

    Among those with the most seeds; ties go to the lower rate.
    """
    best: dict[tuple[str, int], tuple[int, float, list[Record]]] = {}
    for (arm, dim, _), records in tries_of(results, data).items():
        worth = float(np.mean([r.figures["val"]["path_accuracy"] for r in records]))
        if (arm, dim) not in best or (len(records), worth) > best[arm, dim][:2]:
            best[arm, dim] = len(records), worth, records
    return {at: records for at, (_, _, records) in best.items()}


def train_and_score(data: FrozenData, trial: Trial) -> dict[str, Any]:
    """Train a whole model, the best epoch by val, and measure it on val and test.

    Args:
        trial: its settings are ``options``, of :class:`~hyperlm.options.TrainingOptions`.
    Returns:
        ``val`` and ``test`` documents of :func:`~.measure.measure` as trained, ``calibrated``
        (``temperature`` fitted to val, ``ece`` of whole paths on test with it), ``geometry``,
        ``seconds`` of training.
    """
    options = TrainingOptions(
        **trial.settings["options"],
        backbone=data.backbone,
        max_length=data.max_length,
        seed=trial.seed,
    )
    bundle = data.bundle
    model = build_model(options, bundle)
    assert isinstance(model, HierarchicalLM)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(model, bundle, options, Path(folder), progress=False)
        seconds = time.perf_counter() - start
    model.eval()
    classifier, nothing = Classifier(model), torch.empty(0)
    figures: dict[str, Any] = {"seconds": seconds}
    loss = model.head.loss_kind
    for name in ("val", "test"):
        logits = classifier.logits(bundle.split(name).texts)
        split = Split(nothing, bundle.gold(name), nothing)
        figures[name] = measure(logits, data.taxonomy, split, loss=loss, few=data.few(name))
        if name == "val":
            fitted = fit_temperature(logits, split.gold, data.taxonomy, loss=loss)
    calibrated = decode(logits, cuts_of(data.taxonomy), loss=loss, temperature=fitted)
    right = unbits(figures["test"]["answers"]["right"][-1], len(logits))
    known = np.array([len(ends) > 0 for ends in split.gold])
    ece = expected_calibration_error(right[known], calibrated.prob.clamp(0, 1).numpy()[known])
    return figures | {
        "calibrated": {"temperature": fitted, "ece": ece},
        "geometry": geometry_of(model.head),
    }


def _settings(arm: str, dim: int, rate: float) -> dict[str, Any]:
    return {"options": ARMS[arm] | {"dim": dim, "learning_rate": rate}}


def _numbers(rates: str) -> list[float]:
    try:
        numbers = [float(part) for part in rates.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise OptionError(f"--set rates={rates}: give numbers with commas, as in rates={RATES}.")
    return numbers
