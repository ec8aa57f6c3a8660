"""Can the probabilities be trusted, and what does a threshold buy?

In: texts with gold paths, the answers to them and the probability of each. Out: a Figure: how often
answers hold by how sure the model was, and how many of those above a threshold hold.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binomtest

from hyperlm.errors import OptionError
from hyperlm.metrics import expected_calibration_error
from hyperlm.viz.palette import Theme, class_style
from hyperlm.viz.rundata import RunData
from hyperlm.viz.style import caption, heading, in_style, new_figure, panel

__all__ = ["answers_kept", "reliability_bins", "reliability_figure"]

_BINS, _LEAST = 10, 10  # bins of equally many answers, and the fewest in one
_THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95)


def reliability_bins(
    probability: NDArray[np.float64], right: NDArray[np.bool_]
) -> list[tuple[int, float, float, float, float]]:
    """Answers in bins of equal size, the least sure first.

    Args:
        probability: ``(n,)`` of each answer.
        right: ``(n,)`` whether it holds.
    Returns:
        Of every bin: answers, mean probability, share that holds, and the ends of the share's 95 %
        interval (Wilson's).
    """
    order = np.argsort(probability, kind="stable")
    count = max(1, min(_BINS, len(order) // _LEAST))
    bins = []
    for rows in np.array_split(order, count):
        hits = int(right[rows].sum())
        low, high = binomtest(hits, len(rows)).proportion_ci(method="wilson")
        share = hits / len(rows)
        bins.append((len(rows), float(probability[rows].mean()), share, float(low), float(high)))
    return bins


def answers_kept(
    probability: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What a threshold on the probability leaves.

    Returns:
        For every threshold that tells answers apart, falling: the threshold, the share of answers
        at or above it, and the share of those that hold.
    """
    order = np.argsort(-probability, kind="stable")
    sure = probability[order]
    kept = np.arange(1, len(order) + 1)
    hold = np.cumsum(right[order]) / kept
    last = np.append(sure[1:] != sure[:-1], True)  # equal probabilities are kept together
    return sure[last], kept[last] / len(order), hold[last]


@in_style
def reliability_figure(run: RunData, *, title: str | None = None, dark: bool = False) -> Figure:
    """How often whole paths hold, by their probability, and above a threshold.

    Args:
        run: With texts that have gold paths.
        title: By default the run's.
        dark: On a dark page.
    Raises:
        OptionError: No texts with gold paths.
    """
    texts = run.texts
    if texts is None or not (texts.gold >= 0).any():
        raise OptionError(
            "reliability needs texts with gold labels; there are none. Give the folder of a run, "
            "name its texts with --data, and leave --limit above 0."
        )
    known = texts.gold >= 0
    sure = np.clip(texts.probability[known], 0.0, 1.0)
    right = (texts.predicted == texts.gold if texts.right is None else texts.right)[known]
    fig, colors = new_figure(8.0, 4.1, dark=dark)
    _bins(panel(fig, 1, 2, 1), sure, right, colors)
    _kept(panel(fig, 1, 2, 2), sure, right, colors)
    heading(fig, run.title if title is None else title)
    error = expected_calibration_error(right, sure)
    of_val = "When a run ends, probabilities are fitted to val: --split test is fairer."
    caption(
        fig,
        [
            f"{len(sure):,} {texts.split} texts: {right.mean():.1%} of whole paths hold, mean "
            f"probability {sure.mean():.1%}, calibration error {error:.1%}.",
            "Left: answers in bins of equal size with 95 % intervals. Right: answers at or above a "
            "probability, which stands above the mark.",
            *([of_val] if texts.split == "val" else []),
        ],
        colors,
    )
    return fig


def _bins(axes: Axes, sure: NDArray[np.float64], right: NDArray[np.bool_], colors: Theme) -> None:
    _, x, y, low, high = 100 * np.array(reliability_bins(sure, right)).T
    shade, _ = class_style(0, colors)
    axes.vlines(x, low, high, color=shade, alpha=0.45, linewidth=1.5, zorder=2)
    axes.plot(x, y, color=shade, marker="o", zorder=3)
    axes.plot((0, 100), (0, 100), color=colors.muted, linewidth=0.8, zorder=1)
    ends = 10 * np.floor(min(x.min(), low.min()) / 10), 102
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel="probability of the path, percent", ylabel="hold, percent")
    axes.set_title("When it is so sure, is it right so often?")


def _kept(axes: Axes, sure: NDArray[np.float64], right: NDArray[np.bool_], colors: Theme) -> None:
    threshold, kept, hold = answers_kept(sure, right)
    shade, _ = class_style(0, colors)
    axes.plot(100 * kept, 100 * hold, color=shade, zorder=2)
    bottom = max(0.0, 100 * float(hold.min()) - 4)
    above_all = 100 + 0.03 * (100 - bottom)  # where no curve comes
    written = np.inf
    for least in _THRESHOLDS:
        above = np.flatnonzero(threshold >= least)
        if not len(above):
            continue
        x, y = 100 * kept[above[-1]], 100 * hold[above[-1]]
        if abs(x - written) < 6:
            continue
        axes.plot([x], [y], color=shade, marker="o", zorder=3)
        axes.vlines(x, y, above_all, color=colors.muted, linewidth=0.6, zorder=1)
        axes.text(
            x, above_all, f"{least:g}", ha="center", va="bottom", fontsize=7.0, color=colors.ink
        )
        written = x
    axes.set(xlim=(0, 102), xlabel="answers kept, percent", ylabel="of those, hold, percent")
    axes.set_ylim(bottom, 100 + 0.10 * (100 - bottom))
    axes.set_title("What a threshold keeps, and how good it is")
