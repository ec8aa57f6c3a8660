"""What lies behind the tree on request: cones, the density of texts, arcs of confusion.

In: axes in disk coordinates, a layout, texts with their predictions. Out: marks on the axes, and a
line for the caption about each.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hyperlm.errors import OffManifoldError
from hyperlm.viz.cone_regions import cone_regions, share_held
from hyperlm.viz.disk import geodesic_paths, to_disk
from hyperlm.viz.layout import Layout, leaf_counts
from hyperlm.viz.palette import Theme, channels, class_style
from hyperlm.viz.rundata import TextData

__all__ = ["draw_cones", "draw_confusion", "draw_density", "sibling_confusions"]

_GRID = 400  # cells across the disk
_ARCS, _CONES = 60, 60  # drawn at most


def draw_cones(
    axes: Axes, taxonomy: Any, plan: Layout, tops: NDArray[np.int64], colors: Theme
) -> str:
    """The cones of the inner nodes, of more than 60 those with most leaves."""
    parent = np.asarray(taxonomy.parent)
    inner = np.unique(parent[parent >= 0])
    if not len(inner):
        return "No label has others below it, so there are no cones."
    leaves = leaf_counts(taxonomy)
    shown = np.sort(inner[np.argsort(-leaves[inner], kind="stable")[:_CONES]])
    faces = np.ones((len(shown), 4))
    faces[:, :3] = [channels(class_style(int(tops[n]), colors)[0]) / 255 for n in shown]
    lines = faces.copy()
    faces[:, 3], lines[:, 3] = 0.16, 0.5
    regions = cone_regions(plan.tangents[shown])
    axes.add_collection(
        PathCollection(regions, facecolors=faces, edgecolors=lines, linewidths=0.5, zorder=1.1)
    )
    held = share_held(taxonomy, plan.tangents)
    which = "Entailment cones" if len(shown) == len(inner) else f"The {_CONES} largest cones"
    return f"{which} (K = 0.1); all cones as drawn hold {held or 0:.0%} of the children."


def draw_density(
    axes: Axes, plan: Layout, texts: TextData, tops: NDArray[np.int64], colors: Theme
) -> str:
    """Texts as clouds in the colours of their top classes, gold where it is known."""
    if plan.texts is None or not len(plan.texts):
        return "There are no texts to show."
    bad = ~np.isfinite(plan.texts).all(axis=1)
    if bad.any():
        raise OffManifoldError(
            f"{int(bad.sum())} of {len(plan.texts)} text points hold NaN or infinity, first text "
            f"{int(bad.argmax())}. The training has diverged; lower its learning rate."
        )
    ends = np.where(texts.gold >= 0, texts.gold, texts.predicted)
    top = np.where(ends >= 0, tops[ends], -1)
    xy = to_disk(plan.texts)
    cell = np.clip(((xy + 1) / 2 * _GRID).astype(np.int64), 0, _GRID - 1)
    blur = 5.5 if len(xy) > 1000 else 8.0  # standard deviation in cells
    total = np.zeros((_GRID, _GRID))
    image = np.zeros((_GRID, _GRID, 4))
    for number in np.unique(top):
        mine = cell[top == number]
        count = np.zeros((_GRID, _GRID))
        np.add.at(count, (mine[:, 1], mine[:, 0]), 1.0)
        count = gaussian_filter(count, blur, mode="constant")
        shade = class_style(int(number), colors)[0] if number >= 0 else colors.muted
        image[..., :3] += count[..., None] * channels(shade) / 255
        total += count
    image[..., :3] /= np.maximum(total, 1e-12)[..., None]
    # Half the texts lie where the cloud is denser than this: there it is well visible.
    usual = float(np.quantile(total[cell[:, 1], cell[:, 0]], 0.5))
    image[..., 3] = 0.72 * (1 - np.exp(-1.1 * total / usual))
    image = np.clip(image, 0, 1)
    cloud = AxesImage(axes, extent=(-1, 1, -1, 1), origin="lower", interpolation="bilinear")
    cloud.set_data((image * 255).round().astype(np.uint8))
    cloud.set_zorder(0.6)
    axes.add_image(cloud)
    cloud.set_clip_path(Circle((0, 0), 1, transform=axes.transData))
    which = "gold" if (texts.gold >= 0).any() else "predicted"
    return f"Clouds: {len(xy):,} texts ({texts.split}) in the colour of their {which} top class."


def sibling_confusions(
    taxonomy: Any, texts: TextData
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Which siblings are taken for each other.

    A wrong path leaves the gold one at some node: the two children of it are the pair.

    Returns:
        ``(P, 2)`` pairs of siblings, the smaller number first, most frequent first; ``(P,)`` how
        many texts went from either to the other; how many texts are wrong in any way.
    """
    known = (texts.gold >= 0) & (texts.predicted != texts.gold)
    lines = np.asarray(taxonomy.path_matrix)
    none = np.full((1, lines.shape[1]), -1)
    lines = np.concatenate([lines, none])  # -1, the empty path, is the last row
    gold, said = lines[texts.gold[known]], lines[texts.predicted[known]]
    apart = (gold != said) & (gold >= 0) & (said >= 0)
    rows = np.flatnonzero(apart.any(1))  # else one path is the beginning of the other
    level = apart[rows].argmax(1)
    pairs = np.sort(np.stack([gold[rows, level], said[rows, level]], 1), axis=1)
    pairs, count = np.unique(pairs.reshape(-1, 2), axis=0, return_counts=True)
    order = np.argsort(-count, kind="stable")
    return pairs[order].astype(np.int64), count[order].astype(np.int64), int(known.sum())


def draw_confusion(axes: Axes, taxonomy: Any, plan: Layout, texts: TextData, colors: Theme) -> str:
    """Geodesics between the siblings that are confused most, wider for more texts."""
    pairs, count, wrong = sibling_confusions(taxonomy, texts)
    known = int((texts.gold >= 0).sum())
    if not known:
        return "The texts have no gold labels, so there is no confusion to show."
    if not len(pairs):
        return f"No siblings are confused in {known:,} texts."
    shown = min(_ARCS, len(pairs))
    xy, most = plan.xy, int(count[0])
    paths = geodesic_paths(xy[pairs[:shown, 0]], xy[pairs[:shown, 1]])
    # The rarest first, so that nobody hides a frequent one.
    width = (0.4 + 1.8 * np.sqrt(count[:shown] / most))[::-1]
    axes.add_collection(
        PathCollection(
            paths[::-1], facecolors="none", edgecolors=colors.error, linewidths=width,
            alpha=0.6, capstyle="round", zorder=2.6,
        )
    )  # fmt: skip
    part = count[:shown].sum() / max(wrong, 1)
    which = "most confused siblings" if shown < len(pairs) else "confused siblings"
    return f"Arcs: {shown} pairs of {which}, {part:.0%} of {wrong:,} errors, up to {most:,} a pair."
