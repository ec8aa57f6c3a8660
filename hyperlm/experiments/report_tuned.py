"""The section of the report on geometries where the backbone was trained with the head."""

from pathlib import Path

from hyperlm.experiments.compare_tuned import NAME, arms_of, tries_of
from hyperlm.experiments.markdown import spread, table
from hyperlm.experiments.quantities import interval, known
from hyperlm.experiments.report_compare import verdicts, widest
from hyperlm.experiments.results import ResultsFile

__all__ = ["section"]


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms = arms_of(results, name)
        if not arms:
            continue
        kinds = known(record for records in arms.values() for record in records)
        parts += [
            f"### {name}, whole models",
            f"`hyperlm experiment compare-geometries --data {name} --set trained=model`",
            widest(arms, kinds),
            _tries(results, name),
            "Differences; bold where a verdict is given:",
            verdicts(arms, kinds),
        ]
    if not parts:
        return []
    return ["## Geometry against geometry, backbone and all", _method(), *parts]


def _method() -> str:
    return (
        "Every weight of the backbone is trained with the head, as `hyperlm train` does with its "
        "defaults, except for the dimension; points of every geometry start from label names, and "
        "the best epoch by val is kept. Of the rates of the backbone that an arm was trained at "
        "with the most seeds, it has the one that is best on val; all tries are listed."
    )


def _tries(results: ResultsFile, name: str) -> str:
    tries = tries_of(results, name)
    kinds = known(record for records in tries.values() for record in records)
    path = next(kind for kind in kinds if kind.name == "path")
    rows = [
        [
            f"{arm}, d = {dim}, {rate:g}",
            str(len(records)),
            spread(interval(records, path, "val"), path),
            spread(interval(records, path, "test"), path),
            f"{sum(record.seconds for record in records) / len(records) / 60:.0f}",
        ]
        for (arm, dim, rate), records in tries.items()
    ]
    return table(["path accuracy by rate", "seeds", "val", "test", "minutes a run"], rows)
