"""The section of the report on single changes: differences from the base on val."""

from pathlib import Path

from hyperlm.experiments.ablate import BASE, NAME, arms_of
from hyperlm.experiments.markdown import figure, picture, save_picture, signed, spread, table
from hyperlm.experiments.quantities import difference, interval, quantities
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.statistics import verdicts
from hyperlm.viz.intervals import intervals_figure

__all__ = ["section"]

_SHOWN = ("L1", "L2", "path", "raw cons.", "severity", "ECE")


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms = arms_of(results, name)
        if BASE not in arms or len(arms) < 2:
            continue
        base = arms.pop(BASE)
        levels = len(base[0].figures["val"]["levels"])
        kinds = [kind for kind in quantities(levels) if kind.name in _SHOWN]
        path = next(kind for kind in kinds if kind.name == "path")
        found = {arm: difference(records, base, path, "val") for arm, records in arms.items()}
        told = verdicts(list(found.values()), [("change", "base")] * len(found))
        words = dict(zip(found, told, strict=True))
        rows = [[BASE, *(spread(interval(base, kind, "val"), kind) for kind in kinds), "", ""]]
        for arm, records in arms.items():
            cells = [
                signed(difference(records, base, kind, "val").over_seeds.mean, kind)
                for kind in kinds
            ]
            rows.append([arm, *cells, f"{found[arm].p_seeds:.3f}", words[arm]])
        image = picture(images, NAME, name)
        lines = {arm: d.over_seeds.bar for arm, d in found.items()}
        save_picture(
            intervals_figure(
                {path.title: lines},
                x_label="points more than the base, val",
                origin=0.0,
                notes=[
                    "Bars: 95 % intervals over seeds, each by itself; verdicts are in the table."
                ],
            ),
            image,
        )
        parts += [
            f"### {name}",
            table(
                ["change, val", *(kind.name for kind in kinds), "p (path, seeds)", "verdict"], rows
            ),
            figure(image, f"What each change does on {name}, with 95 % intervals"),
        ]
    if not parts:
        return []
    head = [
        "## One change at a time",
        "Differences from the base on val (its own figures in the first row), the same seeds and "
        f"learning rates throughout; p-values adjusted (Holm) for the verdict. "
        f"`hyperlm experiment {NAME}`",
    ]
    return head + parts
