"""What do label names, the ball, contrast and retrieval give where texts are few?

k texts of every class are drawn, k in 1, 2, 4, 8, 16 (all where a class has fewer), five times; a
draw of more texts holds those of fewer. Everything reads the same frozen features of the last
layer. Per number of texts, each arm has the settings of its grid that are best on val, mean path
accuracy over two draws that are used for nothing else. Command: ``hyperlm experiment few-shot``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperlm.errors import OptionError
from hyperlm.experiments.arms import named
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.few_shot_bench import Bench
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.told import wholes_in
from hyperlm.experiments.trials import Trial

__all__ = ["ARMS", "NAME", "SHOTS", "ZERO", "ZEROS", "Arm", "arms_of", "parts", "run"]

NAME = "few-shot"
SHOTS = "1,2,4,8,16"
ZERO = "names alone"
ZEROS = (ZERO, "names alone, described")  # see no text
TUNE_DRAWS = (100, 101)


@dataclass(frozen=True)
class Arm:
    """One way to classify.

    Attributes:
        method: of :meth:`Bench.scores`.
        grid: settings to choose from on val.
        base: an arm whose chosen settings are taken first.
        described: names are read with their descriptions, where there are some.
    """

    method: str
    grid: tuple[dict[str, Any], ...]
    base: str | None = None
    described: bool = False


def _grid(**choices: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """All combinations."""
    out: list[dict[str, Any]] = [{}]
    for name, values in choices.items():
        out = [some | {name: value} for some in out for value in values]
    return tuple(out)


# The weights of a projection that starts from names are of size 1e-3: rates that suit a random
# start undo it within a few steps. Few steps also leave the posterior far too flat, so that it is
# read sharpened: answers stay, probabilities and what is mixed with them change.
_POINTS = tuple(
    {"head_lr": head, "node_lr": node, "sharpen": 4.0}
    for head, node in ((1e-5, 2e-3), (3e-5, 2e-3), (1e-4, 2e-3), (1e-3, 5e-3), (1e-3, 2e-2))
)
_RETRIEVAL = _grid(share=(0.1, 0.3, 0.5), vote_temperature=(5.0, 20.0, 40.0))
_NAMES = _grid(decoding=("leaf", "level"), parents=(False, True))
_LINEAR_NAMES = tuple(
    {"kind": "linear", "head_lr": head, "node_lr": node}
    for head in (3e-5, 1e-4, 3e-4, 1e-3)
    for node in (1e-2, 3e-2)
)
_LINEAR = {"kind": "linear", "start": "random", "names_as_texts": False, "steps": 200}
ARMS: Mapping[str, Arm] = {
    ZEROS[0]: Arm("names", _NAMES),
    ZEROS[1]: Arm("names", _NAMES, described=True),
    "class means": Arm("class means", _grid(decoding=("leaf", "level"))),
    "class means + names": Arm(
        "class means", _grid(decoding=("leaf", "level"), name_weight=(1.0, 3.0))
    ),
    "logistic regression": Arm("logistic regression", _grid(strength=(10.0, 100.0))),
    "linear": Arm(
        "head",
        tuple(
            _LINEAR | {"head_lr": head, "node_lr": node, "loss": loss, "decoding": loss}
            for loss in ("level", "leaf")
            for head, node in (
                *((3e-4, 1e-3), (3e-4, 3e-3), (1e-3, 1e-3)),
                *((1e-3, 3e-3), (1e-3, 1e-2), (3e-3, 1e-2), (1e-2, 3e-2)),
            )
        ),
    ),
    "linear, names": Arm("head", _LINEAR_NAMES),
    "linear, described": Arm("head", _LINEAR_NAMES, described=True),
    "poincare, untrained": Arm(
        "discriminants", _grid(decoding=("leaf", "level"), name_weight=(1.0, 3.0, 10.0))
    ),
    "euclidean": Arm("head", tuple({"geometry": "euclidean"} | some for some in _POINTS)),
    "poincare": Arm("head", _POINTS),
    "poincare, described": Arm("head", _POINTS, described=True),
    "poincare + contrastive": Arm("head", _grid(contrast=(0.1, 0.5)), base="poincare"),
    "poincare + retrieval": Arm("retrieval", _RETRIEVAL, base="poincare"),
    "poincare + both": Arm("retrieval", _RETRIEVAL, base="poincare + contrastive"),
}


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 5,
    dims: Sequence[int] = (256,),
    shots: str = SHOTS,
    descriptions: str = "",
    arms: Sequence[str] | None = None,
    progress: bool = False,
) -> None:
    """Train what is missing in the results file.

    Args:
        seeds: draws of texts.
        dims: one dimension, of the heads.
        shots: texts of a class, numbers from 1 with commas.
        descriptions: table of what labels mean, for the arms that read them; without one these are
            left out.
    Raises:
        OptionError: several dimensions, unknown arms, or shots that are no such numbers. DataError:
            texts with several gold paths; descriptions that cannot be read.
    """
    arms, counts = _checked(arms, descriptions, dims), _counts(shots)
    bench = Bench(data, dims[0], progress, descriptions=descriptions or None)
    for name in (name for name in ZEROS if name in arms):
        _arm(name, 0, {}, bench, results, [0], [0])
    for count in counts:
        chosen: dict[str, dict[str, Any]] = {}
        bench.trained.clear()
        for name in (name for name in ARMS if name in arms and name not in ZEROS):
            chosen[name] = _arm(name, count, chosen, bench, results, TUNE_DRAWS, range(seeds))


def parts(
    *,
    dims: Sequence[int] = (256,),
    shots: str = SHOTS,
    descriptions: str = "",
    arms: Sequence[str] | None = None,
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    """:func:`run` in parts that do not wait for one another, the long ones first, by title."""
    told = settings | {"dims": dims, "descriptions": descriptions}
    names = _checked(arms, descriptions, dims)
    learning = [name for name in names if name not in ZEROS]
    counts = sorted(_counts(shots), reverse=True) if learning else []
    found = {f"k = {k}": told | {"shots": str(k), "arms": learning} for k in counts}
    if zeros := [name for name in names if name in ZEROS]:
        found[ZERO] = told | {"shots": shots, "arms": zeros}
    return found


def _checked(arms: Sequence[str] | None, descriptions: str, dims: Sequence[int]) -> list[str]:
    """The arms to run; those that read descriptions where there are some."""
    if len(dims) != 1:
        raise OptionError(f"--dims {','.join(map(str, dims))}: few-shot runs at one dimension.")
    names = named(arms, ARMS)
    for name in names:
        base = ARMS[name].base
        if base and base not in names:
            raise OptionError(f"the arm {name!r} starts from {base!r}: run both.")
    if descriptions:
        return names
    if arms is not None and any(ARMS[arm].described for arm in names):
        raise OptionError("arms with descriptions need them: --set descriptions=FILE.")
    return [arm for arm in names if not ARMS[arm].described]


def _counts(shots: str) -> list[int]:
    return wholes_in(shots, "--set shots", least=1, example="shots=1,4,16")


def arms_of(results: ResultsFile, data: str) -> dict[tuple[str, int], list[Record]]:
    """The measured runs of a data set by arm and texts of a class; names alone have 0.

    Where a grid was made wider, or descriptions were changed, there are runs of several settings:
    those that are best on val of what was tried, of the descriptions that were read last.
    """
    found: dict[str, dict[tuple[str, int], list[Record]]] = {"tune": {}, "measure": {}}
    for stage, records in found.items():
        for record in results.of(experiment=NAME, stage=stage):
            if record.data["name"] == data:
                at = record.labels["arm"], record.labels["shots"]
                records.setdefault(at, []).append(record)
    return {
        at: _preferred(records, found["tune"].get(at, ()))
        for at, records in found["measure"].items()
    }


def _preferred(measured: Sequence[Record], tuned: Sequence[Record]) -> list[Record]:
    """The runs of one setting."""
    told = _settings(measured[-1]).get("descriptions")
    by_settings: dict[str, list[Record]] = {}
    for record in measured:
        if _settings(record).get("descriptions") == told:
            by_settings.setdefault(json.dumps(_settings(record), sort_keys=True), []).append(record)
    worth: dict[str, list[float]] = {}
    for record in tuned:
        key = json.dumps(_settings(record), sort_keys=True)
        worth.setdefault(key, []).append(record.figures["val"]["path_accuracy"])
    means = {key: float(np.mean(worth.get(key, [0.0]))) for key in by_settings}
    best = max(means.values())
    return by_settings[[key for key in by_settings if means[key] == best][-1]]


def _settings(record: Record) -> dict[str, Any]:
    settings: dict[str, Any] = record.run.to_json()["settings"]
    return settings


def _arm(
    name: str,
    shots: int,
    chosen: Mapping[str, dict[str, Any]],
    bench: Bench,
    results: ResultsFile,
    tune: Sequence[int],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Tune an arm on val, then measure it; the settings that were chosen."""
    arm = ARMS[name]
    base = {"shots": shots} | (chosen[arm.base] if arm.base else bench.defaults(arm.method))
    if arm.described:
        base |= {"descriptions": bench.described}
    grid = [base | more for more in arm.grid]
    labels = {"experiment": NAME, "arm": name, "shots": shots}
    tried = bench.run(
        [Trial(arm.method, settings, seed) for settings in grid for seed in tune],
        results,
        labels | {"stage": "tune"},
    )
    found = [record.figures["val"]["path_accuracy"] for record in tried]
    means = np.array(found).reshape(len(grid), len(tune)).mean(1)
    best = grid[int(means.argmax())]  # ties go to the first
    trials = [Trial(arm.method, best, seed) for seed in seeds]
    bench.run(trials, results, labels | {"stage": "measure"})
    return best
