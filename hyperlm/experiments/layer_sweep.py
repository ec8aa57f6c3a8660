"""Which layer should serve which level? Quick probes on the frozen states of every layer.

At each layer, a linear head and Poincaré points are trained on the pooled states of one pass
through the backbone; a head scores all levels, so that one per layer says what every level finds
there. The choice is made on val (:func:`choose`), kept for ``hyperlm train --layers auto``
(:mod:`hyperlm.lm.layer_choice`), and held against the rule and against the last layer alone.
Command: ``hyperlm experiment layer-sweep``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from hyperlm import __version__
from hyperlm.errors import OptionError
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.measure import unbits
from hyperlm.experiments.quantities import interval, quantities
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.lm import resolve_layers
from hyperlm.lm.layer_choice import keep_choice

__all__ = ["NAME", "PROBES", "TEXTS", "Sweep", "accuracies", "choose", "run", "sweeps_of"]

NAME = "layer-sweep"
TEXTS = 1000
# At the rates that `compare-geometries` tunes both to at d = 32.
_BASE = HeadRun(head_lr=1e-2, node_lr=1e-1, batch_size=64)
PROBES: Mapping[str, HeadRun] = {
    "poincare": _BASE,
    "linear": replace(_BASE, head="linear"),
}


@dataclass
class Sweep:
    """What one sweep measured.

    Attributes:
        data: what tells the data, its texts and the backbone from others.
        dim: of the probes, d.
        depth: layers of the backbone, K.
        probes: records by probe and layer.
        checks: records by probe and layers of the levels, as ``4,5,6``.
    """

    data: dict
    dim: int
    depth: int
    probes: dict[str, dict[int, list[Record]]] = field(default_factory=dict)
    checks: dict[str, dict[str, list[Record]]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every probe was trained at every layer."""
        layers = set(range(1, self.depth + 1))
        return set(self.probes) == set(PROBES) and all(
            set(at) == layers for at in self.probes.values()
        )

    @property
    def levels(self) -> int:
        return len(self.probes["linear"][1][0].figures["val"]["levels"])

    def chosen(self) -> tuple[int, ...]:
        """The layers that :func:`choose` takes."""
        return choose(self._right())

    def arms(self) -> dict[str, tuple[int, ...]]:
        """What is held against each other: name -> layers of the levels."""
        rule = resolve_layers("auto", num_levels=self.levels, available=self.depth)
        return {"measured": self.chosen(), "rule": rule, "last": (self.depth,) * self.levels}

    def _right(self) -> np.ndarray:
        """Share of the probes that answered a val text rightly, ``(L, K, n)``."""
        every = [records for at in self.probes.values() for records in at.values()]
        seeds = set.intersection(*({r.run.seed for r in records} for records in every))
        by_layer = []
        for layer in range(1, self.depth + 1):
            told = [
                r.figures["val"]
                for at in self.probes.values()
                for r in at[layer]
                if r.run.seed in seeds
            ]
            answers = [
                [unbits(right, val["n"]) for right in val["answers"]["right"][: self.levels]]
                for val in told
            ]  # (probes and seeds, L, n)
            by_layer.append(np.mean(answers, axis=0))
        return np.stack(by_layer, axis=1)


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 5,
    dims: Sequence[int] = (32,),
    texts: int = TEXTS,
    progress: bool = False,
) -> str:
    """Train what is missing in the results file, and keep the choice for ``train``.

    Args:
        texts: at most so many of each split, the same for all probes.
    Returns:
        The choice, what it is worth and where it is kept, in words.
    """
    if len(dims) != 1:
        raise OptionError(f"--dims: {NAME} takes one dimension, got {len(dims)}.")
    whole = data.in_every_layer(texts)
    depth, labels = whole.depth, {"experiment": NAME, "depth": whole.depth}
    sweep = Sweep(whole.describe(), dims[0], depth)

    def train(stage: str, kind: str, layers: str) -> list[Record]:
        one = replace(PROBES[kind], dim=dims[0], layers=layers)
        runs = [replace(one, seed=seed) for seed in range(seeds)]
        told = labels | {"stage": stage, "arm": kind, "layers": layers}
        return run_all(runs, whole, results, labels=told, progress=progress)

    for kind in PROBES:
        for layer in range(1, depth + 1):
            sweep.probes.setdefault(kind, {})[layer] = train("probe", kind, str(layer))
    for kind in PROBES:
        for layers in map(_written, sweep.arms().values()):
            sweep.checks.setdefault(kind, {})[layers] = train("check", kind, layers)
    chosen = sweep.chosen()
    path = keep_choice(
        data.backbone,
        data.taxonomy,
        chosen,
        pooling=whole.pooling,
        depth=depth,
        measured={
            "data": sweep.data,
            "probes": list(PROBES),
            "dim": dims[0],
            "seeds": seeds,
            "accuracy on val by level and layer": accuracies(sweep).round(4).tolist(),
            "hyperlm": __version__,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    lines = [
        f"{data.name}, {data.backbone}: layers {', '.join(map(str, chosen))}, kept in {path}",
        "for 'hyperlm train --layers auto'. Whole paths right, frozen heads on val and on test:",
    ]
    whole_path = quantities(sweep.levels)[sweep.levels]
    for name, arm in sweep.arms().items():
        figures = [
            f"{probe} "
            + " and ".join(
                f"{interval(found[_written(arm)], whole_path, split).mean:.1f}"
                for split in ("val", "test")
            )
            for probe, found in sweep.checks.items()
        ]
        lines.append(f"  {name:8s} {_written(arm):12s} {', '.join(figures)}")
    return "\n".join(lines)


def choose(right: np.ndarray) -> tuple[int, ...]:
    """One layer per level, from 1, rising: the earliest that is as good as the best.

    Coarse to fine, a level takes the earliest layer above that of the level before whose mean lies
    no more than one standard error of the difference behind the best of these layers. The
    difference is paired: both layers answered the same texts. With more levels than layers the
    levels may share a layer, in order.

    Args:
        right: ``(L, K, n)`` in [0, 1]: how often text i was answered rightly at level l from layer
            k; averaged over probes and seeds.
    """
    levels, depth, count = right.shape
    apart = int(levels <= depth)
    chosen: list[int] = []
    for number, level in enumerate(right):
        start = chosen[-1] - 1 + apart if chosen else 0
        end = depth - (levels - 1 - number) * apart  # room for the levels below
        open_ = level[start:end]
        best = open_[open_.mean(1).argmax()]
        behind = best - open_  # (layers, n)
        error = behind.std(1, ddof=1) / count**0.5 if count > 1 else np.zeros(len(behind))
        # A single text's difference is one standard error to the last digit, and counts as such.
        chosen.append(start + 1 + int((behind.mean(1) <= error * (1 + 1e-9)).argmax()))
    return tuple(chosen)


def accuracies(sweep: Sweep) -> np.ndarray:
    """Accuracy on val by level and layer, ``(L, K)``: mean over probes and seeds."""
    kinds = quantities(sweep.levels)[: sweep.levels]
    return np.array(
        [
            [
                np.mean([interval(at[k], kind, "val").mean for at in sweep.probes.values()]) / 100
                for k in range(1, sweep.depth + 1)
            ]
            for kind in kinds
        ]
    )


def sweeps_of(results: ResultsFile) -> list[Sweep]:
    """The sweeps of a results file that are complete, one for each data, backbone and dimension."""
    found: dict[tuple[str, int], Sweep] = {}
    for record in results.of(experiment=NAME):
        at = json.dumps(record.data, sort_keys=True), record.head.dim
        sweep = found.setdefault(at, Sweep(record.data, at[1], record.labels["depth"]))
        layers, kind = record.labels["layers"], record.labels["arm"]
        if record.labels["stage"] == "probe":
            sweep.probes.setdefault(kind, {}).setdefault(int(layers), []).append(record)
        else:
            sweep.checks.setdefault(kind, {}).setdefault(layers, []).append(record)
    return [sweep for sweep in found.values() if sweep.complete]


def _written(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))
