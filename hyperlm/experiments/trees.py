"""How many dimensions does a label tree need? Points trained without texts, in the ball and flat.

``hyperlm embed`` with one option changed. A tree is to be given back, nothing is held out: every
seed takes the learning rate and the temperature with the best average precision on the tree itself.
It tries a grid, then what is beside the best, until the best has been compared with all of it.
Command: ``hyperlm experiment trees``.
"""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from hyperlm.data import read_tree
from hyperlm.embedding import EmbeddingOptions, embed, reconstruction
from hyperlm.errors import HyperlmWarning, OffManifoldError, OptionError
from hyperlm.experiments.arms import LADDER, apart, named
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.manifolds import distortion
from hyperlm.taxonomy import Taxonomy

__all__ = ["ARMS", "EPOCHS", "NAME", "Tree", "arms_of", "enclosed", "parts", "read", "run"]

NAME = "trees"
ARMS: Mapping[str, dict[str, str]] = {
    "poincare": {"geometry": "poincare", "start": "random"},
    "euclidean": {"geometry": "euclidean", "start": "random"},
    "poincare, construction": {"geometry": "poincare", "start": "construction"},
    "euclidean, construction": {"geometry": "euclidean", "start": "construction"},
}
DIMS = (2, 4, 8, 12, 16)
EPOCHS = 60
SEEDS = 5
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
# Learning rates and temperatures that tuning begins with: in few dimensions a sharp start and a
# blunt one lead to different places.
GRID = tuple(itertools.product((3e-2, 1e-1, 3e-1, 1.0), (0.5, 2.0, 8.0)))
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


def read(
    source: str,
    *,
    backbone: str = "minilm",
    max_length: int = 128,
    precision: str = "auto",
    columns: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Tree:
    """The taxonomy of a data set, of a file that ``Taxonomy.read`` takes, or of labels alone.

    Raises:
        OptionError: a backbone, a length or a precision, for nothing is read.
        DataError, TaxonomyError: it is neither, or cannot be used.
    """
    if (backbone, max_length, precision) != ("minilm", 128, "auto"):
        raise OptionError(
            f"{NAME} read no texts: leave out --backbone, --max-length and --precision."
        )
    path, given = Path(source), dict(columns or {})
    if path.is_file() and "taxonomy" not in given:
        found = read_tree(path, **given)
        if found.counts is None:  # a taxonomy, or labels alone
            for line in found.advice:
                warnings.warn(f"{source}: {line}", HyperlmWarning, stacklevel=2)
            return Tree(path.name, found.taxonomy, {})
    from hyperlm.experiments.features import FrozenData

    data = FrozenData(source, columns=columns)
    return Tree(data.name, data.taxonomy, data.describe()["files"])


def run(
    data: Tree,
    results: ResultsFile,
    *,
    seeds: int = SEEDS,
    dims: Sequence[int] = DIMS,
    arms: Sequence[str] | None = None,
    pairs: str = "closure",
    progress: bool = False,
) -> None:
    """Train what is missing in the results file: seed after seed, all arms of each.

    Args:
        pairs: what is learnt, ``closure`` (all ancestors) or ``edges`` (parents alone); all
            ancestors are ranked in either case.
    Raises:
        OptionError: unknown arms or pairs.
    """
    told = {"pairs": pairs, "epochs": EPOCHS}
    every = [(dim, seed, arm) for dim in dims for seed in range(seeds) for arm in named(arms, ARMS)]
    for dim, seed, arm in tqdm(every, desc=f"{NAME} {data.name}", disable=not progress):
        _tune(arm, told | {"dim": dim}, seed, data, results)


def parts(
    *, dims: Sequence[int] = DIMS, arms: Sequence[str] | None = None, **settings: Any
) -> dict[str, dict[str, Any]]:
    """:func:`run` in parts that do not wait for one another, the long ones first, by title."""
    return apart(named(arms, ARMS), dims, settings)


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
        best = [_best(records) for records in found[at].values()]
        if measured := [record for record in best if record.figures["test"]]:
            arms[at] = measured
    return arms


def enclosed(record: Record, results: ResultsFile) -> bool:
    """Whether all that is beside its settings was tried by its seed, and they are at no end."""
    at = _rates(record)
    tried = {
        _rates(other)
        for other in results.of(**record.labels)
        if other.data == record.data
        and other.run.seed == record.run.seed
        and _settings(other)["dim"] == _settings(record)["dim"]
    }
    ends = (LADDER[0], LADDER[-1]), (TEMPERATURES[0], TEMPERATURES[-1])
    at_end = any(value in end for value, end in zip(at, ends, strict=True))
    return not at_end and set(_beside(*at)) <= tried


def _tune(arm: str, told: Mapping[str, Any], seed: int, data: Tree, results: ResultsFile) -> Record:
    """The grid, then from the best to the better ones beside it, until there is none."""
    tried: dict[tuple[float, float], Record] = {}
    ahead = list(GRID)
    while ahead:
        for rate, temperature in ahead:
            rates = {"learning_rate": rate, "temperature": temperature}
            (tried[rate, temperature],) = run_trials(
                [Trial("hyperlm embed", {**ARMS[arm], **told, **rates}, seed)],
                lambda trial: _train(data.taxonomy, trial),
                results,
                source=data.describe(),
                labels={"experiment": NAME, "arm": arm, "pairs": told["pairs"]},
            )
        best = _best(list(tried.values()))
        ahead = [at for at in _beside(*_rates(best)) if at not in tried]
    return best


def _beside(rate: float, temperature: float) -> list[tuple[float, float]]:
    """One step up or down in either or in both."""
    i, j = LADDER.index(rate), TEMPERATURES.index(temperature)
    around = itertools.product(LADDER[max(0, i - 1) : i + 2], TEMPERATURES[max(0, j - 1) : j + 2])
    return [at for at in around if at != (rate, temperature)]


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


def _best(records: Sequence[Record]) -> Record:
    """The best average precision; ties go to the better mean rank, then to the gentler settings."""
    return max(records, key=lambda r: (*_score(r), *(-value for value in _rates(r))))


def _score(record: Record) -> tuple[float, float]:
    test = record.figures["test"]
    return test.get("map", -1.0), -test.get("mean_rank", math.inf)


def _settings(record: Record) -> Mapping[str, Any]:
    assert isinstance(record.run, Trial)
    return record.run.settings


def _rates(record: Record) -> tuple[float, float]:
    settings = _settings(record)
    return settings["learning_rate"], settings["temperature"]
