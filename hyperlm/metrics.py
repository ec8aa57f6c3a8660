"""Flat, hierarchical and path metrics of predicted nodes.

In: the gold nodes of every text and the node (or nodes) predicted for it; out: plain floats, or
None where a metric is undefined (no gold node on a level, no prediction, no mistake). No torch.

Labels are given by the nodes where their paths end. A text may have several gold nodes, at any
depth. A prediction may end early, or at the root (-1): it then predicts fewer nodes or none. Sets
of labels are written as one of

- one node per text, ``(n,)``;
- a list of nodes per text;
- an array ``(n, k)`` padded with -1.

Unless said otherwise both sides are augmented by all their ancestors before they are compared
(Kiritchenko et al. 2006), so that in a DAG a label counts on every way down to it. For a tree with
one gold leaf per text the metrics of each level are then the usual flat ones.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperlm.errors import DataError, OptionError
from hyperlm.label_sets import (
    Labels,
    LabelSets,
    check_nodes,
    mean,
    node_array,
    node_f1s,
    overlap,
    ratio,
    same_length,
    sorted_contains,
)
from hyperlm.taxonomy import Taxonomy
from hyperlm.taxonomy_graph import IntArray

__all__ = [
    "constrained_f1",
    "evaluate_predictions",
    "expected_calibration_error",
    "form_paths",
    "hierarchical_scores",
    "level_scores",
    "path_accuracy",
    "path_f1",
    "tree_distances",
]


def evaluate_predictions(
    taxonomy: Taxonomy,
    gold: Labels,
    predicted: Labels,
    *,
    leaf_confidence: npt.ArrayLike | None = None,
    raw_consistent: npt.ArrayLike | None = None,
    level_predictions: npt.ArrayLike | None = None,
    level_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """All metrics of one prediction per text, as one JSON-ready document.

    Args:
        gold: Gold labels, at least one node per text.
        predicted: ``(n,)`` node where the predicted path ends, -1 for the root.
        leaf_confidence: ``(n,)`` probability of ``predicted``, for ``ece``.
        raw_consistent: ``(n,)`` bool, whether the independent per-level answers form one path.
        level_predictions: ``(n, L)`` those answers themselves. They replace ``predicted`` in
            ``c_micro_f1`` and ``c_macro_f1``, which say little of predictions that are consistent
            anyway, and give ``raw_consistency`` where ``raw_consistent`` is left out.
        level_names: L names; "L1", "L2", ... by default.
    Returns:
        ``n``; ``levels``, see ``level_scores``; ``path_accuracy``; ``hierarchical`` with
        ``precision``, ``recall``, ``f1``; ``c_micro_f1``, ``c_macro_f1``, ``p_f1``,
        ``raw_consistency``, ``path_consistency``, ``mean_tree_distance``, ``mistake_severity``
        (mean tree distance of the mistakes alone), ``ece`` (15 bins).
    Raises:
        DataError: Lengths that differ, numbers that are no nodes, a text without a gold node,
            confidences outside [0, 1]. OptionError: Not one name per level.
    """
    gold_ends, ends = _ends(taxonomy, gold, predicted)
    said = LabelSets.of(taxonomy, ends, "predicted")
    golds, predictions = gold_ends.augmented(), said.augmented()
    right, distance = gold_ends.hits(ends), _distances(gold_ends, ends)
    answers = predictions
    if level_predictions is not None:
        answers = LabelSets.of(taxonomy, level_predictions, "level_predictions")
        same_length(answers.texts, len(ends))
        if raw_consistent is None:
            raw_consistent = form_paths(taxonomy, level_predictions)
    constrained = node_f1s(golds, answers.connected())
    if raw_consistent is not None:
        raw_consistent = np.asarray(raw_consistent, dtype=bool)
        same_length(len(raw_consistent), len(ends))
    return {
        "n": len(ends),
        "levels": _level_scores(golds, predictions, level_names),
        "path_accuracy": mean(right),
        "hierarchical": overlap(golds, predictions),
        "c_micro_f1": constrained["micro"],
        "c_macro_f1": constrained["macro"],
        "p_f1": overlap(gold_ends, said)["f1"],
        "raw_consistency": None if raw_consistent is None else mean(raw_consistent),
        # A node number that is in the taxonomy stands for a path that is in the taxonomy.
        "path_consistency": 1.0 if len(ends) else None,
        "mean_tree_distance": mean(distance),
        "mistake_severity": mean(distance[~right]),
        "ece": None
        if leaf_confidence is None
        else expected_calibration_error(right, leaf_confidence),
    }


def level_scores(
    taxonomy: Taxonomy,
    gold: Labels,
    predicted: Labels,
    *,
    level_names: Sequence[str] | None = None,
    augment: bool = True,
) -> list[dict[str, Any]]:
    """Flat scores over the nodes of each depth.

    ``accuracy``: of the texts with a gold node on the level, the share with a predicted node among
    them. A prediction that ends higher up is wrong. ``micro_f1``: F1 of all (text, node) pairs on
    the level; with exactly one gold and one predicted node per text it equals the accuracy.
    ``macro_f1``: mean F1 of the nodes that occur in the gold labels. Both count predictions below
    the end of a text's gold paths as false, as scikit-learn does for label sets.

    Args:
        augment: Add their ancestors to the predictions; False to score independent answers per
            level, ``(n, L)``, as they are.
    Returns:
        L dicts with ``name``, ``accuracy``, ``micro_f1``, ``macro_f1``.
    """
    golds, said = _sets(taxonomy, gold, predicted)
    return _level_scores(golds.augmented(), said.augmented() if augment else said, level_names)


def hierarchical_scores(
    taxonomy: Taxonomy, gold: Labels, predicted: Labels
) -> dict[str, float | None]:
    """Hierarchical ``precision``, ``recall`` and ``f1`` of the ancestor-augmented sets.

    Sum of intersections over sum of predicted, and over sum of gold sets: micro-averaged.
    Source: Kiritchenko et al. 2006; Plaud et al. 2024 (arXiv 2410.01305).
    """
    golds, said = _sets(taxonomy, gold, predicted)
    return overlap(golds.augmented(), said.augmented())


def constrained_f1(taxonomy: Taxonomy, gold: Labels, answers: Labels) -> dict[str, float | None]:
    """C-F1, ``micro`` and ``macro``: a node counts as predicted only below predicted nodes.

    An answer counts if every node of a path from the root to it (in a tree: every ancestor) is an
    answer too; the others are left out. Answers are not augmented; gold labels are. The macro
    average runs over the nodes that occur in the gold labels.
    Source: Yu et al. 2022 (arXiv 2204.00811). The script published with HierVerb instead keeps
    answers that are left out in the denominator of the precision.

    Args:
        answers: All nodes answered for each text, such as ``(n, L)`` one per level.
    """
    golds, said = _sets(taxonomy, gold, answers)
    return node_f1s(golds.augmented(), said.connected())


def path_f1(taxonomy: Taxonomy, gold: Labels, predicted: Labels) -> float | None:
    """P-F1: F1 over whole paths, micro-averaged; a path is right if it ends at a gold node.

    Source: Ji et al. 2023 (HierVerb), without its discount for answers that form no path: decoded
    predictions have none.
    """
    return overlap(*_sets(taxonomy, gold, predicted))["f1"]


def path_accuracy(taxonomy: Taxonomy, gold: Labels, predicted: Labels) -> float | None:
    """Share of texts whose one prediction ``(n,)`` is the end of one of their gold paths."""
    golds, ends = _ends(taxonomy, gold, predicted)
    return mean(golds.hits(ends))


def tree_distances(taxonomy: Taxonomy, gold: Labels, predicted: Labels) -> IntArray:
    """Edges between each prediction ``(n,)`` and the nearest of its gold nodes, ``(n,)``.

    The root (-1) is a node here. In a DAG the fewest edges up to a common ancestor and down.
    """
    return _distances(*_ends(taxonomy, gold, predicted))


def expected_calibration_error(
    correct: npt.ArrayLike, confidence: npt.ArrayLike, *, bins: int = 15
) -> float | None:
    """Mean gap between confidence and accuracy, over bins of equal width weighted by their texts.

    Bins are open below and closed above. Source: Guo et al. 2017.

    Args:
        correct: ``(n,)`` bool.
        confidence: ``(n,)`` in [0, 1].
    Raises:
        DataError: Confidences outside [0, 1] or NaN; lengths that differ.
    """
    if bins < 1:
        raise OptionError(f"expected_calibration_error: bins is {bins}; use at least 1.")
    hit, sure = np.asarray(correct, dtype=bool), np.asarray(confidence, dtype=np.float64)
    same_length(len(sure), len(hit))
    # A softmax in float32 sums to 1 only up to rounding.
    bad = np.flatnonzero(~((sure >= 0) & (sure <= 1 + 1e-5)))
    if len(bad):
        raise DataError(
            f"{len(bad)} confidences lie outside [0, 1], the first in row {bad[0]}: "
            f"{sure[bad[0]]:g}. Pass probabilities, not logits or log-probabilities."
        )
    if not len(sure):
        return None
    bin_of = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    # |sum of (hits - confidences)| of a bin is its size times its gap.
    return float(np.abs(np.bincount(bin_of, weights=hit - sure)).sum() / len(sure))


def form_paths(taxonomy: Taxonomy, answers: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether independent answers, one per level, are the steps of one path, ``(n,)``.

    Level l may be answered by a node of depth l or, where the path has ended at a terminal or waits
    for an edge of a DAG that skips the level, by the node of the level above again; -1 (no answer)
    reads as that. The same rule as ``decoding.raw_consistent``.

    Args:
        answers: ``(n, L)`` nodes or -1.
    """
    L, N = taxonomy.num_levels, len(taxonomy)
    rows = node_array(answers, "answers")
    if rows.ndim != 2 or rows.shape[1] != L:
        raise DataError(f"answers have the shape {rows.shape}; pass one per level, (n, {L}).")
    check_nodes(taxonomy, rows.ravel(), np.repeat(np.arange(len(rows)), L), "answers")
    depth, (child, parent) = taxonomy.depth, taxonomy.edges.T
    # Up to which level a node may be answered: its own, its longest wait, or any.
    last = depth.copy()
    np.maximum.at(last, parent, depth[child] - 1)
    last[taxonomy.terminals] = L
    edges = np.sort(child * N + parent)
    at = rows[:, 0]
    good = (at >= 0) & (depth[at] == 1)
    for level in range(2, L + 1):
        step = np.where(rows[:, level - 1] < 0, at, rows[:, level - 1])
        enters = (depth[step] == level) & sorted_contains(edges, step * N + at)
        good &= enters | ((step == at) & (last[step] >= level))
        at = step
    return good


def _sets(taxonomy: Taxonomy, gold: Labels, predicted: Labels) -> tuple[LabelSets, LabelSets]:
    golds = LabelSets.of(taxonomy, gold, "gold", needed=True)
    said = LabelSets.of(taxonomy, predicted, "predicted")
    same_length(said.texts, golds.texts)
    return golds, said


def _ends(taxonomy: Taxonomy, gold: Labels, predicted: Labels) -> tuple[LabelSets, IntArray]:
    """The gold sets and the one node predicted for each text, ``(n,)``, -1 for the root."""
    ends = node_array(predicted, "predicted")
    if ends.ndim != 1:
        raise DataError(f"predicted has the shape {ends.shape}; pass one node per text, (n,).")
    check_nodes(taxonomy, ends, np.arange(len(ends)), "predicted")
    golds = LabelSets.of(taxonomy, gold, "gold", needed=True)
    same_length(len(ends), golds.texts)
    return golds, ends


def _level_scores(
    gold: LabelSets, predicted: LabelSets, names: Sequence[str] | None
) -> list[dict[str, Any]]:
    L = gold.taxonomy.num_levels
    names = [f"L{level}" for level in range(1, L + 1)] if names is None else list(names)
    if len(names) != L:
        raise OptionError(f"Got {len(names)} level names for {L} levels: {names}.")
    having, right = gold.level_counts(), gold.common(predicted).level_counts()
    scores = []
    for level, (name, nodes) in enumerate(zip(names, gold.taxonomy.level_slices, strict=True)):
        f1 = node_f1s(gold, predicted, nodes)
        accuracy = ratio(right[level], having[level])
        scores.append(
            {"name": name, "accuracy": accuracy, "micro_f1": f1["micro"], "macro_f1": f1["macro"]}
        )
    return scores


def _distances(gold: LabelSets, ends: IntArray) -> IntArray:
    """Distance of each end to the nearest gold node of its text; every text has one."""
    if not len(ends):
        return np.zeros(0, dtype=np.int64)
    taxonomy, rows = gold.taxonomy, gold.rows
    # Few of all pairs occur, and a distance in a DAG takes a while.
    pairs, where = np.unique((ends[rows] + 1) * len(taxonomy) + gold.nodes, return_inverse=True)
    end, node = np.divmod(pairs, len(taxonomy))
    distance = taxonomy.distance(end - 1, node)[where]
    return np.minimum.reduceat(distance, np.searchsorted(rows, np.arange(len(ends))))
