"""The section of the report on probabilities: reliability, early stops, conformal sets."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hyperlm.experiments.calibration import BINS, NAME, TRUST, arms_of
from hyperlm.experiments.markdown import figure, picture, save_picture, spread, table
from hyperlm.experiments.quantities import Quantity, interval
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.statistics import mean_interval
from hyperlm.viz.curves import Panel, curves_figure

__all__ = ["by_chance", "by_chance_of_paths", "section"]

_DRAWS = 10_000
_LEAST = 8  # answers of a run, on average, in a bin that is drawn


def section(results: ResultsFile, images: Path) -> list[str]:
    """Paragraphs for every data set that has been measured."""
    parts: list[str] = []
    for name in dict.fromkeys(r.data["name"] for r in results.of(experiment=NAME)):
        arms = arms_of(results, name)
        if arms:
            image = picture(images, NAME, name)
            _draw(arms, image)
            parts += [f"### {name}", _errors(arms), _selective(arms), _conformal(arms)]
            parts.append(figure(image, f"Reliability and early stops on {name}"))
    if not parts:
        return []
    return [
        "## What probabilities are worth",
        "Each arm as training left it, and with one temperature T for the probabilities of all "
        "paths, fitted to val as `hyperlm train` does; no answer changes. ECE: mean gap between "
        f"the probability of an answer and how often it holds, {BINS} bins, of whole paths and per "
        "level; *by chance* is what it would be on as many texts if the fitted probabilities were "
        "exact, on average and at most in 95 of 100 cases: what is not above the latter cannot be "
        "told from none; the figure has the bins of "
        f"{_LEAST} answers or more a run. The likelihood is that "
        "of the right paths, in nats a text, less is better. "
        "Stopping: the answer ends at the deepest node whose probability is at least the "
        "threshold; *depth* is the share of the path that is given, *accuracy* how many of the "
        "given answers hold. Sets: conformal sets of paths with a promised coverage, checked on "
        "random halves of test, with T fitted: *lowest* is the 5 % quantile over the halves, "
        "*depth of one answer* that of the lowest common ancestor of the set. "
        f"`hyperlm experiment {NAME}`",
        *parts,
    ]


def _errors(arms: dict[str, list[Record]]) -> str:
    """Every arm as training left it, then with the temperature that was fitted to val."""
    levels = _levels(arms)
    rows = []
    for arm, records in arms.items():
        heat = float(np.mean([record.figures[TRUST]["temperature"] for record in records]))
        for state, shown in (("trained", arm), ("fitted", f"{arm}, T = {heat:.1f}")):
            kinds = [
                Quantity("likelihood", "", (state, "nll"), False, percent=False),
                Quantity("ECE", "", (state, "ece"), False),
                *(Quantity("ECE", "", (state, "levels", n, "ece"), False) for n in range(levels)),
            ]
            rows.append([shown, *(spread(interval(records, kind, TRUST), kind) for kind in kinds)])
        chance = [by_chance(records, level) for level in range(levels)]
        errors = [
            _percent(mean) + (f", up to {_percent(most)}" if mean == mean else "")
            for mean, most in (by_chance_of_paths(records), *chance)
        ]
        rows.append([f"{arm}, by chance", "-", *errors])
    header = ["arm", "-log likelihood", "ECE, paths", *(f"level {n + 1}" for n in range(levels))]
    return table(header, rows)


def by_chance_of_paths(records: Sequence[Record]) -> tuple[float, float]:
    """:func:`by_chance` of whole paths; NaN where they end on several levels, or for no records.

    Where all end on the last level, that level is the path.
    """
    of = [record.figures[TRUST]["fitted"]["levels"] for record in records]
    counts = [[sum(n for n, *_ in level["reliability"]) for level in levels] for levels in of]
    if not counts or any(first != last for first, *_, last in counts):
        return math.nan, math.nan
    return by_chance(records, len(of[0]) - 1)


def by_chance(records: Sequence[Record], level: int) -> tuple[float, float]:
    """Calibration errors that exact probabilities would show, for want of more texts.

    Returns:
        The mean (of a bin with n answers of probability p the mean absolute deviation of a
        binomial: de Moivre), and what 95 of 100 draws of as many answers do not exceed; each a
        mean over the records.
    """
    found = []
    for record in records:
        bins = record.figures[TRUST]["fitted"]["levels"][level]["reliability"]
        if bins:
            n, p = np.array(bins)[:, :2].T
            p = p.clip(0, 1)
            above = np.floor(n * p) + 1  # the first count over the mean
            gaps = 2 * above * (1 - p) * stats.binom.pmf(above, n, p)
            right = np.random.default_rng(0).binomial(n.astype(int), p, (_DRAWS, len(n)))
            drawn = np.abs(right - n * p).sum(1) / n.sum()
            found.append((gaps.sum() / n.sum(), np.quantile(drawn, 0.95)))
    if not found:
        return math.nan, math.nan
    mean, most = np.mean(found, axis=0)
    return float(mean), float(most)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _levels(arms: dict[str, list[Record]]) -> int:
    return len(next(iter(arms.values()))[0].figures[TRUST]["fitted"]["levels"])


def _selective(arms: dict[str, list[Record]]) -> str:
    rows = []
    for arm, records in arms.items():
        steps = [record.figures[TRUST]["fitted"]["selective"] for record in records]
        for at in zip(*steps, strict=True):
            rows.append(
                [
                    f"{arm}, {at[0]['threshold']:g}",
                    *(_mean(at, key) for key in ("answered", "whole", "depth", "accuracy")),
                ]
            )
    return table(["arm, threshold", "answered", "whole paths", "depth", "accuracy"], rows)


def _conformal(arms: dict[str, list[Record]]) -> str:
    rows, loose = [], []
    for arm, records in arms.items():
        found = [record.figures[TRUST]["conformal"] for record in records]
        shares = ("promised", "coverage", "coverage_low", "single", "depth")
        size = float(np.mean([one["size"] for one in found]))
        rows.append([arm, *(_mean(found, key) for key in shares), f"{size:.2f}"])
        if all(one["coverage_low"] == 1 for one in found):
            loose.append(arm)
    header = ["arm", "promised", "covered", "lowest", "single path", "depth of one answer"]
    text = table([*header, "paths in a set"], rows)
    if loose:
        text += (
            f"\n\n{', '.join(loose)}: more gold paths than the promise may miss have next to no "
            "probability, so that a set which keeps it holds every path there is."
        )
    return text


def _draw(arms: dict[str, list[Record]], path: Path) -> None:
    """Reliability of each level, and accuracy by how much of the path is said."""
    panels: list[Panel] = []
    for level in range(_levels(arms)):
        found = [_reliability_panel(arms, state, level) for state in ("trained", "fitted")]
        drawn = [one for one in found if one is not None]
        if len(drawn) == len(found):  # as trained, the deepest level that has enough answers
            panels = [*drawn[:1], *panels[1:], *drawn[1:]]
    stopped = {arm: _stops(records) for arm, records in arms.items()}
    panels.append(
        Panel("stopping early, T fitted", "hold, percent", stopped, "percent of the path said")
    )
    save_picture(curves_figure(panels, x_label=""), path)


def _reliability_panel(arms: dict[str, list[Record]], state: str, level: int) -> Panel | None:
    """Reliability at one level; None where no bin has answers enough."""
    series = {arm: _reliability(records, state, level) for arm, records in arms.items()}
    series = {arm: points for arm, points in series.items() if points}
    if not series:
        return None
    title = f"level {level + 1}, " + ("as trained" if state == "trained" else "T fitted")
    return Panel(title, "hold, percent", series, "probability, percent", diagonal=True)


def _reliability(
    records: Sequence[Record], state: str, level: int
) -> list[tuple[float, float, float, float]]:
    """Bins of all runs together: mean probability, and how many answers hold."""
    bins: dict[int, list[list[float]]] = {}
    for record in records:
        for count, sure, held in record.figures[TRUST][state]["levels"][level]["reliability"]:
            bins.setdefault(math.ceil(sure * BINS), []).append([count, sure, held])
    points = []
    for found in bins.values():
        counts, sure, held = np.array(found).T
        if counts.sum() >= _LEAST * len(records):
            x, y = 100 * np.average([sure, held], axis=1, weights=counts)
            points.append((float(x), float(y), float(y), float(y)))
    return points


def _stops(records: Sequence[Record]) -> list[tuple[float, float, float, float]]:
    """A point for each threshold: percent of the path that is said, and how many answers hold."""
    points = []
    steps = [record.figures[TRUST]["fitted"]["selective"] for record in records]
    for at in zip(*steps, strict=True):
        held = [100 * one["accuracy"] for one in at if one["accuracy"] is not None]
        if held:
            found = mean_interval(held)
            x = 100 * float(np.mean([one["depth"] for one in at]))
            points.append((x, *found.bar))
    return points


def _mean(found: Sequence[dict[str, Any]], key: str) -> str:
    known = [one[key] for one in found if one[key] is not None]
    return f"{100 * float(np.mean(known)):.1f}" if known else "-"
