"""How many dimensions does a label tree need? Points trained without texts, in the ball and flat.

``hyperlm embed`` with one option changed. A tree is to be given back, nothing is held out: every
seed takes the learning rate and the temperature with the best average precision on the tree itself,
once they have been compared with those beside them. Command: ``hyperlm experiment trees``.
"""

import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from hyperlm.embedding import EmbeddingOptions, embed, reconstruction
from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.experiments.arms import LADDER, named
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.manifolds import distortion
from hyperlm.taxonomy import Taxonomy

__all__ = ["ARMS", "NAME", "Tree", "arms_of", "enclosed", "read", "run"]

NAME = "trees"
ARMS: Mapping[str, dict[str, str]] = {
    "poincare": {"geometry": "poincare", "start": "random"},
    "euclidean": {"geometry": "euclidean", "start": "random"},
    "poincare, construction": {"geometry": "poincare", "start": "construction"},
    # The vectors that are polar coordinates in the ball, taken for flat ones.
    "euclidean, construction": {"geometry": "euclidean", "start": "construction"},
}
DIMS = (2, 4, 8, 16, 32)
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
FIRST = (0.1, 4.0)  # learning rate and temperature that tuning begins with
RANKED = 2000  # nodes, at most
Arms = dict[tuple[str, int], list[Record]]


@dataclass(frozen=True)
class Tree:
    """A taxonomy by the name and the files it was read from."""

    name: str
    taxonomy: Taxonomy
    files: Mapping[str, Any]

    def describe(self) -> dict[str, Any]:
        """What tells it from others, for the results file."""
        return {
            "name": self.name,
            "taxonomy": self.taxonomy.fingerprint,
            "files": dict(self.files),
            "nodes": len(self.taxonomy),
        }


def read(source: str, *, columns: Mapping[str, Any] | None = None, **_: Any) -> Tree:
    """The taxonomy of a data set, or a file that ``Taxonomy.read`` takes.

    Raises:
        DataError, TaxonomyError: it is neither, or cannot be used.
    """
    path = Path(source)
    if path.is_file() and not columns and _holds_tree(path):
        return Tree(path.name, Taxonomy.read(path), {})
    from hyperlm.experiments.features import FrozenData

    data = FrozenData(source, columns=columns)
    return Tree(data.name, data.taxonomy, data.describe()["files"])


def _holds_tree(path: Path) -> bool:
    """Whether a file is a taxonomy, and no table of texts."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (".csv", ".tsv"):
        return suffix in (".json", ".yaml", ".yml", ".taxonomy")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        header = file.readline().lower()
    return b"child" in header and b"parent" in header


def run(
    data: Tree,
    results: ResultsFile,
    *,
    seeds: int = 5,
    dims: Sequence[int] = DIMS,
    arms: Sequence[str] | None = None,
    pairs: str = "closure",
    epochs: int = 60,
    progress: bool = False,
) -> None:
    """Train what is missing in the results file: seed after seed, all arms of each.

    Args:
        pairs: what is learnt, ``closure`` (all ancestors) or ``edges`` (parents alone); all
            ancestors are ranked in either case.
        epochs: of every training.
    Raises:
        OptionError: unknown arms or pairs, no epochs.
    """
    if epochs < 1:
        raise OptionError(f"--set epochs={epochs}: give 1 or more, as in epochs=60.")
    told = {"pairs": pairs, "epochs": epochs}
    every = [(dim, seed, arm) for dim in dims for seed in range(seeds) for arm in named(arms, ARMS)]
    for dim, seed, arm in tqdm(every, desc=f"{NAME} {data.name}", disable=not progress):
        _tune(arm, told | {"dim": dim}, seed, data, results)


def arms_of(results: ResultsFile, data: str, pairs: str) -> Arms:
    """By arm and dimension, every seed at the settings that are best for it."""
    found: dict[tuple[str, int], dict[int, list[Record]]] = {}
    for record in results.of(experiment=NAME, pairs=pairs):
        if record.data["name"] == data:
            at = record.labels["arm"], _settings(record)["dim"]
            found.setdefault(at, {}).setdefault(record.run.seed, []).append(record)
    order = list(ARMS)
    arms = {}
    for at in sorted(found, key=lambda at: (order.index(at[0]), at[1])):
        best = [max(records, key=_score) for records in found[at].values()]
        if measured := [record for record in best if record.figures["test"]]:
            arms[at] = measured
    return arms


def enclosed(record: Record, results: ResultsFile) -> bool:
    """Whether all that is beside its settings was tried by its seed, and they are at no end."""
    rate, temperature = _rates(record)
    tried = {
        _rates(other)
        for other in results.of(**record.labels)
        if other.data == record.data
        and other.run.seed == record.run.seed
        and _settings(other)["dim"] == _settings(record)["dim"]
    }
    ends = {LADDER[0], LADDER[-1]}, {TEMPERATURES[0], TEMPERATURES[-1]}
    at_end = rate in ends[0] or temperature in ends[1]
    return not at_end and set(_beside(rate, temperature)) <= tried


def _tune(arm: str, told: Mapping[str, Any], seed: int, data: Tree, results: ResultsFile) -> Record:
    """Climb from rate and temperature to the better ones beside them, until there is none."""
    tried: dict[tuple[float, float], Record] = {}
    at = FIRST
    while True:
        for rate, temperature in (at, *_beside(*at)):
            if (rate, temperature) not in tried:
                rates = {"learning_rate": rate, "temperature": temperature}
                trial = Trial("hyperlm embed", {**ARMS[arm], **told, **rates}, seed)
                (tried[rate, temperature],) = run_trials(
                    [trial],
                    lambda trial: _train(data.taxonomy, trial),
                    results,
                    source=data.describe(),
                    labels={"experiment": NAME, "arm": arm, "pairs": told["pairs"]},
                )
        best = max(tried, key=lambda rates: _score(tried[rates]))
        if best == at:
            return tried[at]
        at = best


def _beside(rate: float, temperature: float) -> list[tuple[float, float]]:
    """One step up or down in either."""
    i, j = LADDER.index(rate), TEMPERATURES.index(temperature)
    return [
        *((LADDER[k], temperature) for k in (i - 1, i + 1) if 0 <= k < len(LADDER)),
        *((rate, TEMPERATURES[k]) for k in (j - 1, j + 1) if 0 <= k < len(TEMPERATURES)),
    ]


def _train(taxonomy: Taxonomy, trial: Trial) -> dict[str, Any]:
    """Figures of one training; none where the points left the numbers."""
    options = EmbeddingOptions(**trial.settings, seed=trial.seed)
    try:
        points = embed(taxonomy, options)
        found = reconstruction(taxonomy, points, c=options.c, nodes=RANKED)
    except OffManifoldError as error:
        return {"test": {}, "failed": str(error)}
    figures = found._asdict() | {"distortion": distortion(taxonomy, points, c=options.c)}
    return {
        "test": {key: None if math.isnan(value) else value for key, value in figures.items()},
        "geometry": {"largest_radius": float(points.norm(dim=1).max())},
    }


def _score(record: Record) -> float:
    return float(record.figures["test"].get("map", -1.0))


def _settings(record: Record) -> Mapping[str, Any]:
    assert isinstance(record.run, Trial)
    return record.run.settings


def _rates(record: Record) -> tuple[float, float]:
    settings = _settings(record)
    return settings["learning_rate"], settings["temperature"]
