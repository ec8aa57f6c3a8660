"""What of the head helps? One setting changed at a time, judged on val.

Everything else, the learning rates included, stays as in the base, with the same seeds. Command:
``hyperlm experiment ablate``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun

__all__ = ["BASE", "CHANGES", "NAME", "arms_of", "parts", "run"]

NAME = "ablate"
BASE = "base"
# Rates from the middle of what `compare-geometries` tunes over, and the start from names.
_BASE = HeadRun(init="names", head_lr=3e-3, node_lr=3e-2)
CHANGES: Mapping[str, dict[str, Any]] = {
    BASE: {},
    "random start": {"init": "random"},
    "tree start, tau = 0.3": {"init": "tree", "init_step": 0.3},
    "features whitened": {"whiten": True},
    "start from texts": {"init": "texts"},
    "start from texts, whitened, temperature 20, rates 3e-4 and 1e-2": {
        "init": "texts",
        "whiten": True,
        "temperature": 20.0,
        "head_lr": 3e-4,
        "node_lr": 1e-2,
    },
    "c = 0.25": {"curvature": 0.25},
    "c = 4": {"curvature": 4.0},
    "c learned": {"learn_curvature": True},
    "texts within radius 1": {"max_radius": 1.0},
    "texts within radius 2": {"max_radius": 2.0},
    "cones on edges, weight 0.1": {"cone_weight": 0.1, "cone_pairs": "edges"},
    "cones on the closure, weight 0.1": {"cone_weight": 0.1},
    "cones on the closure, weight 1": {"cone_weight": 1.0},
    "cones on texts, weight 0.1": {"text_cone_weight": 0.1},
    "path loss": {"loss": "path"},
    "leaf loss": {"loss": "leaf"},
    "last layer alone": {"layers": "6"},
    "layers 2, 4, 6": {"layers": "2,4,6"},
    "joined layers, random start": {"joined": True, "init": "random"},
    "ball coordinates": {"coordinates": "native"},
    "points by AdamW on coordinates": {"point_optimizer": "adamw"},
    "points by AdamW on coordinates, rate 3e-3": {"point_optimizer": "adamw", "node_lr": 3e-3},
    "one temperature for all levels": {"temperatures": "shared"},
    "temperature fixed": {"temperatures": "fixed"},
    "temperature 5": {"temperature": 5.0},
    "temperature 20": {"temperature": 20.0},
    "dropout 0.1": {"dropout": 0.1},
    "dropout 0.5": {"dropout": 0.5},
    "batches of 32": {"batch_size": 32},
    "10 epochs": {"epochs": 10},
    "40 epochs": {"epochs": 40},
    "flat": {"geometry": "euclidean"},
}


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 5,
    dims: Sequence[int] = (64,),
    changes: Sequence[str] = tuple(CHANGES),
    progress: bool = False,
) -> None:
    """Train what is missing in the results file."""
    for dim in dims:
        for name in changes:
            changed = replace(_BASE, dim=dim, **CHANGES[name])
            run_all(
                [replace(changed, seed=seed) for seed in range(seeds)],
                data,
                results,
                labels={"experiment": NAME, "arm": name},
                progress=progress,
            )


def parts(
    *, dims: Sequence[int] = (64,), changes: Sequence[str] = tuple(CHANGES), **settings: Any
) -> dict[str, dict[str, Any]]:
    """:func:`run` in parts that do not wait for one another, by title."""
    return {
        f"{name}, d = {dim}": settings | {"dims": (dim,), "changes": [name]}
        for dim in sorted(dims, reverse=True)
        for name in changes
    }


def arms_of(results: ResultsFile, data: str) -> dict[str, list[Record]]:
    """The runs of a data set by what was changed, the base first."""
    found: dict[str, list[Record]] = {name: [] for name in CHANGES}
    for record in results.of(experiment=NAME):
        if record.data["name"] == data and record.labels["arm"] in found:
            found[record.labels["arm"]].append(record)
    return {name: records for name, records in found.items() if records}
