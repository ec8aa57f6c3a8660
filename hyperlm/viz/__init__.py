"""Pictures of label trees and of what a training did: matplotlib Figures, and a page to explore.

Start at :func:`label_tree_figure` for arrays, or at :func:`draw_figure` for a run that
:func:`read_source` has read.
"""

from hyperlm.viz.confusion import confusion_figure
from hyperlm.viz.curves import Panel, curves_figure
from hyperlm.viz.distances import distances_figure
from hyperlm.viz.explorer import write_explorer
from hyperlm.viz.figure import label_tree_figure, run_tree_figure
from hyperlm.viz.figures import FIGURES, draw_figure
from hyperlm.viz.intervals import intervals_figure
from hyperlm.viz.layout import Layout, tree_layout
from hyperlm.viz.norms import norms_figure
from hyperlm.viz.project import PROJECTIONS, applicable, default_projection, project
from hyperlm.viz.quality import Quality, picture_quality
from hyperlm.viz.reliability import reliability_figure
from hyperlm.viz.rundata import RunData, TextData, taxonomy_data
from hyperlm.viz.save import save_figure
from hyperlm.viz.sources import collect_run, read_source
from hyperlm.viz.style import style
from hyperlm.viz.sweep import layer_sweep_figure, read_sweep
from hyperlm.viz.training_curves import training_figure

__all__ = [
    "FIGURES",
    "PROJECTIONS",
    "Layout",
    "Panel",
    "Quality",
    "RunData",
    "TextData",
    "applicable",
    "collect_run",
    "confusion_figure",
    "curves_figure",
    "default_projection",
    "distances_figure",
    "draw_figure",
    "intervals_figure",
    "label_tree_figure",
    "layer_sweep_figure",
    "norms_figure",
    "picture_quality",
    "project",
    "read_source",
    "read_sweep",
    "reliability_figure",
    "run_tree_figure",
    "save_figure",
    "style",
    "taxonomy_data",
    "training_figure",
    "tree_layout",
    "write_explorer",
]
