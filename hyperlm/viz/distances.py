"""Distance distortion: what becomes of the tree's distances in the ball.

In: a run with label points, or a taxonomy, whose drawn construction is measured instead. Out: a
Figure with the spread of the ball's distances over each tree distance.
"""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hyperlm.errors import OptionError
from hyperlm.viz.layout import Layout, as_points
from hyperlm.viz.palette import mix
from hyperlm.viz.project import project
from hyperlm.viz.quality import best_scale, compare, sampled_distances
from hyperlm.viz.rundata import RunData
from hyperlm.viz.style import caption, heading, in_style, new_figure, panel

__all__ = ["distances_figure"]


@in_style
def distances_figure(
    run: RunData,
    layout: str | Layout | None = None,
    *,
    title: str | None = None,
    dark: bool = False,
    seed: int = 0,
) -> Figure:
    """Distances of the points, or of a picture, against those of the tree.

    Args:
        run: What to measure.
        layout: None for the learned points themselves (the tree construction where there are
            none); a projection's name or a layout for what it draws.
        title: By default the run's.
        dark: On a dark page.
        seed: Of the projection, and of the sample of 400 labels.
    Raises:
        OptionError: Fewer than three labels; see also :func:`hyperlm.viz.project`.
        OffManifoldError: Points that are NaN or infinite.
    """
    taxonomy = run.taxonomy
    if len(taxonomy) < 3:
        raise OptionError(f"distances of {len(taxonomy)} labels say nothing; there must be three.")
    if layout is None and run.points is not None:
        points, c = as_points(run.points, len(taxonomy)), run.c
        what = f"learned points, {points.shape[1]} dimensions, " + (f"c = {c:.3g}" if c else "flat")
    else:
        plan = layout if isinstance(layout, Layout) else project(run, layout or "tree", seed=seed)
        points, c, what = plan.tangents, 1.0, f"the picture, projection {plan.name}"
    true, ball = sampled_distances(taxonomy, points, c=c, seed=seed)
    quality = compare(ball, true, of="tree's distances")
    rows, others = true.shape
    pairs = rows * others - rows * (rows - 1) // 2  # those among the rows are there twice
    fig, colors = new_figure(5.4, 4.6, dark=dark)
    axes = panel(fig)
    steps = np.unique(true)
    shade = colors.classes[0]
    width = 0.62 if len(steps) <= 40 else 1.0
    for step in steps:
        values = ball[true == step]
        low, left, middle, right, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        for begin, end, pale in ((low, high, 0.72), (left, right, 0.35)):
            axes.bar(
                step, end - begin, width, begin, color=mix(shade, colors.disk, pale), linewidth=0,
                zorder=2,
            )  # fmt: skip
        ends = [step - width / 2, step + width / 2]
        axes.plot(ends, [middle, middle], color=colors.ink, linewidth=1.6, zorder=4)
    scale = best_scale(ball, true)
    reach = np.array([0.0, steps[-1] + 0.6])
    axes.plot(
        reach, scale * reach, color=colors.ink, linewidth=0.9, linestyle=(0, (4, 3)), zorder=3,
        label=f"{scale:.3g} \u00d7 tree distance",
    )  # fmt: skip
    axes.legend(loc="upper left")
    axes.set_xlim(0, steps[-1] + 0.6)
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("edges between two labels in the tree")
    axes.set_ylabel("distance in the ball" if c else "Euclidean distance")
    heading(fig, run.title if title is None else title)
    rank = "n/a" if np.isnan(quality.rank_correlation) else f"{quality.rank_correlation:.2f}"
    facts = [
        f"Of {what}; {pairs:,} pairs. Median, quartiles, 5 to 95 per cent.",
        f"Distortion {quality.distortion:.2f} (best 0), rank correlation {rank} (best 1), "
        f"{quality.k} nearest kept {quality.neighbours:.0%}.",
    ]
    caption(fig, facts, colors)
    return fig
