"""Pictures of label trees in the Poincare disk; start at :func:`label_tree_figure`."""

from hyperlm.viz.figure import label_tree_figure
from hyperlm.viz.layout import Layout, points_layout, tree_layout
from hyperlm.viz.quality import Quality, picture_quality
from hyperlm.viz.save import save_figure

__all__ = [
    "Layout",
    "Quality",
    "label_tree_figure",
    "picture_quality",
    "points_layout",
    "save_figure",
    "tree_layout",
]
