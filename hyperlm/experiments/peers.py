"""What do others get on the same splits, and at what cost?

Words and a linear SVM; local classifiers of HiClass and one logistic regression per level on the
frozen features that our heads read, plain prototypes in geoopt's ball on those of the last layer;
SetFit and a flat classifier that tune the backbone, and ours. Each in a process of its own, so that
time and memory are its own; each with the setting of its grid that is best on val. Command:
``hyperlm experiment peers``; needs ``pip install 'hyperlm-toolkit[peers]'``.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperlm.errors import OptionError
from hyperlm.experiments.arms import grid
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.peer_methods import ask, check_single_paths
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.trials import Trial, run_trials

__all__ = ["FEATURES", "NAME", "SYSTEMS", "Peer", "arms_of", "features_of", "run"]

NAME = "peers"
FEATURES = "features"  # the arm whose cost is that of the frozen backbone


@dataclass(frozen=True)
class Peer:
    """A system.

    Attributes:
        title: in the tables.
        method: of :data:`~.peer_methods.METHODS`.
        grid: settings to choose from on val.
        head: for ours on frozen features: a run whose learning rates are tuned instead.
        frozen: reads frozen features, which cost something before it begins.
        drawn: seeds change its result, and training again is cheap.
        needs: a library of the extra ``peers``.
    """

    title: str
    method: str
    grid: tuple[dict[str, Any], ...] = ()
    head: HeadRun | None = None
    frozen: bool = False
    drawn: bool = False
    needs: str | None = None


def _hiclass(per: str, strengths: Sequence[float]) -> Peer:
    return Peer(
        f"HiClass, per {per}",
        "hiclass",
        tuple({"per": per, "C": c} for c in strengths),
        frozen=True,
        needs="hiclass",
    )


_STRENGTHS = (0.001, 0.003, 0.01, 0.1, 1.0, 10.0)
_TUNE_SEEDS = 100, 101  # measured ones begin at 0
SYSTEMS: Mapping[str, Peer] = {
    "tfidf": Peer(
        "TF-IDF, linear SVM",
        "tf-idf svm",
        (
            # As the library has it, then what is known to help with pairs of words.
            {"sublinear": False, "min_texts": 1, "C": 1.0},
            {"sublinear": True, "min_texts": 1, "C": 1.0},
            *({"sublinear": True, "min_texts": 2, "C": c} for c in (1.0, 3.0, 10.0, 30.0, 100.0)),
        ),
    ),
    "hiclass-parent": _hiclass("parent", _STRENGTHS),
    "hiclass-node": _hiclass("node", _STRENGTHS),
    "hiclass-level": _hiclass("level", _STRENGTHS),
    "per-level": Peer(
        "logistic regression per level",
        "logistic regression per level",
        tuple({"C": c} for c in _STRENGTHS),
        frozen=True,
    ),
    "geoopt": Peer(
        "geoopt prototypes",
        "geoopt prototypes",
        tuple(
            {"dim": 64, "epochs": 20, "batch": 128, "rate": rate, "scale": scale}
            for rate, scale in (
                (1e-2, 1.0),
                *((rate, 5.0) for rate in (3e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
            )
        ),
        frozen=True,
        drawn=True,
    ),
    "linear": Peer(
        "hyperlm, linear head",
        "hyperlm head",
        head=HeadRun(head="linear"),
        frozen=True,
        drawn=True,
    ),
    "hyperbolic": Peer(
        "hyperlm, Poincaré head from texts",
        "hyperlm head",
        head=HeadRun(init="texts", temperature=20.0, dim=128, radius_on_val=True),
        frozen=True,
        drawn=True,
    ),
    # 400 steps of 16 pairs read as many texts as four epochs of dbpedia's 3,200.
    "setfit": Peer("SetFit", "setfit", ({"steps": 400, "batch": 16},), needs="setfit"),
    "flat-tuned": Peer(
        "flat fine-tuning",
        "hyperlm train",
        (
            {
                "options": {
                    "head": "linear",
                    "init": "random",
                    "loss": "leaf",
                    "layers": "-1",
                    "learning_rate": 2e-4,
                }
            },
        ),
    ),
    "hyperbolic-tuned": Peer("hyperlm, fine-tuned", "hyperlm train", ({"options": {}},)),
}


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 3,
    systems: str = ",".join(SYSTEMS),
    progress: bool = False,
) -> None:
    """Train what is missing in the results file.

    Args:
        seeds: runs of the heads on frozen features that draw numbers; the other systems run once:
            they draw nothing, or tune the backbone, which takes minutes.
        systems: names from :data:`SYSTEMS`, with commas.
    Raises:
        OptionError: an unknown system, or one whose library is not installed. DataError: see
            :func:`~.peer_methods.check_single_paths`.
    """
    names = [name.strip() for name in systems.split(",") if name.strip()]
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown or not names:
        raise OptionError(f"systems {systems!r}: choose from {', '.join(SYSTEMS)}, with commas.")
    _check_installed([SYSTEMS[name] for name in names])
    check_single_paths(data)
    if any(SYSTEMS[name].frozen for name in names):
        _measured([Trial("features")], FEATURES, "measure", data, results, progress)
    for name in names:
        peer = SYSTEMS[name]
        settings = _chosen(peer, name, data, results, progress)
        trials = [Trial(peer.method, settings, seed) for seed in range(seeds if peer.drawn else 1)]
        _measured(trials, name, "measure", data, results, progress)


def arms_of(results: ResultsFile, data: str) -> dict[str, list[Record]]:
    """The measured runs of a data set by system, in the order of :data:`SYSTEMS`."""
    found: dict[str, list[Record]] = {}
    for name in SYSTEMS:
        stages: dict[str, list[Record]] = {"tune": [], "measure": []}
        for record in results.of(experiment=NAME, arm=name):
            if record.data["name"] == data:
                stages[record.labels["stage"]].append(record)
        measured = stages["measure"]
        tried = [r for r in stages["tune"] if isinstance(r.run, Trial)]
        if len({_line(record) for record in measured}) > 1:
            # The grid has been changed between: what tuning prefers now, or what was run last.
            preferred = _line(_best(tried) if tried else measured[-1])
            measured = [record for record in measured if _line(record) == preferred]
        if measured:
            found[name] = measured
    return found


def features_of(results: ResultsFile, data: str) -> Record | None:
    """The record that says what frozen features cost."""
    records = results.of(experiment=NAME, stage="measure", arm=FEATURES)
    return next((record for record in records if record.data["name"] == data), None)


def _check_installed(peers: Sequence[Peer]) -> None:
    needed = {peer.needs for peer in peers if peer.needs}
    missing = sorted(name for name in needed if importlib.util.find_spec(name) is None)
    if missing:
        raise OptionError(
            f"experiment peers runs {' and '.join(missing)}, not installed here: pip install "
            "'hyperlm-toolkit[peers]' (from a checkout: pip install -c constraints.txt -e "
            "'.[peers]'), or leave these systems out with --set systems=A,B."
        )


def _chosen(
    peer: Peer, name: str, data: FrozenData, results: ResultsFile, progress: bool
) -> dict[str, Any]:
    """The settings of the grid that are best on val."""
    if peer.head is not None:
        tries = [replace(run, seed=seed) for run in grid(peer.head) for seed in _TUNE_SEEDS]
        labels = {"experiment": NAME, "arm": name, "stage": "tune"}
        run = _best_mean(run_all(tries, data, results, labels=labels)).to_json()
        return {key: value for key, value in run.items() if key != "seed"}
    if len(peer.grid) == 1:
        return peer.grid[0]
    seed = _TUNE_SEEDS[0] if peer.drawn else 0
    trials = [Trial(peer.method, settings, seed) for settings in peer.grid]
    tried = _measured(trials, name, "tune", data, results, progress)
    preferred = _best(tried).run
    assert isinstance(preferred, Trial)
    return dict(preferred.settings)


def _best(tried: Sequence[Record]) -> Record:
    """By path accuracy on val; between equals by macro-F1 of the deepest level there."""

    def worth(record: Record) -> tuple[float, float]:
        val = record.figures["val"]
        return val["path_accuracy"], val["levels"][-1]["macro_f1"] or 0.0

    return max(tried, key=worth)


def _best_mean(tried: Sequence[Record]) -> HeadRun:
    """The settings of a head with the best mean path accuracy on val over the seeds."""
    scores: dict[HeadRun, list[float]] = {}
    for record in tried:
        path = record.figures["val"]["path_accuracy"]
        scores.setdefault(replace(record.head, seed=0), []).append(path)
    return max(scores, key=lambda run: sum(scores[run]) / len(scores[run]))


def _line(record: Record) -> str:
    """The settings of a run, without its seed."""
    run = record.run.to_json()
    return json.dumps(run["settings"], sort_keys=True)


def _measured(
    trials: Sequence[Trial],
    arm: str,
    stage: str,
    data: FrozenData,
    results: ResultsFile,
    progress: bool,
) -> list[Record]:
    return run_trials(
        trials,
        lambda trial: ask(data, trial),
        results,
        source=data.describe(),
        labels={"experiment": NAME, "arm": arm, "stage": stage},
        progress=progress,
    )
