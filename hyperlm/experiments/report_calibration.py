"""The section of the report on probabilities: reliability, early stops, conformal sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperlm.experiments.calibration import NAME, arms_of
from hyperlm.experiments.markdown import spread, table
from hyperlm.experiments.quantities import Quantity, interval
from hyperlm.experiments.results import Record, ResultsFile

__all__ = ["section"]


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms = arms_of(results, name)
        if arms:
            parts += [f"### {name}", _errors(arms), _selective(arms), _conformal(arms)]
    if not parts:
        return []
    return [
        "## What probabilities are worth",
        "ECE: mean gap between the probability of an answer and how often it holds, 15 bins, per "
        "level. Stopping: the answer ends at the deepest node whose probability is at least the "
        "threshold; *depth* is the share of the path that is given, *accuracy* how many of the "
        "given answers hold. Sets: conformal sets of paths with a promised coverage, checked on "
        "random halves of val and test together: *lowest* is the 5 % quantile over the halves, "
        "*depth of one answer* that of the lowest common ancestor of the set. "
        f"`hyperlm experiment {NAME}`",
        *parts,
    ]


def _errors(arms: dict[str, list[Record]]) -> str:
    levels = len(next(iter(arms.values()))[0].figures["test"]["levels"])
    kinds = [
        Quantity(f"ECE, level {level + 1}", "", ("levels", level, "ece"), False)
        for level in range(levels)
    ]
    rows = [
        [arm, *(spread(interval(records, kind, "test"), kind) for kind in kinds)]
        for arm, records in arms.items()
    ]
    return table(["arm", *(kind.name for kind in kinds)], rows)


def _selective(arms: dict[str, list[Record]]) -> str:
    rows = []
    for arm, records in arms.items():
        steps = [record.figures["extra"]["selective"] for record in records]
        for at in zip(*steps, strict=True):
            rows.append(
                [
                    f"{arm}, {at[0]['threshold']:g}",
                    *(_mean(at, key) for key in ("answered", "whole", "depth", "accuracy")),
                ]
            )
    return table(["arm, threshold", "answered", "whole paths", "depth", "accuracy"], rows)


def _conformal(arms: dict[str, list[Record]]) -> str:
    rows = []
    for arm, records in arms.items():
        found = [record.figures["extra"]["conformal"] for record in records]
        shares = ("promised", "coverage", "coverage_low", "single", "depth")
        size = float(np.mean([one["size"] for one in found]))
        rows.append([arm, *(_mean(found, key) for key in shares), f"{size:.2f}"])
    header = ["arm", "promised", "covered", "lowest", "single path", "depth of one answer"]
    return table([*header, "paths in a set"], rows)


def _mean(found: Sequence[dict[str, Any]], key: str) -> str:
    known = [one[key] for one in found if one[key] is not None]
    return f"{100 * float(np.mean(known)):.1f}" if known else "-"
