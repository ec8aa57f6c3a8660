"""The section of the report on where node points start."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from hyperlm.experiments.arms import enclosed
from hyperlm.experiments.markdown import BARS, figure, picture, save_picture, spread, table
from hyperlm.experiments.quantities import interval, known
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.starts import NAME, arms_of
from hyperlm.experiments.verdicts import against
from hyperlm.viz.intervals import Lines, intervals_figure

__all__ = ["QUESTIONS", "section"]

# What is compared with what: a question each.
QUESTIONS = (
    ("random", ("tree, tau = 0.3", "tree, tau = 1", "names", "names, T = 20", "texts")),
    ("random, linear", ("names", "texts", "names, linear", "texts, linear")),
    ("names, T = 20", ("names", "names, Euclidean", "names, linear")),
    ("texts", ("texts, Euclidean", "texts, linear")),
)
_UNTRAINED = " (untrained"


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    names = list(dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)))
    parts: list[str] = []
    for name in names:
        panels: dict[str, Lines] = {}
        of_data = [r for r in results.of(experiment=NAME) if r.data["name"] == name]
        dims = sorted({record.head.dim for record in of_data})
        shares = sorted({record.labels["share"] for record in of_data}, reverse=True)
        for share, dim in itertools.product(shares, dims):
            arms = arms_of(results, name, share, dim)
            if not arms:
                continue
            first = next(iter(arms.values()))[0]
            kinds = known(record for records in arms.values() for record in records)
            rows = [
                [
                    arm + _kept(records),
                    *(spread(interval(records, kind, "test"), kind) for kind in kinds),
                ]
                for arm, records in arms.items()
            ]
            count = first.figures["train_texts"]
            path = next(kind for kind in kinds if kind.name == "path")
            at = {arm: interval(records, path, "test") for arm, records in arms.items()}
            panels[f"{count:,} texts, d = {dim}"] = {arm: found.bar for arm, found in at.items()}
            parts += [
                f"### {name}, {count:,} training texts, d = {dim}",
                table(["start", *(kind.name for kind in kinds)], rows),
                *_open_rates(results, name, share, arms),
            ]
            for base, others in QUESTIONS:
                asked = {arm: arms[arm] for arm in (base, *others) if arm in arms}
                if base in asked and (sentences := against(asked, base, kinds)):
                    parts += [f"Against {base}, paired:", *sentences]
        # Starts that training did not improve on are one figure each, which the table has.
        if any(record.head.epochs for record in of_data if record.labels["stage"] == "measure"):
            image = picture(images, NAME, name)
            same = _comparable(panels)
            drawn = intervals_figure(
                panels,
                x_label="whole paths, percent",
                same_scale=same,
                notes=[BARS] if same else [BARS, "Each panel has its own scale."],
            )
            save_picture(drawn, image)
            parts.append(figure(image, f"Accuracy by start on {name}, with 95 % intervals"))
    if not parts:
        return []
    head = [
        "## Where a head starts",
        "Poincaré points unless it says otherwise; every start with its own learning rates. A "
        "start from texts takes the names too, and val may move its labels to one radius. T: "
        "temperature at the start, 10 where it says nothing, and 20 from texts and of *names, "
        "Euclidean* and *names, linear*. "
        f"`hyperlm experiment {NAME}`",
    ]
    if any(_UNTRAINED in part for part in parts):
        head.append(
            "Untrained: the start itself was best on val, for all seeds or for as many as it says, "
            "and stands as it is. It draws nothing; with all texts its figures are the same for "
            "every seed."
        )
    return head + parts


def _comparable(panels: Mapping[str, Lines]) -> bool:
    """Whether one scale shows all panels: not where few dimensions lie far below many."""
    middles = [[middle for middle, _, _ in lines.values()] for lines in panels.values()]
    within = max(max(panel) - min(panel) for panel in middles)
    return max(map(max, middles)) - min(map(min, middles)) <= 3 * within


def _open_rates(
    results: ResultsFile, name: str, share: float, arms: Mapping[str, Sequence[Record]]
) -> list[str]:
    """A sentence on the starts whose rates tuning has not enclosed."""
    tunes = results.of(experiment=NAME, share=share, stage="tune")
    tried = [record for record in tunes if record.data["name"] == name]
    found = [
        arm
        for arm, records in arms.items()
        if not all(enclosed(record.head, tried) for record in records)
    ]
    if not found:
        return []
    return [f"Rates that were not all compared with those beside them: {'; '.join(found)}."]


def _kept(records: Sequence[Record]) -> str:
    """For how many seeds the start itself was better than what training made of it."""
    kept = sum(not record.head.epochs for record in records)
    if not kept:
        return ""
    return _UNTRAINED + f" for {kept} of {len(records)}" * (kept < len(records)) + ")"
