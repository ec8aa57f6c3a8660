"""Sentences on what differs between arms, and by how much: each against one of them, paired."""

from collections.abc import Mapping, Sequence

from hyperlm.experiments.markdown import signed
from hyperlm.experiments.quantities import Quantity, difference
from hyperlm.experiments.results import Record
from hyperlm.experiments.statistics import NO_DIFFERENCE, Difference, verdicts

__all__ = ["against", "judged"]


def against(
    arms: Mapping[str, Sequence[Record]], base: str, kinds: Sequence[Quantity]
) -> list[str]:
    """A Markdown list with a line for each quantity in which an arm differs from ``base``.

    Empty where no arm has two seeds in common with ``base``.
    """
    lines, asked = [], False
    for kind in kinds:
        found = judged(arms, base, kind)
        asked = asked or bool(found)
        said = [
            f"{arm} {signed(d.over_seeds.mean, kind)}, {words}"
            for arm, (d, words) in found.items()
            if words != NO_DIFFERENCE
        ]
        if said:
            lines.append(f"- {kind.title}: {'; '.join(said)}.")
    return ["\n".join([*lines, f"- everywhere else: {NO_DIFFERENCE}."])] if asked else []


def judged(
    arms: Mapping[str, Sequence[Record]], base: str, kind: Quantity
) -> dict[str, tuple[Difference, str]]:
    """By arm, its difference from ``base`` and the verdict, where they share two seeds.

    The p-values are adjusted together (Holm).
    """
    seeds_of = {arm: {record.run.seed for record in records} for arm, records in arms.items()}
    shared = seeds_of.get(base, set())
    others = [arm for arm in arms if arm != base and len(seeds_of[arm] & shared) > 1]
    found = [difference(arms[arm], arms[base], kind, "test") for arm in others]
    pairs = [(arm, base) for arm in others]
    words = verdicts(found, pairs, higher_is_better=kind.higher is not False)
    return dict(zip(others, zip(found, words, strict=True), strict=True))
