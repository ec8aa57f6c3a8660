"""The section of the report on geometries where the backbone was trained with the head."""

from pathlib import Path

from hyperlm.experiments.compare_tuned import NAME, RATES, TUNED_ON, arms_of
from hyperlm.experiments.quantities import known
from hyperlm.experiments.report_compare import Arms, verdicts, widest
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.trials import Trial

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
            _rates(arms),
            "Differences; bold where a verdict is given:",
            verdicts(arms, kinds),
        ]
    if not parts:
        return []
    return ["## Geometry against geometry, backbone and all", _method(), *parts]


def _method() -> str:
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    return (
        "Every weight of the backbone is trained with the head, as `hyperlm train` does with its "
        "defaults, except for the dimension; points of every geometry start from label names, and "
        "the best epoch by val is kept. The rate of the backbone is each arm's own, of "
        f"{rates}, chosen on val with {TUNED_ON:.0%} of the training texts and another seed; "
        "Lorentz points take that of the ball."
    )


def _rates(arms: Arms) -> str:
    chosen = []
    for (arm, dim), records in arms.items():
        run = records[0].run
        assert isinstance(run, Trial)
        chosen.append(f"{arm} {dim}: {run.settings['options']['learning_rate']:g}")
    minutes = [r.seconds / 60 for records in arms.values() for r in records]
    mean = sum(minutes) / len(minutes)
    return f"Rates chosen: {'; '.join(chosen)}. A run took {mean:.0f} minutes on average."
