"""The document that the explorer page reads: everything it shows, as one JSON object.

In: a :class:`RunData` and its layouts. Out: plain lists and base64 of little-endian float64 arrays.
Positions are tangent vectors at the origin of the hyperbolic plane (``c = 1``, Riemannian length),
so that nothing is lost at the rim. Equal data make equal documents.
"""

import base64
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperlm import __version__
from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.viz.cone_regions import half_apertures
from hyperlm.viz.layout import Layout
from hyperlm.viz.nodestats import node_stats
from hyperlm.viz.quality import Quality
from hyperlm.viz.rundata import RunData, TextData

__all__ = ["LAYOUT_LABELS", "MOST_TEXTS", "page_document", "shortened"]

MOST_TEXTS = 20_000
_LONGEST = 300  # characters of a text
LAYOUT_LABELS = {
    "tree": "Label tree",
    "pca": "Tangent PCA",
    "horopca": "HoroPCA",
    "umap": "UMAP",
}


def page_document(
    run: RunData, layouts: Sequence[Layout], *, served: bool = False
) -> dict[str, Any]:
    """What ``hyperlm-data`` holds.

    Args:
        layouts: Of this run's taxonomy, in the order in which the page offers them.
        served: Whether a server stands behind the page, which answers texts.
    Returns:
        Keys ``version title generator geometry c served split notes nodes levels layouts texts``;
        entries of ``nodes`` are lists of N, those of ``texts`` lists of M, but for ``also``: pairs
        of a node and a parent that it is not drawn under.
    Raises:
        OptionError: No layout, or one of another taxonomy. OffManifoldError: NaN in a layout.
    """
    if not layouts:
        raise OptionError(
            "a page needs at least one layout; project(run, 'tree') always gives one."
        )
    taxonomy, texts = run.taxonomy, run.texts
    kept = _kept(len(texts)) if texts is not None else np.zeros(0, dtype=np.int64)
    notes = list(run.notes)
    child, parent = taxonomy.edges.T
    also = taxonomy.edges[parent != taxonomy.parent[child]]
    if len(also):
        notes.append(
            "Labels with several parents stand under one of them; dashes lead to the others."
        )
    if texts is not None and len(kept) < len(texts):
        notes.append(f"{len(kept):,} of the {len(texts):,} texts are on this page.")
    if texts is not None and (texts.gold < 0).all():
        notes.append("No text has a label here: the numbers count predictions.")
    return {
        "version": 1,
        "title": run.title,
        "generator": f"hyperlm {__version__}",
        "geometry": run.geometry,
        "c": run.c,
        "served": served,
        "split": texts.split if texts is not None else None,
        "notes": notes,
        "nodes": {
            "name": list(taxonomy.names),
            "parent": taxonomy.parent.tolist(),
            "also": also.tolist() if len(also) else None,
            "description": [run.descriptions.get(node) for node in range(len(taxonomy))]
            if run.descriptions
            else None,
            **_figures(run, texts, kept),
        },
        "levels": list(run.level_names),
        "layouts": [_layout(run, plan, kept) for plan in layouts],
        "texts": _texts(texts, kept),
    }


def shortened(text: str, most: int = _LONGEST) -> str:
    """``text`` in one line of at most ``most`` characters, cut at a word where one ends near."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    cut = most - 1
    space = line.rfind(" ", cut - 24, cut + 1)
    if space > 0:
        return line[:space] + "…"
    # Not inside a letter with its accents or a joined emoji.
    while cut > 1 and (
        unicodedata.category(line[cut])[0] == "M" or "\u200d" in line[cut - 1 : cut + 1]
    ):
        cut -= 1
    return line[:cut] + "…"


def _figures(run: RunData, texts: TextData | None, kept: NDArray[np.int64]) -> dict[str, Any]:
    """Count, accuracy, confusions and examples of the nodes, from all texts."""
    if texts is None:
        count = run.counts.tolist() if run.counts is not None else None
        return {"count": count, "accuracy": None, "confused": None, "examples": None}
    labelled = bool((texts.gold >= 0).any())
    gold = texts.gold if labelled else texts.predicted
    stats = node_stats(run.taxonomy, gold, texts.predicted, texts.probability)
    if len(kept) < len(texts):  # examples must be among the texts of the page
        shown = np.full(len(texts), -1, dtype=np.int64)
        shown[kept] = gold[kept]
        examples = node_stats(run.taxonomy, shown, texts.predicted, texts.probability).examples
        place = {int(row): number for number, row in enumerate(kept)}
        examples = tuple(tuple(place[row] for row in rows) for rows in examples)
    else:
        examples = stats.examples
    accuracy = [None if math.isnan(a) else round(a, 6) for a in stats.accuracy.tolist()]
    return {
        "count": stats.count.tolist(),
        "accuracy": accuracy if labelled else None,
        "confused": [list(map(list, rows)) for rows in stats.confused] if labelled else None,
        "examples": list(map(list, examples)),
    }


def _kept(count: int) -> NDArray[np.int64]:
    """Which texts go on the page: all, or a fixed random sample in their order."""
    if count <= MOST_TEXTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST_TEXTS])


def _texts(texts: TextData | None, kept: NDArray[np.int64]) -> dict[str, Any] | None:
    if texts is None:
        return None
    return {
        "text": [shortened(texts.texts[row]) for row in kept],
        "gold": texts.gold[kept].tolist(),
        "predicted": texts.predicted[kept].tolist(),
        "probability": np.round(texts.probability[kept], 4).tolist(),
    }


def _layout(run: RunData, plan: Layout, kept: NDArray[np.int64]) -> dict[str, Any]:
    if plan.tangents.shape != (len(run.taxonomy), 2):
        raise OptionError(
            f"layout {plan.name!r} has positions of shape {plan.tangents.shape}; the taxonomy has "
            f"{len(run.taxonomy)} nodes. Make the layout from the same taxonomy."
        )
    texts = plan.texts[kept] if plan.texts is not None and run.texts is not None else None
    for part in (plan.tangents, texts):
        if part is not None and not np.isfinite(part).all():
            raise OffManifoldError(
                f"layout {plan.name!r} holds NaN or infinite positions; it cannot be drawn. Choose "
                "another projection, or train with a lower learning rate."
            )
    # The cone of a point in d dimensions has no picture in two once the point has been projected:
    # shown are the cones that the drawn points themselves have. Flat learned points have none.
    hyperbolic = plan.name == "tree" or run.geometry in ("poincare", "lorentz")
    return {
        "name": plan.name,
        "label": LAYOUT_LABELS.get(plan.name, plan.name),
        "note": " ".join(plan.note),
        "quality": _quality(plan.quality),
        "nodes": _packed(plan.tangents),
        "texts": None if texts is None else _packed(texts),
        "cones": _packed(half_apertures(plan.tangents)) if hyperbolic else None,
    }


def _quality(quality: Quality | None) -> dict[str, Any] | None:
    if quality is None:
        return None
    figures = {
        "distortion": quality.distortion,
        "neighbourhood": quality.neighbours,
        "rank": quality.rank_correlation,
    }
    rounded = {key: round(v, 6) if math.isfinite(v) else None for key, v in figures.items()}
    return rounded | {"of": quality.of}


def _packed(values: NDArray[np.float64]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode("ascii")
