"""The section of the report on trees without texts: figures by dimension, in the ball and flat."""

import math
from collections import Counter
from pathlib import Path

from hyperlm.experiments.compare_geometries import question
from hyperlm.experiments.markdown import (
    figure,
    gathered,
    picture,
    save_picture,
    table,
)
from hyperlm.experiments.quantities import Quantity, interval, seeds_of, values
from hyperlm.experiments.report_compare import by_dimension, differences
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.sources import arguments, arm_options
from hyperlm.experiments.statistics import BETTER_HERE
from hyperlm.experiments.trees import (
    ARMS,
    DIMS,
    EPOCHS,
    GRID,
    NAME,
    SEEDS,
    Arms,
    arms_of,
    enclosed,
)
from hyperlm.experiments.trials import Trial
from hyperlm.viz.curves import Panel, curves_figure

__all__ = ["AVERAGE_PRECISION", "section"]

AVERAGE_PRECISION = Quantity("MAP", "average precision of ancestors", ("map",))
_KINDS = (
    AVERAGE_PRECISION,
    Quantity("below", "the same without the root", ("map_below_root",)),
    Quantity("rank", "mean rank of an ancestor", ("mean_rank",), False, False),
    Quantity("distortion", "distortion of tree distances", ("distortion",), False),
)
_PAIRS = (
    ("poincare", "euclidean"),
    ("poincare, construction", "euclidean, construction"),
    ("poincare, construction", "poincare"),
)
_ON_TREE = BETTER_HERE.replace("these texts", "this tree")


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every tree that has been measured; draws one figure for each."""
    records = results.of(experiment=NAME)
    parts: list[str] = []
    for name, pairs in dict.fromkeys((r.data["name"], r.labels["pairs"]) for r in records):
        arms = arms_of(results, name, pairs)
        if not arms:
            continue
        nodes = next(r.data["nodes"] for r in records if r.data["name"] == name)
        learnt = "" if pairs == "closure" else ", from parents alone"
        title = f"{name}, {nodes:,} nodes{learnt}"
        told = " ".join([arguments(records, name), *_settings(arms, pairs)])
        cost = sum(
            r.context["cpu_seconds"]
            for r in records
            if (r.data["name"], r.labels["pairs"]) == (name, pairs)
        )
        parts += [
            f"### {title}",
            f"`hyperlm experiment {NAME} {told}`, {seeds_of(arms.values())}, {cost / 60:.0f} "
            "minutes of CPU time with the tuning.",
            *(by_dimension(arms, kind) for kind in _known(arms)),
            _chosen(arms, results),
            *_differences(arms),
        ]
        image = picture(images, NAME, name, pairs)
        _draw(arms, image)
        parts.append(figure(image, f"Trees as points by dimension: {title}"))
    return ["## Trees without texts", _method(), *parts] if parts else []


def _method() -> str:
    return (
        "Label trees as points, trained by `hyperlm embed` without any text: a node's ancestors "
        "are to be the nearest of all nodes. *poincare* and *euclidean* start at random, *"
        "construction* from a layout of the tree for either space. Same loss, batches and steps, "
        f"{EPOCHS} epochs. Nothing is held out: what is measured is how well so many dimensions "
        "hold the tree, and every seed has the learning rate and the temperature that are best "
        f"for the average precision (MAP), of {len(GRID)} on a grid and of those beside the best; "
        "the other figures are at the same settings. The root counts among the ancestors, as in "
        "published figures, and lies at the origin; *without the root* leaves it out. "
        "*Distortion*: mean relative error of the distances in the tree, after one best scale."
    )


def _known(arms: Arms) -> list[Quantity]:
    """The quantities that every run has: a tree of one level has no ancestors below the root."""
    every = [record for records in arms.values() for record in records]
    return [k for k in _KINDS if not any(map(math.isnan, values(every, k, "test")))]


def _chosen(arms: Arms, results: ResultsFile) -> str:
    """Rates and temperatures of the seeds, and how many of them tuning has enclosed."""
    every = [record for records in arms.values() for record in records]
    inside = sum(enclosed(record, results) for record in every)
    listed = []
    for (arm, dim), records in arms.items():
        at = Counter(_rates(record) for record in records)
        shares = (told + f" ({count})" * (len(at) > 1) for told, count in at.most_common())
        listed.append(f"{arm} {dim}: {' or '.join(shares)}")
    summary = f"Tuning: {inside} of {len(every)} runs lie inside what was tried"
    text = f"Chosen (arm, dimension: learning rate, temperature): {'; '.join(listed)}."
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"


def _settings(arms: Arms, pairs: str) -> list[str]:
    """The options that repeat the runs, where they are not the command's own."""
    seeds = max(len(records) for records in arms.values())
    dims = sorted({dim for _, dim in arms})
    told = [f"--seeds {seeds}"] if seeds != SEEDS else []
    if dims != list(DIMS):
        told.append(f"--dims {','.join(map(str, dims))}")
    if pairs != "closure":
        told.append(f"--set pairs={pairs}")
    return told + arm_options(list(dict.fromkeys(arm for arm, _ in arms)), list(ARMS))


def _rates(record: Record) -> str:
    assert isinstance(record.run, Trial)
    return "{learning_rate:g}, {temperature:g}".format(**record.run.settings)


def _differences(arms: Arms) -> list[str]:
    there = {arm for arm, _ in arms}
    parts = []
    for first, second in _PAIRS:
        if not {first, second} <= there:
            continue
        found = {kind: question(arms, kind, first, second) for kind in _known(arms)}
        dims = [dim for dim, _, _ in next(iter(found.values()))]
        if not dims:
            continue
        rows = [[kind.title, *differences(answers, dims, kind)] for kind, answers in found.items()]
        parts += [
            table([f"{first} less {second}", *(f"d = {dim}" for dim in dims)], rows),
            "\n".join(
                f"- {kind.title}: {gathered(answers, kind).replace(BETTER_HERE, _ON_TREE)}"
                for kind, answers in found.items()
            ),
        ]
    return parts


def _draw(arms: Arms, path: Path) -> None:
    panels = []
    for kind in _known(arms):
        series: dict[str, list[tuple[float, float, float, float]]] = {}
        for (arm, dim), records in arms.items():
            series.setdefault(arm, []).append((dim, *interval(records, kind, "test").bar))
        panels.append(Panel(kind.title, "percent" if kind.percent else "rank", series))
    notes = ["More is better of average precision, less of rank and distortion."]
    save_picture(curves_figure(panels, x_label="dimension", notes=notes), path)
