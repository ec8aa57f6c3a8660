"""Geometry against geometry where the backbone learns too, as ``hyperlm train`` trains it.

Arms differ in the head's geometry alone; points start from label names in each of them, a linear
head at random and, to tell what the names do from what points do, from names. Every arm is trained
at every rate of the backbone and every pace of the head, and has those whose mean over the seeds is
best on val.
Command: ``hyperlm experiment compare-geometries --set trained=model``; a run takes minutes, all of
them hours.
"""

import itertools
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
from hyperlm.experiments.told import rates_in
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.lm.model import HierarchicalLM
from hyperlm.metrics import expected_calibration_error
from hyperlm.options import TrainingOptions
from hyperlm.run_start import build_model
from hyperlm.training import fit

__all__ = [
    "ARMS",
    "NAME",
    "RATES",
    "arms_of",
    "pace_of",
    "run",
    "train_and_score",
    "tries_of",
    "untried",
]

NAME = "compare-geometries, whole models"
ARMS: Mapping[str, dict[str, Any]] = {
    "poincare": {},
    # In native coordinates: as tangent vectors it would be the first arm to the last digit.
    "lorentz": {"geometry": "lorentz", "coordinates": "native"},
    "euclidean": {"geometry": "euclidean"},
    "linear": {"head": "linear", "init": "random"},
    "linear, names": {"head": "linear", "init": "names"},
}
RATES = "1e-4,2e-4"
# How sharp a head starts and how fast it learns: what is kept of a start from names. The weights of
# a linear head, nodes times the temperature, have the rate of its projection.
PACES: Mapping[str, dict[str, dict[str, float]]] = {
    "slowest": {
        "points": {"temperature": 20.0, "head_learning_rate": 3e-5, "point_learning_rate": 1e-3},
        "linear": {"temperature": 20.0, "head_learning_rate": 1e-4},
    },
    "slow": {
        "points": {"temperature": 20.0, "head_learning_rate": 1e-4, "point_learning_rate": 3e-3},
        "linear": {"temperature": 20.0, "head_learning_rate": 3e-4},
    },
    "gentle": {
        "points": {"temperature": 20.0, "head_learning_rate": 3e-4, "point_learning_rate": 1e-2},
        "linear": {"temperature": 20.0, "head_learning_rate": 1e-3},
    },
    "fast": {
        "points": {"temperature": 10.0, "head_learning_rate": 3e-3, "point_learning_rate": 3e-2},
        "linear": {"temperature": 20.0, "head_learning_rate": 3e-3},
    },
}
# Tried where nobody says which, by start: names are kept by low rates, a head that starts from
# nothing is slow to learn at them.
USUAL: Mapping[str, tuple[str, ...]] = {"names": ("slow", "gentle"), "random": ("gentle", "fast")}
FORMER = 3e-3  # the head's rate in results from before it was said
ENOUGH = 3  # seeds whose mean on val may choose rates
Try = tuple[str, int, float, float]
"""Arm, dimension, learning rates of the backbone and of the head."""


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int,
    dims: Sequence[int],
    arms: Sequence[str] = tuple(ARMS),
    rates: str = RATES,
    paces: str = "own",
    backbone_dropout: str = "own",
    progress: bool = False,
) -> None:
    """Train what is missing in the results file: seed after seed, all arms of each.

    Args:
        rates: of the backbone, numbers with commas.
        paces: of the head, of ``PACES`` with commas; or ``own``, ``USUAL`` of an arm's start.
        backbone_dropout: inside the backbone: a probability, or ``own`` for what it comes with.
    Raises:
        OptionError: rates that are no positive numbers, unknown paces, no such dropout.
    """
    dropout = _probability(backbone_dropout)
    numbers = rates_in(rates, "--set rates", example=f"rates={RATES}")
    wanted = _known(paces)
    for dim, seed, rate, arm in itertools.product(dims, range(seeds), numbers, arms):
        for pace in wanted or USUAL[_start(arm)]:
            run_trials(
                [Trial("hyperlm train", _settings(arm, dim, rate, pace, dropout), seed)],
                lambda trial: train_and_score(data, trial),
                results,
                source=data.describe(),
                labels={"experiment": NAME, "arm": arm},
                progress=progress,
            )


def tries_of(results: ResultsFile, data: str) -> dict[Try, list[Record]]:
    """All runs of a data set by what was tried, in the order of the arms."""
    found: dict[Try, list[Record]] = {}
    for record in results.of(experiment=NAME):
        if record.data["name"] == data and isinstance(record.run, Trial):
            # Of other dropout: told apart by the name, see ``sources``.
            options = record.run.settings["options"]
            rates = options["learning_rate"], options.get("head_learning_rate", FORMER)
            at = record.labels["arm"], options["dim"], *rates
            found.setdefault(at, []).append(record)
    order = list(ARMS)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:])))


def arms_of(results: ResultsFile, data: str) -> dict[tuple[str, int], list[Record]]:
    """By arm and dimension, the runs at the rates that are best on val; ties go to the lower.

    Tries of fewer than ``ENOUGH`` seeds are not chosen where another of the arm has more. The
    others are compared on the seeds they share, for none is better by the luck of a seed.
    """
    tries: dict[tuple[str, int], list[list[Record]]] = {}
    for (arm, dim, _, _), records in tries_of(results, data).items():
        tries.setdefault((arm, dim), []).append(records)
    return {at: _best(found) for at, found in tries.items()}


def _best(tries: Sequence[list[Record]]) -> list[Record]:
    enough = min(ENOUGH, max(map(len, tries)))
    known = [records for records in tries if len(records) >= enough]
    shared = set.intersection(*({r.run.seed for r in records} for records in known))
    if len(shared) < enough:  # of files put together; each then stands for itself
        shared = {r.run.seed for records in known for r in records}

    def on_val(records: list[Record]) -> float:
        found = [r.figures["val"]["path_accuracy"] for r in records if r.run.seed in shared]
        return float(np.mean(found))

    return max(known, key=on_val)


def untried(results: ResultsFile, data: str) -> list[str]:
    """Arms not tried, with enough seeds, at a pace that another of the same start has chosen."""
    tried: dict[str, set[str]] = {}
    for (arm, _, _, head), records in tries_of(results, data).items():
        if len(records) >= ENOUGH:
            tried.setdefault(arm, set()).add(pace_of(arm, head))
    chosen: dict[str, set[str]] = {}
    for (arm, _), records in arms_of(results, data).items():
        if isinstance(records[0].run, Trial):
            head = records[0].run.settings["options"].get("head_learning_rate", FORMER)
            chosen.setdefault(_start(arm), set()).add(pace_of(arm, head))
    return [
        arm for arm, paces in tried.items() if (chosen.get(_start(arm), set()) & set(PACES)) - paces
    ]


def _start(arm: str) -> str:
    start: str = ARMS[arm].get("init", "names")
    return start


def pace_of(arm: str, head_rate: float) -> str:
    """The pace that a head's rate stands for; empty for one of its own."""
    kind = ARMS[arm].get("head", "points")
    rates = {pace: values[kind]["head_learning_rate"] for pace, values in PACES.items()}
    return next((pace for pace, rate in rates.items() if rate == head_rate), "")


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


def _probability(dropout: str) -> float | None:
    if dropout == "own":
        return None
    try:
        return TrainingOptions(backbone_dropout=float(dropout)).backbone_dropout
    except ValueError:
        raise OptionError(
            f"--set backbone_dropout={dropout}: give a probability, or own for what it comes with."
        ) from None


def _settings(arm: str, dim: int, rate: float, pace: str, dropout: float | None) -> dict[str, Any]:
    options = {"dim": dim, "learning_rate": rate} | ARMS[arm]
    if dropout is not None:
        options["backbone_dropout"] = dropout
    options |= PACES[pace][options.get("head", "points")]
    if arm == "linear":  # from a random start, which has no distances
        del options["temperature"]
    return {"options": options}


def _known(paces: str) -> list[str]:
    if paces == "own":
        return []
    wanted = [part.strip() for part in paces.split(",")]
    if unknown := [part for part in wanted if part not in PACES]:
        raise OptionError(
            f"--set paces={paces}: {unknown[0]!r} is none of own, {', '.join(PACES)}."
        )
    return wanted
