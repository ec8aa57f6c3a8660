"""The section of the report on where node points start."""

from pathlib import Path

from hyperlm.experiments.markdown import spread, table
from hyperlm.experiments.quantities import interval, known
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.starts import NAME, SHARES, arms_of
from hyperlm.experiments.verdicts import against

__all__ = ["section"]

_BASE = "random"


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    names = list(dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)))
    parts: list[str] = []
    for name in names:
        for share in SHARES:
            arms = arms_of(results, name, share)
            if not arms:
                continue
            first = next(iter(arms.values()))[0]
            kinds = known(record for records in arms.values() for record in records)
            rows = [
                [arm, *(spread(interval(records, kind, "test"), kind) for kind in kinds)]
                for arm, records in arms.items()
            ]
            count = first.figures["train_texts"]
            parts += [
                f"### {name}, {count:,} training texts",
                table([f"start, d = {first.head.dim}", *(kind.name for kind in kinds)], rows),
            ]
            if sentences := against(arms, _BASE, kinds):
                parts += [f"Against the {_BASE} start, paired:", *sentences]
    if not parts:
        return []
    head = [
        "## Where node points start",
        f"Poincaré points; every start with its own learning rates. `hyperlm experiment {NAME}`",
    ]
    return head + parts
