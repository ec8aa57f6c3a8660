"""The section of the report on decoders: labels in words, each at a layer, or as points."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hyperlm.experiments.answers import NAME, arms_of, budget
from hyperlm.experiments.markdown import BARS, figure, picture, save_picture, spread, table
from hyperlm.experiments.quantities import Quantity, interval, known
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.sources import called, precision_option
from hyperlm.experiments.verdicts import against
from hyperlm.viz.intervals import Lines, intervals_figure

__all__ = ["section"]

_BASE = "flat"
# Column, and its figure of a record.
_COST: dict[str, Callable[[Record], float]] = {
    "training, s": lambda record: record.seconds,
    "ms a text": lambda record: record.figures["milliseconds"],
    "trained, M": lambda record: record.figures["trained"] / 1e6,
}


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms = arms_of(results, name)
        # The arm that says everything at the last layer does not know the layers of the others.
        every = [record for records in arms.values() for record in records]
        first = next((r for r in every if r.labels["arm"] != _BASE), every[0])
        kinds = known(record for records in arms.values() for record in records)
        parts += [f"### {name}", _budget(first), _table(arms, kinds)]
        if sentences := against(arms, _BASE, kinds):
            parts += [f"Against {_BASE}, paired:", *sentences]
        image = picture(images, NAME, name)
        _draw(arms, kinds, image)
        parts.append(figure(image, f"Accuracy by kind of answer on {name}"))
    if not parts:
        return []
    return [
        "## In words or as points",
        "One decoder with LoRA, four ways to answer, the same budget. *flat*: the path is said at "
        "the last layer; *hdlm*: each level at a layer of its own; *points*: hyperbolic heads on "
        "these layers; *joined*: the point of a level conditions the next; *free*: names scored "
        "among all tokens, not those the trie allows. Time of an answer: best path, batches of 8; "
        "what is trained: adapters and heads. The learning rate is one for all arms and was not "
        "tuned. `hyperlm experiment answers`",
        *parts,
    ]


def _draw(arms: dict[str, list[Record]], kinds: list[Quantity], path: Path) -> None:
    """A panel for each accuracy."""
    panels: dict[str, Lines] = {}
    for kind in kinds:
        if kind.is_level or kind.name in ("path", "macro-F1"):
            found = {arm: interval(records, kind, "test") for arm, records in arms.items()}
            panels[kind.name] = {arm: at.bar for arm, at in found.items()}
    save_picture(intervals_figure(panels, x_label="percent", notes=[BARS]), path)


def _budget(record: Record) -> str:
    """What was run, as the command that repeats it."""
    settings = budget(record)
    changes = {
        "layers": ",".join(map(str, record.figures["layers"])),
        "rank": settings["lora"],
        "rate": settings["learning_rate"],
        "epochs": settings["epochs"],
        "batch": settings["batch_size"],
        "texts": settings["texts"] or 0,
        "words": settings["words"] or 0,
        "answered": settings["answered"] or 0,
    }
    told = " ".join(f"--set {key}={value}" for key, value in changes.items())
    return (
        f"{settings['texts'] or 'All'} training texts drawn by the seed, {settings['epochs']} "
        f"epochs, {record.figures['test']['n']} test texts, the first "
        f"{settings['words'] or 'words up to the limit'} words of each. "
        f"`hyperlm experiment {NAME} --data {called(record.data)} "
        f"--backbone {settings['backbone']} --max-length {settings['max_length']} "
        f"{' '.join([*precision_option(record.data), told])}`"
    )


def _table(arms: dict[str, list[Record]], kinds: list[Quantity]) -> str:
    rows = []
    for arm, records in arms.items():
        figures = [spread(interval(records, kind, "test"), kind) for kind in kinds]
        cost = [float(np.mean([of(record) for record in records])) for of in _COST.values()]
        layers = ",".join(map(str, records[0].figures["layers"]))
        rows.append(
            [f"{arm} ({layers})", str(len(records)), *figures, *(f"{c:,.1f}" for c in cost)]
        )
    header = ["answer (layers)", "seeds", *(kind.name for kind in kinds), *_COST]
    return table(header, rows)
