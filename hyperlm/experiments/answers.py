"""In words or as points? One decoder, four ways to answer, the same budget of epochs and tokens.

``flat`` says the whole path at the last layer; ``hdlm`` says each level at a layer of its own;
``points`` puts a hyperbolic head on the same layers; ``joined`` also lets the point of a level
condition the levels below. LoRA on the backbone, the same for all. Command:
``hyperlm experiment answers``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperlm.experiments.arms import named
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.experiments.whole import train_and_measure

__all__ = ["ARMS", "NAME", "arms_of", "budget", "run"]

NAME = "answers"
# Of the point heads, which start from names: as they were measured, before decision 18.
_RATES = {"temperature": 10.0, "head_learning_rate": 3e-3, "point_learning_rate": 3e-2}
ARMS: Mapping[str, dict[str, Any]] = {
    "flat": {"answer": "text"},
    "hdlm": {"answer": "text"},
    "points": {"answer": "points"} | _RATES,
    "joined": {"answer": "joined"} | _RATES,
}


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 3,
    arms: Sequence[str] | None = None,
    layers: str = "20,25,30",
    rank: int = 16,
    rate: float = 1e-3,
    epochs: int = 4,
    batch: int = 8,
    texts: int = 0,
    words: int = 0,
    answered: int = 0,
    scoring: str = "constrained",
    progress: bool = False,
) -> None:
    """Train what is missing in the results file.

    Args:
        arms: of :data:`ARMS`; all by default.
        layers: of the levels, for every arm but ``flat``, which says all at the last of them.
        rank, rate: of the LoRA adapters; the rate is that of all arms.
        texts: training texts, drawn by the seed; 0 for all.
        words: kept of each text; 0 for all that ``data.max_length`` tokens hold.
        answered: test texts, the same for all runs; 0 for all.
        scoring: of the arms in words: ``constrained``, or ``free`` for names among all tokens.
    """
    names = named(arms, ARMS)
    for seed in range(seeds):  # seed by seed: a run that is stopped leaves every arm alike
        for arm in names:
            options = ARMS[arm] | {
                "backbone": data.backbone,
                "layers": _all_at_the_last(layers) if arm == "flat" else layers,
                "lora": rank,
                "learning_rate": rate,
                "epochs": epochs,
                "batch_size": batch,
                "max_length": data.max_length,
            }
            settings: dict[str, Any] = {
                "options": options,
                "texts": texts or None,
                "words": words or None,
                "answered": answered or None,
            }
            if ARMS[arm]["answer"] == "text" and scoring != "constrained":
                settings["scoring"] = scoring
            run_trials(
                [Trial(NAME, settings, seed)],
                lambda trial: train_and_measure(
                    data.bundle, trial, precision=data.precision, progress=progress
                ),
                results,
                source=data.describe(),
                labels={"experiment": NAME, "arm": arm},
            )


def _all_at_the_last(layers: str) -> str:
    parts = layers.split(",")
    return ",".join([parts[-1]] * len(parts))


def arms_of(results: ResultsFile, data: str) -> dict[str, list[Record]]:
    """The runs of a data set by arm; where budgets differ, those with the budget of the last."""
    records = [r for r in results.of(experiment=NAME) if r.data["name"] == data]
    found: dict[str, list[Record]] = {name: [] for name in ARMS}
    for record in records:
        if budget(record) == budget(records[-1]):
            assert isinstance(record.run, Trial)
            arm, how = record.labels["arm"], record.run.settings.get("scoring")
            found.setdefault(f"{arm}, {how}" if how else arm, []).append(record)
    return {name: records for name, records in found.items() if records}


def budget(record: Record) -> dict[str, Any]:
    """What all arms have in common: every setting but the answer, its layers and its scoring."""
    assert isinstance(record.run, Trial)
    settings = dict(record.run.settings)
    options = dict(settings.pop("options"))
    settings.pop("scoring", None)
    own = {"answer", "layers", *_RATES}
    return settings | {k: v for k, v in options.items() if k not in own}
