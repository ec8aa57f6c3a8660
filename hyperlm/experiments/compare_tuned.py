"""Geometry against geometry where the backbone learns too, as ``hyperlm train`` trains it.

Arms differ in the head's geometry alone; points start from label names in each of them. The rate of
the backbone is each arm's own, tuned on val with part of the texts and a seed of its own. Command:
``hyperlm experiment compare-geometries --set trained=model``; a run takes minutes, all of them
hours.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperlm.classifier import Classifier
from hyperlm.data import DataBundle
from hyperlm.experiments.features import FrozenData, Split
from hyperlm.experiments.measure import geometry_of, measure
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.lm.model import HierarchicalLM
from hyperlm.options import TrainingOptions
from hyperlm.run import build_model
from hyperlm.training import fit

__all__ = ["ARMS", "NAME", "RATES", "TUNED_ON", "arms_of", "run", "train_and_score"]

NAME = "compare-geometries, whole models"
ARMS: Mapping[str, dict[str, Any]] = {
    "poincare": {},
    # In native coordinates: as tangent vectors it would be the first arm to the last digit.
    "lorentz": {"geometry": "lorentz", "coordinates": "native"},
    "euclidean": {"geometry": "euclidean"},
    "linear": {"head": "linear"},
}
RATES = (1e-4, 2e-4)
TUNED_ON = 0.5  # share of the training texts
_TUNE_SEED = 100


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int,
    dims: Sequence[int],
    arms: Sequence[str] = tuple(ARMS),
    progress: bool = False,
) -> None:
    """Train what is missing in the results file: seed after seed, all arms of each."""
    for dim in dims:
        rates = {arm: _best_rate(arm, dim, data, results, progress) for arm in arms}
        for seed in range(seeds):
            for arm in arms:
                trial = Trial("hyperlm train", _settings(arm, dim, rates[arm], 1.0), seed)
                _made([trial], arm, "measure", data, results, progress)


def arms_of(results: ResultsFile, data: str) -> dict[tuple[str, int], list[Record]]:
    """The measured runs of a data set: by arm and dimension, in the order of the arms."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in results.of(experiment=NAME, stage="measure"):
        if record.data["name"] == data and isinstance(record.run, Trial):
            at = record.labels["arm"], record.run.settings["options"]["dim"]
            found.setdefault(at, []).append(record)
    order = list(ARMS)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def train_and_score(data: FrozenData, trial: Trial) -> dict[str, Any]:
    """Train a whole model, the best epoch by val, and measure it on val and test.

    Args:
        trial: its settings are ``options``, of :class:`~hyperlm.options.TrainingOptions`, and
            ``share`` of the training texts, drawn by the seed.
    Returns:
        ``val`` and ``test`` documents of :func:`~.measure.measure`, ``geometry``, ``seconds`` of
        training.
    """
    options = TrainingOptions(
        **trial.settings["options"],
        backbone=data.backbone,
        max_length=data.max_length,
        seed=trial.seed,
    )
    bundle = _part(data.bundle, trial.settings["share"], trial.seed)
    model = build_model(options, bundle)
    assert isinstance(model, HierarchicalLM)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(model, bundle, options, Path(folder), progress=False)
        seconds = time.perf_counter() - start
    model.eval()
    classifier, nothing = Classifier(model), torch.empty(0)
    figures: dict[str, Any] = {"seconds": seconds}
    for name in ("val", "test"):
        figures[name] = measure(
            classifier.logits(bundle.split(name).texts),
            data.taxonomy,
            Split(nothing, bundle.gold(name), nothing),
            loss=model.head.loss_kind,
            few=data.few(name),
        )
    return figures | {"geometry": geometry_of(model.head)}


def _part(bundle: DataBundle, share: float, seed: int) -> DataBundle:
    train = bundle.split("train")
    if share >= 1:
        return bundle
    drawn = np.random.default_rng([seed, 1]).permutation(len(train))
    return replace(bundle, train=train.take(np.sort(drawn[: max(1, round(share * len(train)))])))


def _settings(arm: str, dim: int, rate: float, share: float) -> dict[str, Any]:
    return {"options": ARMS[arm] | {"dim": dim, "learning_rate": rate}, "share": share}


def _best_rate(arm: str, dim: int, data: FrozenData, results: ResultsFile, progress: bool) -> float:
    """The best on val; between equals the lower. One space has one tuning, that of the ball."""
    arm = "poincare" if arm == "lorentz" else arm
    tried = [Trial("hyperlm train", _settings(arm, dim, r, TUNED_ON), _TUNE_SEED) for r in RATES]
    records = _made(tried, arm, "tune", data, results, progress)
    scores = [record.figures["val"]["path_accuracy"] for record in records]
    return RATES[int(np.argmax(scores))]


def _made(
    trials: Sequence[Trial],
    arm: str,
    stage: str,
    data: FrozenData,
    results: ResultsFile,
    progress: bool,
) -> list[Record]:
    return run_trials(
        trials,
        lambda trial: train_and_score(data, trial),
        results,
        source=data.describe(),
        labels={"experiment": NAME, "arm": arm, "stage": stage},
        progress=progress,
    )
