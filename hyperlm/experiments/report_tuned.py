"""The section of the report on geometries where the backbone was trained with the head."""

from collections.abc import Sequence
from pathlib import Path

from hyperlm.experiments.compare_tuned import (
    ARMS,
    ENOUGH,
    NAME,
    PACES,
    arms_of,
    full,
    nodes_untried,
    pace_of,
    rates_of,
    tries_of,
    untried,
)
from hyperlm.experiments.markdown import BARS, figure, picture, save_picture, spread, table
from hyperlm.experiments.quantities import Quantity, interval, known
from hyperlm.experiments.report_compare import Arms, verdicts, widest
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.sources import arguments, arm_options
from hyperlm.experiments.trials import Trial
from hyperlm.viz.intervals import Lines, intervals_figure

__all__ = ["section"]


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms = arms_of(results, name)
        if not arms:
            continue
        kinds = known(record for records in arms.values() for record in records)
        told = arguments(results.of(experiment=NAME), name)
        parts += [
            f"### {name}, whole models",
            f"`hyperlm experiment compare-geometries {told} {_settings(results, name)}`",
            widest(arms, kinds),
            _tries(results, name),
            *_open(results, name),
            *_calibrated(arms),
            "Differences; bold where a verdict is given:",
            verdicts(arms, kinds),
        ]
        # A single arm is compared with nothing; of single runs a picture enlarges chance.
        if len(arms) > 1 and any(len(records) > 1 for records in arms.values()):
            parts.append(_figure(arms, kinds, picture(images, "whole-models", name)))
    if not parts:
        return []
    return ["## Geometry against geometry, backbone and all", _method(), *parts]


def _settings(results: ResultsFile, name: str) -> str:
    """The options that repeat the tries, where they were not all that the command makes."""
    tries = tries_of(results, name)
    arms = list(dict.fromkeys(arm for arm, *_ in tries))
    rates = sorted({rate for _, _, rate, *_ in tries})
    found = {pace_of(arm, *own): None for arm, _, _, *own in tries}
    paces = [*(pace for pace in PACES if pace in found), *(p for p in found if "/" in p)]
    dropout = _dropout(results, name)
    told = ["--set trained=model", f"--set rates={','.join(f'{rate:g}' for rate in rates)}"]
    if paces:
        told.append(f"--set paces={','.join(paces)}")
    if dropout is not None:
        told.append(f"--set backbone_dropout={dropout:g}")
    return " ".join([*told, *arm_options(arms, list(ARMS))])


def _dropout(results: ResultsFile, name: str) -> float | None:
    """Inside the backbone, where it is not its own; the runs of one name share it."""
    record = next(iter(tries_of(results, name).values()))[0]
    assert isinstance(record.run, Trial)
    dropout: float | None = record.run.settings["options"].get("backbone_dropout")
    return dropout


def _method() -> str:
    rates = ("head_learning_rate", "point_learning_rate", "temperature")
    together = [
        "{:g}, {:g}, {:g}".format(*map(pace["points"].get, rates)) for pace in PACES.values()
    ]
    return (
        "Every weight of the backbone is trained with the head, as `hyperlm train` does with its "
        "defaults, except for the dimension, the tokens read and the rates in the tables; points "
        "of every geometry start from label names, "
        "*linear* at random and *linear, names* from the names too, as the flat twin of points; "
        "the best epoch by val is kept. Each seed has the rates (backbone, head, nodes) that are "
        "best on its val of those that the arm was trained at with all its seeds: intervals are "
        "those of the choice too; the tries of these records are listed. "
        "Inside the backbone the dropout is what it comes with (0.1 in MiniLM), except where a "
        "name says another. "
        "Of points these go together, rate of the head, rate of the nodes, temperature at the "
        f"start: {'; '.join(together)}."
    )


def _figure(arms: Arms, kinds: Sequence[Quantity], path: Path) -> str:
    """A panel for each accuracy, at every dimension that was run."""
    shown = [kind for kind in kinds if kind.is_level or kind.name in ("path", "macro-F1")]
    panels: dict[str, Lines] = {}
    for kind in shown:
        found = {at: interval(records, kind, "test") for at, records in arms.items()}
        panels[kind.name] = {f"{arm}, d = {dim}": one.bar for (arm, dim), one in found.items()}
    save_picture(intervals_figure(panels, x_label="percent", notes=[BARS]), path)
    return figure(path, "Accuracy by geometry where the backbone learns, 95 % intervals")


def _tries(results: ResultsFile, name: str) -> str:
    tries = tries_of(results, name)
    kinds = known(record for records in tries.values() for record in records)
    path = next(kind for kind in kinds if kind.name == "path")
    chosen = [record for records in arms_of(results, name).values() for record in records]
    rows = [
        [
            f"{arm}, d = {dim}, {rate:g}, {head:g}" + (f" ({nodes:g})" if nodes else ""),
            str(len(records)),
            str(sum(record in chosen for record in records)),
            spread(interval(records, path, "val"), path),
            spread(interval(records, path, "test"), path),
            f"{sum(record.seconds for record in records) / len(records) / 60:.0f}",
        ]
        for (arm, dim, rate, head, nodes, _), records in tries.items()
    ]
    head = ["path accuracy by rates", "seeds", "chosen by", "val", "test", "minutes a run"]
    return table(head, rows)


def _open(results: ResultsFile, name: str) -> list[str]:
    """What makes a comparison of these arms unequal, or might change it."""
    said = []
    if arms := untried(results, name):
        said.append(
            f"Not tried with {ENOUGH} seeds at the rates of the head that another arm of its "
            "start and kind has chosen, so that part of a difference may be the rates: "
            f"{'; '.join(arms)}."
        )
    if arms := nodes_untried(results, name):
        said.append(
            "Nodes of linear heads had the rate of their projection in every try with all seeds, "
            "where points have one of their own, so that part of a difference may be that: "
            f"{'; '.join(arms)}."
        )
    if arms := _at_an_end(results, name):
        said.append(
            "Most seeds have chosen a rate beyond which nothing was tried with as many of them, "
            f"and something may be better still: {'; '.join(arms)}."
        )
    return said


def _at_an_end(results: ResultsFile, name: str) -> list[str]:
    """Arms whose choice is the lowest or highest of what could be chosen, and of which rate."""
    tries: dict[tuple[str, int], list[list[Record]]] = {}
    for (arm, dim, *_), records in tries_of(results, name).items():
        tries.setdefault((arm, dim), []).append(records)
    found = []
    for (arm, dim), chosen in arms_of(results, name).items():
        tried = [rates_of(records[0]) for records in full(tries[arm, dim])]
        ends = []
        for at, of in enumerate(("head", "nodes")):
            rates = sorted({rates[at] for rates in tried})
            mine = [rates_of(record)[at] for record in chosen]
            for end, word in ((rates[0], "lowest"), (rates[-1], "highest")):
                if len(rates) > 1 and end and 2 * mine.count(end) > len(mine):
                    ends.append(f"{word} of {of}, {end:g}")
        if len(tried) == 1:
            ends = ["one pair of rates alone"]
        found += [f"{arm} ({', '.join(ends)})"] * bool(ends)
    return found


def _calibrated(arms: Arms) -> list[str]:
    """What the temperature that training fits does to the calibration error, where it was kept."""
    ece = Quantity("ECE", "calibration error of whole paths", ("ece",), False)
    temperature = Quantity("T", "temperature", ("temperature",), None, percent=False)
    rows = []
    for (arm, dim), records in arms.items():
        kept = [record for record in records if "calibrated" in record.figures]
        if kept:
            rows.append([
                f"{arm}, d = {dim}",
                str(len(kept)),
                spread(interval(kept, temperature, "calibrated"), temperature),
                spread(interval(kept, ece, "test"), ece),
                spread(interval(kept, ece, "calibrated"), ece),
            ])  # fmt: skip
    head = ["calibration error, percent", "seeds", "T fitted to val", "as trained", "fitted"]
    return [table(head, rows)] if rows else []
