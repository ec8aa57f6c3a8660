"""Every figure of a run by name, as the command offers them.

In: a :class:`RunData` and a name. Out: a Figure, and the layout where one was drawn.
"""

from matplotlib.figure import Figure

from hyperlm.errors import OptionError
from hyperlm.viz.confusion import confusion_figure
from hyperlm.viz.distances import distances_figure
from hyperlm.viz.figure import run_tree_figure
from hyperlm.viz.layout import Layout
from hyperlm.viz.norms import norms_figure
from hyperlm.viz.reliability import reliability_figure
from hyperlm.viz.rundata import RunData
from hyperlm.viz.training_curves import training_figure

__all__ = ["FIGURES", "draw_figure"]

FIGURES = ("tree", "norms", "distances", "confusion", "reliability", "training")


def draw_figure(
    run: RunData,
    figure: str = "tree",
    *,
    layout: str | Layout | None = None,
    cones: bool = False,
    texts: bool = False,
    confusion: bool = False,
    level: int | None = None,
    max_labels: int | None = None,
    title: str | None = None,
    dark: bool = False,
    seed: int = 0,
) -> Figure:
    """Draw one of :data:`FIGURES`.

    Args:
        run: What to show.
        figure: ``tree``: :func:`run_tree_figure`. ``norms``: :func:`norms_figure`. ``distances``:
            :func:`distances_figure`. ``confusion``: :func:`confusion_figure`. ``reliability``:
            :func:`reliability_figure`. ``training``: :func:`training_figure`.
        layout: Of the tree, and of distances to be measured in a picture.
        cones, texts, confusion, max_labels: Of the tree; ``texts`` of the norms too.
        level: Of the confusion matrix.
        title, dark, seed: Of all of them.
    Raises:
        OptionError: An unknown figure, or one that this run lacks the data for.
    """
    if figure == "tree":
        return run_tree_figure(
            run, layout, title=title, dark=dark, max_labels=max_labels, seed=seed, cones=cones,
            texts=texts, confusion=confusion,
        )  # fmt: skip
    if figure == "norms":
        return norms_figure(run, texts=texts, title=title, dark=dark)
    if figure == "distances":
        return distances_figure(run, layout, title=title, dark=dark, seed=seed)
    if figure == "confusion":
        return confusion_figure(run, level=level, title=title, dark=dark)
    if figure == "reliability":
        return reliability_figure(run, title=title, dark=dark)
    if figure == "training":
        return training_figure(run, title=title, dark=dark)
    raise OptionError(f"figure {figure!r}; choose one of {', '.join(FIGURES)}.")
