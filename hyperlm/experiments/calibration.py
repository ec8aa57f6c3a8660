"""How far can probabilities be trusted? Reliability, stopping early, and sets with a guarantee.

Trains the arms of ``compare-geometries`` at one dimension (their tuned rates, where that has been
run, else a tuning of its own) and keeps, per run: likelihood, calibration error and reliability of
every level, and accuracy against depth when an answer stops at the deepest node that is sure
enough, both as trained and with the temperature that ``hyperlm train`` fits to val; and conformal
sets over the tree at 90 %, whose coverage is checked over many random halves of test. Command:
``hyperlm experiment calibration``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from hyperlm import decoding
from hyperlm.calibration import fit_temperature, path_nll
from hyperlm.experiments.arms import GEOMETRIES, apart, chosen, named, tuned
from hyperlm.experiments.conformal import check_coverage
from hyperlm.experiments.features import FrozenData, Split
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.settings import HeadRun
from hyperlm.metrics import expected_calibration_error
from hyperlm.taxonomy import Taxonomy

__all__ = ["ARMS", "NAME", "arms_of", "calibration_figures", "parts", "run"]

NAME = "calibration"
TRUST = "trust"  # what the figures of this experiment are kept under
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
    arms: Sequence[str] | None = None,
    progress: bool = False,
) -> None:
    """Train what is missing in the results file."""
    for dim in dims:
        for arm in named(arms, ARMS):
            tuned(
                replace(GEOMETRIES[arm], dim=dim),
                data,
                results,
                seeds=range(seeds),
                labels={"experiment": NAME, "arm": arm},
                extra={TRUST: calibration_figures},
                progress=progress,
            )


def parts(
    *, dims: Sequence[int] = (64,), arms: Sequence[str] | None = None, **settings: Any
) -> dict[str, dict[str, Any]]:
    """:func:`run` in parts that do not wait for one another, the long ones first, by title."""
    return apart(named(arms, ARMS), dims, settings)


def arms_of(results: ResultsFile, data: str) -> dict[str, list[Record]]:
    """The measured runs of a data set by arm, and by dimension where there are several."""
    found: dict[tuple[str, int], list[Record]] = {}
    for record in results.of(experiment=NAME):
        if record.data["name"] == data and isinstance(record.run, HeadRun):
            found.setdefault((record.labels["arm"], record.run.dim), []).append(record)
    # A version that fitted no temperature left runs without the figures.
    found = {
        at: kept
        for at, records in found.items()
        if (kept := chosen([record for record in records if TRUST in record.figures]))
    }
    several = len({dim for _, dim in found}) > 1
    return {
        f"{arm}, d = {dim}" if several else arm: records for (arm, dim), records in found.items()
    }


def calibration_figures(
    logits: dict[str, Tensor], taxonomy: Taxonomy, splits: dict[str, Split], loss: decoding.Loss
) -> dict[str, Any]:
    """Reliability, selective answers and conformal sets of one run.

    Args:
        logits: ``(n, N)`` on val and on test.
    Returns:
        ``temperature``: fitted to val; ``trained`` and ``fitted``, with probabilities on test as
        training left them and at that temperature: ``nll`` and ``ece`` of whole paths; ``levels``,
        each with ``ece`` and ``reliability``, ``[texts, mean confidence, accuracy]`` of every bin;
        ``selective``, per threshold the share of answered texts, the mean share of the path that
        was given, and how many of the given answers hold. ``conformal``: see
        :func:`~.conformal.check_coverage`; on test alone, since the temperature has seen val.
    """
    cuts = decoding.cuts_of(taxonomy)
    fitted = fit_temperature(logits["val"], splits["val"].gold, cuts, loss=loss)
    scores = decoding.path_scores(logits["test"], cuts, loss=loss)[:, cuts.terminals]
    posterior = (scores / fitted).softmax(1).numpy()
    return {
        "temperature": fitted,
        "trained": _trust(logits["test"], cuts, splits["test"], loss, 1.0),
        "fitted": _trust(logits["test"], cuts, splits["test"], loss, fitted),
        "conformal": check_coverage(posterior, splits["test"].gold, taxonomy, coverage=COVERAGE),
    }


def _trust(
    logits: Tensor, cuts: decoding.Cuts, split: Split, loss: decoding.Loss, temperature: float
) -> dict[str, Any]:
    """How far the probabilities of one temperature can be trusted on a split."""
    taxonomy = cuts.taxonomy
    decoded = decoding.decode(logits, cuts, loss=loss, temperature=temperature)
    marginals = decoding.marginals(logits, cuts, loss=loss, temperature=temperature)
    paths = decoded.path_nodes
    sure = marginals.gather(1, paths.clamp_min(0)).masked_fill(paths < 0, -1.0).numpy()
    gold = [_with_ancestors(taxonomy, ends) for ends in split.gold]
    hit = np.array(
        [[node in nodes for node in row] for row, nodes in zip(paths.tolist(), gold, strict=True)]
    )
    right = np.array(
        [end in ends for end, ends in zip(decoded.nodes.tolist(), split.gold, strict=True)]
    )
    asked = sure >= 0
    return {
        "nll": path_nll(logits, split.gold, cuts, loss=loss, temperature=temperature),
        "ece": expected_calibration_error(right, decoded.prob.clamp(0, 1), bins=BINS),
        "levels": [
            {
                "ece": expected_calibration_error(
                    hit[asked[:, at], at], sure[asked[:, at], at], bins=BINS
                ),
                "reliability": _bins(sure[:, at], hit[:, at]),
            }
            for at in range(taxonomy.num_levels)
        ],
        "selective": [_stopped(sure, hit, threshold) for threshold in THRESHOLDS],
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
