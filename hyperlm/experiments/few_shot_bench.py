"""One data set as every few-shot method reads it: draws, features, trained heads, figures.

Enters: trials, each a method with its settings, a number of texts and a seed. Leaves: their records
(see :mod:`.trials`). Heads that are wanted next are trained beside the one that is wanted now.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hyperlm import decoding
from hyperlm.data.descriptions import read_descriptions
from hyperlm.data.record import file_record
from hyperlm.decoding import Loss
from hyperlm.errors import DataError
from hyperlm.experiments import few_shot_methods as methods
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.few_shot_heads import Draw, HeadSettings, fit, started
from hyperlm.experiments.measure import measure, node_logits
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.heads import HierarchicalHead, HyperbolicHead
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.names import name_features
from hyperlm.metrics import constrained_f1, evaluate_predictions

__all__ = ["Bench", "draw_rows"]

TOGETHER = 10  # heads that train at once
NEIGHBOURS = 64  # of which the far ones hardly vote


def draw_rows(ends: Tensor, shots: int, seed: int) -> np.ndarray:
    """``shots`` rows of each class, or all it has, sorted; those of fewer shots are among them."""
    order = np.random.default_rng([seed, 2]).permutation(len(ends))
    taken: dict[int, int] = {}
    rows = []
    for row in order:
        end = int(ends[row])
        taken[end] = taken.get(end, 0) + 1
        if taken[end] <= shots:
            rows.append(row)
    return np.sort(np.array(rows))


class Bench:
    """The data as all methods read it, and the heads that have been trained on it."""

    def __init__(
        self, data: FrozenData, dim: int, progress: bool, *, descriptions: str | None = None
    ) -> None:
        self.data, self.dim, self.progress = data, dim, progress
        self.taxonomy = data.taxonomy
        self.splits = data.splits(HeadRun())
        for name, split in self.splits.items():
            if any(len(ends) != 1 for ends in split.gold):
                raise DataError(
                    f"{data.name}, {name}: few-shot draws texts by their one gold path, but some "
                    "have none or several. Choose data with one path a text."
                )
        # The last of the layers that "auto" spreads over is the last of the backbone.
        self.features = {name: split.features[:, -1] for name, split in self.splits.items()}
        self.descriptions = read_descriptions(descriptions, self.taxonomy) if descriptions else None
        # What stands in the settings of trials that read them.
        self.described = file_record(Path(descriptions))["sha256"] if descriptions else None
        self._names: dict[tuple[bool, bool], Tensor] = {}
        self.trained: dict[str, tuple[HierarchicalHead, float]] = {}
        self._pending: list[Trial] = []

    def defaults(self, method: str) -> dict[str, Any]:
        """All settings of a method, so that a record says what it was made with."""
        if method in ("head", "retrieval"):
            return asdict(HeadSettings(dim=self.dim))
        return {"dim": self.dim, "radius_on_val": True} if method == "discriminants" else {}

    def run(
        self, trials: Sequence[Trial], results: ResultsFile, labels: dict[str, Any]
    ) -> list[Record]:
        source = self.data.describe()
        self._pending = [t for t in trials if results.find(source, t, labels) is None]
        work = self._tried if labels["stage"] == "tune" else self._measured
        return run_trials(
            trials, work, results, source=source, labels=labels, progress=self.progress
        )

    def draw(self, trial: Trial) -> Draw:
        ends = self.splits["train"].targets
        rows = draw_rows(ends, trial.settings["shots"], trial.seed)
        return Draw(self.features["train"][rows], ends[rows])

    def _tried(self, trial: Trial) -> dict[str, Any]:
        """What a choice on val needs, and no more."""
        (logits,), loss, seconds = self.scores(trial, ("val",))
        ends = decoding.decode(logits, self.taxonomy, loss=loss).nodes.numpy()
        document = evaluate_predictions(self.taxonomy, self.splits["val"].gold, ends)
        kept = ("n", "path_accuracy", "c_micro_f1", "c_macro_f1")
        return {"val": {key: document[key] for key in kept}, "seconds": seconds}

    def _measured(self, trial: Trial) -> dict[str, Any]:
        wanted = ("val", "test")
        logits, loss, seconds = self.scores(trial, wanted)
        figures: dict[str, Any] = {"seconds": seconds}
        cuts = decoding.cuts_of(self.taxonomy)
        for name, scores in zip(wanted, logits, strict=True):
            split = self.splits[name]
            none = np.zeros(len(split.gold), dtype=bool)
            figures[name] = measure(scores, self.taxonomy, split, loss=loss, few=none)
            answers = decoding.level_answers(scores, cuts, loss=loss).numpy()
            # Of decoded paths they are the plain F1 over the nodes of all levels.
            figures[name]["undecoded"] = constrained_f1(self.taxonomy, split.gold, answers)
        if trial.settings["shots"]:
            figures["train_texts"] = len(self.draw(trial).ends)
        return figures

    def scores(
        self, trial: Trial, splits: Sequence[str]
    ) -> tuple[list[Tensor], Loss, float | None]:
        """Node scores of each split, what they are to be read as, and the seconds it took."""
        settings, start = trial.settings, time.perf_counter()
        queries = [self.features[name] for name in splits]
        loss: Loss = settings.get("decoding", "leaf")
        if trial.method in ("head", "retrieval"):
            head, seconds = self._head(trial)
            factor = settings.get("sharpen", 1.0)
            logits = [factor * node_logits(head, part.unsqueeze(1)) for part in queries]
            if trial.method == "head":
                return logits, loss, seconds
            start, draw, cuts = (
                time.perf_counter(),
                self.draw(trial),
                decoding.cuts_of(self.taxonomy),
            )
            assert isinstance(head, HyperbolicHead)  # the base of these arms
            mixed = []
            for part, own in zip(queries, logits, strict=True):
                votes = methods.retrieved(
                    head,
                    draw,
                    part,
                    neighbours=NEIGHBOURS,
                    temperature=settings["vote_temperature"],
                )
                mixed.append(
                    methods.mixed_scores(own, votes, cuts, share=settings["share"], decoding=loss)
                )
            return mixed, "leaf", seconds + time.perf_counter() - start
        if trial.method == "names":
            names = self.names(settings, parents=settings["parents"])
            logits = [methods.name_scores(part, names) for part in queries]
        elif trial.method == "class means":
            draw = self.draw(trial)
            logits = [
                methods.class_mean_scores(
                    draw,
                    part,
                    self.taxonomy,
                    names=self.names(settings),
                    name_weight=settings.get("name_weight", 0.0),
                )
                for part in queries
            ]
        elif trial.method == "discriminants":
            logits = methods.discriminant_scores(
                self.draw(trial),
                queries,
                self.taxonomy,
                names=self.names(settings, parents=True),
                dim=settings["dim"],
                held_out=(self.features["val"], self.splits["val"].targets),
                name_weight=settings["name_weight"],
            )
        else:
            logits = methods.logistic_scores(
                self.draw(trial), queries, self.taxonomy, strength=settings["strength"]
            )
        return logits, loss, time.perf_counter() - start

    def _head(self, trial: Trial) -> tuple[HierarchicalHead, float]:
        """The trained head of a trial and the seconds that took, which are counted once.

        Heads that are wanted next are trained beside it.
        """
        key = _key(trial)
        if key not in self.trained:
            self._train([trial, *self._pending])
        head, seconds = self.trained[key]
        self.trained[key] = head, 0.0
        return head, seconds

    def _train(self, trials: Sequence[Trial]) -> None:
        shape = _shape(trials[0])
        wanted: dict[str, Trial] = {}
        for trial in trials:
            if _shape(trial) == shape and _key(trial) not in self.trained:
                wanted.setdefault(_key(trial), trial)
        part = dict(list(wanted.items())[:TOGETHER])
        start = time.perf_counter()
        settings = [HeadSettings.of(trial.settings) for trial in part.values()]
        seeds = [trial.seed for trial in part.values()]
        draws = [self.draw(trial) for trial in part.values()]
        names = self.names(trials[0].settings)
        heads = [
            started(some, self.taxonomy, draw, names, seed=seed)
            for some, draw, seed in zip(settings, draws, seeds, strict=True)
        ]
        fit(heads, draws, names, settings, seeds)
        seconds = (time.perf_counter() - start) / len(part)
        self.trained |= {key: (head, seconds) for key, head in zip(part, heads, strict=True)}

    def names(self, settings: Mapping[str, Any], *, parents: bool = False) -> Tensor:
        """Features ``(N, D)`` of the label names, described where the settings have it so."""
        described = "descriptions" in settings
        if (parents, described) in self._names:
            return self._names[parents, described]
        model = HierarchicalLM.from_backbone(
            self.data.backbone,
            self.taxonomy,
            layers="-1",
            head={"kind": "linear", "dim": 2},
            max_length=self.data.max_length,
        ).eval()
        descriptions = self.descriptions if described else None
        found = name_features(model, parents=parents, descriptions=descriptions)[:, -1]
        self._names[parents, described] = found
        return found


def _shape(trial: Trial) -> tuple[object, ...]:
    """What heads that train together have in common."""
    return HeadSettings.of(trial.settings).shape(), trial.settings.get("descriptions")


def _key(trial: Trial) -> str:
    """What decides a head: settings of training, number of texts and seed."""
    further = ("shots", "descriptions")
    settings = asdict(HeadSettings.of(trial.settings))
    settings |= {name: trial.settings[name] for name in further if name in trial.settings}
    settings.pop("decoding")
    return Trial("head", settings, trial.seed).key()
