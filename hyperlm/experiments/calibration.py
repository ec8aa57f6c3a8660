"""How far can probabilities be trusted? Reliability, stopping early, and sets with a guarantee.

Trains the arms of ``compare-geometries`` at one dimension (their tuned rates, where that has been
run, else a tuning of its own) and keeps, per run: reliability bins of every level; accuracy against
depth when an answer stops at the deepest node that is sure enough; and conformal sets over the tree
at 90 %, whose coverage is checked over many random halves of val and test together. Command:
``hyperlm experiment calibration``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlm import decoding
from hyperlm.experiments.arms import GEOMETRIES, tuned
from hyperlm.experiments.conformal import check_coverage
from hyperlm.experiments.features import FrozenData, Split
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.taxonomy import Taxonomy

__all__ = ["ARMS", "NAME", "arms_of", "calibration_figures", "run"]

NAME = "calibration"
ARMS = ("poincare", "euclidean", "linear")
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
BINS = 15
COVERAGE = 0.9


def run(
    data: FrozenData,
    results: ResultsFile,
    *,
    seeds: int = 5,
    dims: Sequence[int] = (64,),
    arms: Sequence[str] = ARMS,
    progress: bool = False,
) -> None:
    """Train what is missing in the results file."""
    for dim in dims:
        for arm in arms:
            tuned(
                replace(GEOMETRIES[arm], dim=dim),
                data,
                results,
                seeds=range(seeds),
                labels={"experiment": NAME, "arm": arm},
                extra=calibration_figures,
                progress=progress,
            )


def arms_of(results: ResultsFile, data: str) -> dict[str, list[Record]]:
    """The measured runs of a data set by arm."""
    found: dict[str, list[Record]] = {}
    for record in results.of(experiment=NAME, stage="measure"):
        if record.data["name"] == data:
            found.setdefault(record.labels["arm"], []).append(record)
    return found


def calibration_figures(
    logits: dict[str, Tensor], taxonomy: Taxonomy, splits: dict[str, Split], loss: decoding.Loss
) -> dict[str, Any]:
    """Reliability, selective answers and conformal sets of one run.

    Args:
        logits: ``(n, N)`` on val and on test.
    Returns:
        ``reliability``: per level, ``[texts, mean confidence, accuracy]`` of every bin on test;
        ``selective``: per threshold, the share of answered texts, the mean share of the path that
        was given, and how many of the given answers hold; ``conformal``: see
        :func:`~.conformal.check_coverage`.
    """
    cuts = decoding.cuts_of(taxonomy)
    decoded = decoding.decode(logits["test"], cuts, loss=loss)
    marginals = decoding.marginals(logits["test"], cuts, loss=loss)
    paths = decoded.path_nodes
    sure = marginals.gather(1, paths.clamp_min(0)).masked_fill(paths < 0, -1.0).numpy()
    gold = [_with_ancestors(taxonomy, ends) for ends in splits["test"].gold]
    hit = np.array(
        [[node in nodes for node in row] for row, nodes in zip(paths.tolist(), gold, strict=True)]
    )
    both = torch.cat([logits["val"], logits["test"]])
    posterior = decoding.path_scores(both, cuts, loss=loss)[:, cuts.terminals].softmax(1)
    ends = [*splits["val"].gold, *splits["test"].gold]
    return {
        "reliability": [
            _bins(sure[:, level], hit[:, level]) for level in range(taxonomy.num_levels)
        ],
        "selective": [_stopped(sure, hit, threshold) for threshold in THRESHOLDS],
        "conformal": check_coverage(posterior.numpy(), ends, taxonomy, coverage=COVERAGE),
    }


def _bins(sure: np.ndarray, hit: np.ndarray) -> list[list[float]]:
    """``[texts, mean confidence, accuracy]`` of bins of equal width that hold a text."""
    asked = sure >= 0
    at = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for number in range(BINS):
        inside = asked & (at == number)
        if inside.any():
            bins.append([int(inside.sum()), float(sure[inside].mean()), float(hit[inside].mean())])
    return bins


def _stopped(sure: np.ndarray, hit: np.ndarray, threshold: float) -> dict[str, float | None]:
    """Answers that stop at the deepest node whose probability is at least the threshold."""
    kept = (sure >= max(threshold, 0.0)).cumprod(1).astype(bool)
    depth, full = kept.sum(1), (sure >= 0).sum(1)
    right = np.array([bool(h[d - 1]) for h, d in zip(hit, depth, strict=True) if d])
    return {
        "threshold": threshold,
        "answered": float((depth > 0).mean()),
        "depth": float((depth / full).mean()),
        "whole": float((depth == full).mean()),
        "accuracy": float(right.mean()) if len(right) else None,
    }


def _with_ancestors(taxonomy: Taxonomy, ends: np.ndarray) -> set[int]:
    return {node for end in map(int, ends) for node in (end, *map(int, taxonomy.ancestors(end)))}
