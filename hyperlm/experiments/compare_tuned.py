"""Geometry against geometry where the backbone learns too, as ``hyperlm train`` trains it.

Arms differ in the head's geometry alone; points start from label names in each of them, a linear
head at random and, to tell what the names do from what points do, from names. Every arm is trained
at every rate of the backbone and every pace of the head, and each seed has those that are best on
its val, so that the spread over seeds is that of the choice too.
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
    "full",
    "nodes_untried",
    "pace_of",
    "rates_of",
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
# How sharp a head starts and how fast it learns: what is kept of a start from names. Weights of a
# linear head are places of its nodes times the temperature; without a rate of their own they have
# that of the projection, and move far less of their length in a step than points do.
PACES: Mapping[str, Mapping[str, dict[str, float]]] = {
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
# Tried where nobody says which, by start and kind: names are kept by low rates, a head that starts
# from nothing is slow to learn at them. From names linear nodes, too, have rates of their own.
USUAL: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("names", "points"): ("slow", "gentle"),
    ("names", "linear"): ("3e-4/1e-2", "3e-4/3e-2"),
    ("random", "linear"): ("gentle", "fast"),
}
FORMER = 3e-3  # the head's rate in results from before it was said
ENOUGH = 3  # seeds whose mean on val may choose rates
Try = tuple[str, int, float, float, float, float]
"""Arm, dimension, rate of the backbone, and what :func:`rates_of` gives of the head."""


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
        paces: of the head, with commas: of ``PACES``, or rates of the head and of its nodes as
            ``3e-4/1e-2``; or ``own``, ``USUAL`` of an arm's start.
        backbone_dropout: inside the backbone: a probability, or ``own`` for what it comes with.
    Raises:
        OptionError: rates that are no positive numbers, unknown paces, no such dropout.
    """
    dropout = _probability(backbone_dropout)
    numbers = rates_in(rates, "--set rates", example=f"rates={RATES}")
    wanted = _known(paces)
    for dim, seed, rate, arm in itertools.product(dims, range(seeds), numbers, arms):
        for pace in wanted or USUAL[_start(arm), _kind(arm)]:
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
            dim, rate = (record.run.settings["options"][key] for key in ("dim", "learning_rate"))
            at = record.labels["arm"], dim, rate, *rates_of(record)
            found.setdefault(at, []).append(record)
    order = list(ARMS)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:])))


def rates_of(record: Record) -> tuple[float, float, float]:
    """Rates of the head and of its nodes, and the temperature at the start.

    0 for linear nodes without a rate of their own, and where there is no temperature.
    """
    assert isinstance(record.run, Trial)
    options = record.run.settings["options"]
    head = options.get("head_learning_rate", FORMER)
    return head, options.get("point_learning_rate", 0.0), options.get("temperature", 0.0)


def arms_of(results: ResultsFile, data: str) -> dict[tuple[str, int], list[Record]]:
    """By arm and dimension a run for each seed: at the rates that are best on its val.

    Ties go to the lower. What fewer seeds were trained at than another try of the arm is listed,
    and chosen by none: else seeds would choose among more and among less.
    """
    tries: dict[tuple[str, int], list[list[Record]]] = {}
    for (arm, dim, *_), records in tries_of(results, data).items():
        tries.setdefault((arm, dim), []).append(records)
    return {at: _best(full(found)) for at, found in tries.items()}


def full(tries: Sequence[list[Record]]) -> list[list[Record]]:
    """Those of the tries that have as many seeds as any of them."""
    counts = [len({record.run.seed for record in records}) for records in tries]
    return [records for records, count in zip(tries, counts, strict=True) if count == max(counts)]


def _best(tries: Sequence[list[Record]]) -> list[Record]:
    by_seed: dict[int, list[Record]] = {}
    for record in itertools.chain.from_iterable(tries):
        by_seed.setdefault(record.run.seed, []).append(record)
    return [
        max(by_seed[seed], key=lambda record: record.figures["val"]["path_accuracy"])
        for seed in sorted(by_seed)
    ]


def untried(results: ResultsFile, data: str) -> list[str]:
    """Arms not tried, with enough seeds, at a pace that another of their kind has chosen.

    The same numbers mean something else to points and to weights; ends of what was tried, and
    linear nodes that were never tried by themselves, are told apart from this.
    """
    tried: dict[str, set[str]] = {}
    for (arm, _, _, *rates), records in tries_of(results, data).items():
        if len(records) >= ENOUGH:
            tried.setdefault(arm, set()).add(pace_of(arm, *rates))
    chosen: dict[tuple[str, str], set[str]] = {}
    for (arm, _), records in arms_of(results, data).items():
        paces = {pace_of(arm, *rates_of(record)) for record in records}
        chosen.setdefault((_start(arm), _kind(arm)), set()).update(paces)
    return [arm for arm, paces in tried.items() if chosen[_start(arm), _kind(arm)] - paces]


def nodes_untried(results: ResultsFile, data: str) -> list[str]:
    """Linear arms from names without a try of all their seeds at a rate of their nodes' own."""
    tries: dict[str, list[list[Record]]] = {}
    for (arm, *_), records in tries_of(results, data).items():
        if (_start(arm), _kind(arm)) == ("names", "linear"):
            tries.setdefault(arm, []).append(records)
    return [
        arm for arm, found in tries.items() if not any(rates_of(one[0])[1] for one in full(found))
    ]


def _start(arm: str) -> str:
    start: str = ARMS[arm].get("init", "names")
    return start


def _kind(arm: str) -> str:
    kind: str = ARMS[arm].get("head", "points")
    return kind


def pace_of(arm: str, head_rate: float, node_rate: float, temperature: float) -> str:
    """The pace that rates of a head and its nodes stand for, as ``--set paces`` takes it.

    Empty for the rate of a head that is none of ``PACES`` and says nothing of its nodes.
    """
    for pace, kinds in PACES.items():
        values = kinds[_kind(arm)]
        rates = values["head_learning_rate"], values.get("point_learning_rate", 0.0)
        # Without one: from a random start, or from before it was kept with the rates.
        if (head_rate, node_rate) == rates and temperature in (0.0, values["temperature"]):
            return pace
    return f"{head_rate:g}/{node_rate:g}" if node_rate else ""


def train_and_score(data: FrozenData, trial: Trial) -> dict[str, Any]:
    """Train a whole model, the best epoch by val, and measure it on val and test.

    Args:
        trial: its settings are ``options``, of :class:`~hyperlm.options.TrainingOptions`.
    Returns:
        ``val`` and ``test`` documents of :func:`~.measure.measure` as trained, ``calibrated``
        (``temperature`` fitted to val, ``ece`` of whole paths on test with it), ``geometry``,
        ``seconds`` of training.
    """
    given = trial.settings["options"]
    if given.get("head") == "linear" and "head_learning_rate" in given:
        # Where nothing is said of its nodes, as in all runs before they had a rate of their own.
        given = {"point_learning_rate": given["head_learning_rate"]} | given
    options = TrainingOptions(
        **given,
        backbone=data.backbone,
        max_length=data.max_length,
        precision=data.precision,
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
    options |= _rates(pace, options.get("head", "points"))
    if arm == "linear":  # from a random start, which has no distances
        del options["temperature"]
    return {"options": options}


def _rates(pace: str, kind: str) -> dict[str, Any]:
    """Options of a head at a pace, of ``PACES`` or in numbers."""
    if pace in PACES:
        return PACES[pace][kind]
    head, nodes = map(float, pace.split("/"))
    return {"temperature": 20.0, "head_learning_rate": head, "point_learning_rate": nodes}


def _known(paces: str) -> list[str]:
    if paces == "own":
        return []
    wanted = [part.strip() for part in paces.split(",")]
    for pace in wanted:
        try:
            TrainingOptions(**_rates(pace, "points"))
        except ValueError:
            raise OptionError(
                f"--set paces={paces}: {pace!r} is none of own, {', '.join(PACES)}, nor two rates "
                "above 0, of the head and of its nodes, as 3e-4/1e-2."
            ) from None
    return wanted
