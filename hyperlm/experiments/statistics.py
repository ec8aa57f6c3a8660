"""Means with intervals, paired tests, and what may be said of them in words.

In: one figure per seed and arm, or per seed and text. Out: plain floats and sentences. A difference
is claimed only where it holds over seeds and, for figures known text by text, over texts: seeds say
whether training again would give it, texts whether other texts of the same kind would.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from hyperlm.errors import OptionError

__all__ = [
    "BETTER",
    "BETTER_HERE",
    "NO_DIFFERENCE",
    "NO_VERDICT",
    "Difference",
    "Interval",
    "compare",
    "holm",
    "mean_interval",
    "over_sets",
    "verdict",
    "verdicts",
]

LEVEL = 0.95
_ALPHA = 1 - LEVEL
_ROUNDING = 1e-9  # what a mean of equal numbers may be off
_FEW = 12  # differing texts: up to here every way their signs may fall is counted

# Verdicts that the report looks for.
NO_DIFFERENCE, BETTER = "no difference found", "is better"
BETTER_HERE = "is better on these texts"  # figures that cannot be tested over texts
NO_VERDICT = "no verdict"


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval; NaN where one value alone gives none."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2

    @property
    def bar(self) -> tuple[float, float, float]:
        """Mean and the ends to draw: none for two seeds, whose interval is wider than any axis."""
        known = self.count > 2
        return self.mean, self.low if known else math.nan, self.high if known else math.nan


@dataclass(frozen=True)
class Difference:
    """First arm less the second.

    Attributes:
        over_seeds: mean difference with its interval over seeds.
        p_seeds: two-sided paired t-test over the seeds that drew something; NaN for one, and where
            neither arm draws anything.
        p_texts: over texts, of the differences averaged over seeds: a paired t-test, an exact one
            where few texts differ or all by the same; None where the figure is not known by text.
        drawn: how many seeds drew something of their own.
    """

    over_seeds: Interval
    p_seeds: float
    p_texts: float | None
    drawn: int


def mean_interval(values: npt.ArrayLike) -> Interval:
    """Mean and its 95 % interval by Student's t."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x):
        raise OptionError(f"mean_interval takes one value per seed, got the shape {x.shape}.")
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x))


def compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    first_texts: npt.ArrayLike | None = None,
    second_texts: npt.ArrayLike | None = None,
    own: Sequence[bool] | None = None,
) -> Difference:
    """Two arms, paired.

    Args:
        first, second: one figure per seed, ``(S,)``, the same seeds in the same order.
        first_texts, second_texts: what each text contributed, ``(S, n)``.
        own: by seed, whether its pair of runs is no copy of an earlier one, as runs are that keep
            a start in closed form: copies are no evidence. By default runs are taken for copies
            where neither arm's figures differ at all.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise OptionError(f"compare pairs seeds: got {a.shape} and {b.shape} figures.")
    p_texts = None
    if first_texts is not None and second_texts is not None:
        per_text = np.asarray(first_texts, dtype=np.float64) - np.asarray(second_texts, float)
        p_texts = _over_texts(per_text.mean(0))
    if own is None:
        alike = not (np.ptp(a) or np.ptp(b)) and (a - b).any()
        own = [seed == 0 or not alike for seed in range(len(a))]
    drawn = np.flatnonzero(own)
    return Difference(mean_interval(a - b), _over_seeds((a - b)[drawn]), p_texts, len(drawn))


def over_sets(sets: Sequence[tuple[npt.ArrayLike, npt.ArrayLike | None]]) -> Difference:
    """The mean over data sets of a difference; every set counts alike.

    Seeds and texts of different sets share nothing: the variances of the sets' means add up, and
    the degrees of freedom are Welch's and Satterthwaite's. What is tested is the mean over these
    sets and not over all that there might be.

    Args:
        sets: by set, first arm less the second for at least two seeds, ``(S,)``, and for each text,
            averaged over the seeds, ``(n,)``; None where the figure is not known by text.
    Returns:
        As :func:`compare`, each seed taken for a run of its own: leave copies out.
    """
    seeds = [np.asarray(some, dtype=np.float64) for some, _ in sets]
    if not seeds or min(map(len, seeds)) < 2:
        raise OptionError("over_sets takes at least two seeds of each set.")
    texts = [np.asarray(some, dtype=np.float64) for _, some in sets if some is not None]
    p_texts = _texts_of_sets(texts) if len(texts) == len(sets) else None
    mean, error, freedom = _mean_of_means(seeds)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error if error else 0.0
    count = sum(map(len, seeds))
    if error:
        p_seeds = float(2 * stats.t.sf(abs(mean) / error, freedom))
    else:  # no spread on any set: as for a single one
        p_seeds = 1.0 if abs(mean) < _ROUNDING else 2 * 0.5**count
    return Difference(Interval(mean, mean - half, mean + half, count), p_seeds, p_texts, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several tests of one question; NaN stays and is not counted.

    Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    out = np.full(len(p), np.nan)
    order = [int(i) for i in np.argsort(p) if not math.isnan(p[i])]
    worst = 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, float(p[i]) * (len(order) - rank)))
        out[i] = worst
    return out.tolist()


def verdict(
    difference: Difference,
    *,
    first: str,
    second: str,
    higher_is_better: bool = True,
    p_seeds: float | None = None,
    p_texts: float | None = None,
) -> str:
    """What may be said, in words.

    Args:
        p_seeds, p_texts: adjusted p-values, where several tests answer one question; by default
            those of the difference.
    Returns:
        ``FIRST is better``, ``SECOND is better``, ``no difference found``, that the texts are too
        few for a difference that the seeds agree on, or why there is no verdict. ``is better on
        these texts`` rests on seeds alone. It takes three that drew something; where nothing is
        drawn, texts decide.
    """
    seeds = difference.p_seeds if p_seeds is None else p_seeds
    texts = difference.p_texts if p_texts is None else p_texts
    count = difference.over_seeds.count
    if count < 2:
        return f"{NO_VERDICT}: one seed alone"
    if texts is None and math.isnan(seeds):
        return f"{NO_VERDICT}: nothing is drawn"
    if not (math.isnan(seeds) or seeds < _ALPHA):
        return NO_DIFFERENCE
    if not math.isnan(seeds) and difference.drawn < 3:
        return f"{NO_VERDICT}: two seeds alone"
    ahead = (difference.over_seeds.mean > 0) == higher_is_better
    winner = first if ahead else second
    if texts is None:
        return f"{winner} {BETTER_HERE}"
    if texts < _ALPHA:
        return f"{winner} {BETTER}"
    if math.isnan(seeds):
        return NO_DIFFERENCE
    return f"{winner} is ahead over seeds, but the texts are too few to say so"


def verdicts(
    differences: Sequence[Difference],
    arms: Sequence[tuple[str, str]],
    *,
    higher_is_better: bool = True,
) -> list[str]:
    """One verdict each, as :func:`verdict`, of differences that answer one question.

    The p-values are adjusted together (Holm).
    """
    seeds = holm([d.p_seeds for d in differences])
    texts = holm([math.nan if d.p_texts is None else d.p_texts for d in differences])
    return [
        verdict(
            d,
            first=first,
            second=second,
            higher_is_better=higher_is_better,
            p_seeds=p_seeds,
            p_texts=None if d.p_texts is None else p_texts,
        )
        for d, (first, second), p_seeds, p_texts in zip(
            differences, arms, seeds, texts, strict=True
        )
    ]


def _mean_of_means(groups: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Mean of the groups' means, its standard error, and the degrees of freedom of that."""
    mean = float(np.mean([group.mean() for group in groups]))
    each = np.array(
        [group.var(ddof=1) / len(group) * (np.ptp(group) > _ROUNDING) for group in groups]
    )
    if not each.any():
        return mean, 0.0, math.nan
    freedom = each.sum() ** 2 / sum(
        v**2 / (len(group) - 1) for v, group in zip(each, groups, strict=True)
    )
    return mean, float(np.sqrt(each.sum())) / len(groups), float(freedom)


def _texts_of_sets(groups: Sequence[np.ndarray]) -> float:
    """Two-sided p of a mean of means of zero over the texts of several sets."""
    if min(map(len, groups)) < 2:
        return math.nan
    weighed = np.concatenate([group / (len(group) * len(groups)) for group in groups])
    moved = weighed[np.abs(weighed) > _ROUNDING / len(weighed)]
    if not len(moved):
        return 1.0
    if len(moved) <= _FEW:
        return _all_signs(moved)
    mean, error, freedom = _mean_of_means(groups)
    return float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else 2 * 0.5 ** len(moved)


def _over_seeds(differences: np.ndarray) -> float:
    """Two-sided p of a mean of zero; NaN for a single one."""
    if len(differences) < 2:
        return math.nan
    if math.isclose(differences.min(), differences.max(), abs_tol=_ROUNDING):
        # No spread to go by: how likely so many are to have one sign.
        return 1.0 if abs(differences[0]) < _ROUNDING else 2 * 0.5 ** len(differences)
    return _t_test(differences)


def _over_texts(differences: np.ndarray) -> float:
    """Two-sided p of a mean of zero."""
    if len(differences) < 2:
        return math.nan
    moved = differences[np.abs(differences) > _ROUNDING]
    sizes = np.abs(moved)
    if not len(moved):
        return 1.0
    if len(moved) <= _FEW:
        return _all_signs(moved)
    if np.ptp(sizes) < _ROUNDING:  # right or wrong, of one run each: McNemar
        return float(stats.binomtest(int((moved > 0).sum()), len(moved)).pvalue)
    return _t_test(differences)


def _all_signs(moved: np.ndarray) -> float:
    """Too few for a t-test: of all the ways their signs might have fallen, how many say as much."""
    signs = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
    sums = np.abs(signs @ np.abs(moved))
    return float(np.mean(sums >= abs(moved.sum()) * (1 - 1e-9) - 1e-12))


def _t_test(differences: np.ndarray) -> float:
    spread = float(differences.std(ddof=1))
    t = float(differences.mean()) / (spread / math.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(t), len(differences) - 1))
