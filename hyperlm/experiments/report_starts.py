"""The section of the report on where node points start."""

from pathlib import Path

from hyperlm.experiments.markdown import signed, spread, table
from hyperlm.experiments.quantities import difference, interval, quantities
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.starts import NAME, SHARES, arms_of
from hyperlm.experiments.statistics import NO_DIFFERENCE, holm, verdict

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
            kinds = quantities(len(first.figures["test"]["levels"]))
            rows = [
                [arm, *(spread(interval(records, kind, "test"), kind) for kind in kinds)]
                for arm, records in arms.items()
            ]
            count = first.figures["train_texts"]
            parts += [
                f"### {name}, {count:,} training texts",
                table([f"start, d = {first.run.dim}", *(kind.name for kind in kinds)], rows),
            ]
            lines = []
            for kind in kinds:
                others = [arm for arm in arms if arm != _BASE]
                if _BASE not in arms or not others:
                    continue
                found = [difference(arms[arm], arms[_BASE], kind, "test") for arm in others]
                seeds = holm([d.p_seeds for d in found])
                texts = holm([float("nan") if d.p_texts is None else d.p_texts for d in found])
                said = []
                for arm, d, p_seeds, p_texts in zip(others, found, seeds, texts, strict=True):
                    words = verdict(
                        d,
                        first=arm,
                        second=_BASE,
                        higher_is_better=kind.higher is not False,
                        p_seeds=p_seeds,
                        p_texts=None if d.p_texts is None else p_texts,
                    )
                    if words != NO_DIFFERENCE:
                        said.append(f"{arm} {signed(d.over_seeds.mean, kind)}, {words}")
                if said:
                    lines.append(f"- {kind.title}: {'; '.join(said)}.")
            if _BASE in arms and len(arms) > 1:
                parts.append(f"Against the {_BASE} start, paired:")
                parts.append("\n".join([*lines, f"- everywhere else: {NO_DIFFERENCE}."]))
    if not parts:
        return []
    head = [
        "## Where node points start",
        f"Poincaré points; every start with its own learning rates. `hyperlm experiment {NAME}`",
    ]
    return head + parts
