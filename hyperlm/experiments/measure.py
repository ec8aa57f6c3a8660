"""What a trained head is worth on a split: one JSON-ready document, and the answers text by text.

Enters: a head, features, gold nodes. Leaves: every figure of ``hyperlm evaluate`` after path
decoding, calibration per level, the texts of classes with few examples apart, the radii at which
the head works, and for paired tests which texts it got right.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlm import decoding
from hyperlm.experiments.features import Split
from hyperlm.heads import HierarchicalHead, HyperbolicHead
from hyperlm.metrics import evaluate_predictions, expected_calibration_error, tree_distances
from hyperlm.taxonomy import Taxonomy

__all__ = ["bits", "by_text", "geometry_of", "measure", "node_logits", "unbits"]


@torch.no_grad()
def node_logits(head: HierarchicalHead, features: Tensor) -> Tensor:
    """Scores ``(n, N)`` of a head for features ``(n, taps, D)``."""
    head.eval()
    return head(features.unbind(1)).logits


def measure(
    logits: Tensor,
    taxonomy: Taxonomy,
    split: Split,
    *,
    loss: decoding.Loss,
    few: np.ndarray,
) -> dict[str, Any]:
    """All figures of one split.

    Args:
        logits: ``(n, N)``.
        loss: what the logits were trained with.
        few: ``(n,)`` bool, texts of classes with few examples.
    Returns:
        The document of :func:`hyperlm.metrics.evaluate_predictions`, with ``ece`` also in every
        level, ``few`` (``texts``, ``accuracy`` of whole paths), and ``answers`` text by text, as
        :func:`bits`: ``right``, one per level and one for whole paths at the end, ``consistent``
        and ``few``; and ``distance``, tree distances as a list.
    """
    cuts = decoding.cuts_of(taxonomy)
    decoded = decoding.decode(logits, cuts, loss=loss)
    marginals = decoding.marginals(logits, cuts, loss=loss)
    ends = decoded.nodes.numpy()
    consistent = decoding.raw_consistent(logits, cuts, loss=loss).numpy()
    document = evaluate_predictions(
        taxonomy,
        split.gold,
        ends,
        leaf_confidence=decoded.prob.clamp(0, 1).numpy(),
        raw_consistent=consistent,
    )
    paths = decoded.path_nodes
    sure = marginals.gather(1, paths.clamp_min(0))  # (n, L)
    answers = by_text(taxonomy, split.gold, ends, consistent)
    count = len(split.gold)
    for level in range(taxonomy.num_levels):
        known = _nodes_of_level(taxonomy, split.gold, level)
        asked = np.array([len(nodes) > 0 for nodes in known]) & (paths[:, level] >= 0).numpy()
        hit = unbits(answers["right"][level], count)
        document["levels"][level]["ece"] = expected_calibration_error(
            hit[asked], sure[:, level].numpy()[asked]
        )
    whole = unbits(answers["right"][-1], count)
    document["few"] = {
        "texts": int(few.sum()),
        "accuracy": float(whole[few].mean()) if few.any() else None,
    }
    document["answers"] = answers | {"few": bits(few)}
    return document


def by_text(
    taxonomy: Taxonomy,
    gold: Sequence[np.ndarray],
    ends: np.ndarray,
    consistent: np.ndarray,
) -> dict[str, Any]:
    """The answers text by text, which paired tests are made of.

    Args:
        gold: end nodes of each text's gold paths.
        ends: ``(n,)`` end node of each answer.
        consistent: ``(n,)`` bool, answers that formed a path by themselves.
    Returns:
        ``right``: :func:`bits` per level, and of whole paths at the end; ``consistent``, bits;
        ``distance``: edges between answer and gold, a list.
    """
    right = []
    for level in range(taxonomy.num_levels):
        known = _nodes_of_level(taxonomy, gold, level)
        said = _nodes_of_level(taxonomy, [[end] for end in ends], level)
        # In a DAG an answer stands for all its ancestors, as in the accuracies.
        right.append(np.array([bool(a & b) for a, b in zip(known, said, strict=True)]))
    right.append(np.array([end in nodes for end, nodes in zip(ends, gold, strict=True)]))
    return {
        "right": [bits(hit) for hit in right],
        "consistent": bits(consistent),
        "distance": tree_distances(taxonomy, gold, ends).tolist(),
    }


@torch.no_grad()
def geometry_of(head: HierarchicalHead, features: Tensor | None = None) -> dict[str, Any]:
    """Where a trained head works: mean radii times sqrt(c), c and the temperatures.

    Args:
        features: ``(n, taps, D)`` of texts, for their radii.
    """
    if not isinstance(head, HyperbolicHead):
        return {}
    scale = float(head.c) ** 0.5 if head.geometry != "euclidean" else 1.0
    nodes = head.node_tangents().norm(dim=1) * scale
    found = {
        "c": None if head.geometry == "euclidean" else float(head.c),
        "node_radius": float(nodes.mean()),
        "node_radius_of_level": [float(nodes[part].mean()) for part in head.level_slices],
        "temperature": head.log_temperature.exp().tolist(),
    }
    if features is None:
        return found
    deepest = head.tap_of_level[-1]
    head.eval()
    texts = head.each_projection()[deepest](features[:, deepest]).norm(dim=1) * scale
    return found | {"text_radius": float(texts.mean()), "text_radius_max": float(texts.max())}


def bits(values: np.ndarray) -> str:
    """A boolean array as hexadecimal digits, four values each."""
    return np.packbits(np.asarray(values, dtype=bool)).tobytes().hex()


def unbits(text: str, count: int) -> np.ndarray:
    """The first ``count`` values of :func:`bits`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))[:count].astype(bool)


def _nodes_of_level(
    taxonomy: Taxonomy, labels: Sequence[Iterable[int]], level: int
) -> list[set[int]]:
    """Nodes of one level among the labels of each text and their ancestors."""
    part = taxonomy.level_slices[level]
    inside: dict[int, set[int]] = {}
    sets = []
    for ends in labels:
        found: set[int] = set()
        for end in map(int, ends):
            if end not in inside:
                nodes = {end, *map(int, taxonomy.ancestors(end))}
                inside[end] = {node for node in nodes if part.start <= node < part.stop}
            found |= inside[end]
        sets.append(found)
    return sets
