"""Sets of labels that hold the right one with a promised probability, and small trees of them.

Split conformal prediction: on texts set aside, the score of a text is what its gold path lacks to
probability one; the set of a new text holds every path whose score is at most a quantile of those
(least ambiguous sets, Sadinle, Lei and Wasserman 2019). For exchangeable texts the gold path is
inside with at least the promised probability, whatever the model is, and among such rules this one
has the smallest sets on average where the probabilities are right. Taking paths until their mass
reaches a quantile (adaptive sets) was tried: a sure model fills them with crumbs, 99.8 % covered
for 90 % promised, 72 paths in a set. The answer as one node is the lowest common ancestor of the
set, and its guarantee is the same.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperlm.errors import DataError, OptionError
from hyperlm.taxonomy import Taxonomy

__all__ = ["check_coverage", "gold_scores", "quantile", "set_sizes"]

REPEATS = 200
_REPEATS_OF_DEPTH = 5  # the slow part, and a mean over texts that hardly changes


def gold_scores(posterior: npt.NDArray[Any], gold: npt.ArrayLike) -> np.ndarray:
    """One less the probability of the gold column, ``(n,)`` in [0, 1].

    Args:
        posterior: ``(n, T)`` probabilities.
        gold: column of each text.
    """
    p = np.asarray(posterior, dtype=np.float64)
    return 1.0 - p[np.arange(len(p)), np.asarray(gold)]


def quantile(scores: npt.NDArray[Any], coverage: float) -> float:
    """The ``ceil((n + 1) coverage)``-th smallest score; infinite where there are too few scores."""
    if not 0 < coverage < 1:
        raise OptionError(f"coverage {coverage:g}: must lie between 0 and 1.")
    rank = int(np.ceil((len(scores) + 1) * coverage - 1e-9))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def set_sizes(posterior: npt.NDArray[Any], limit: float) -> np.ndarray:
    """How many columns the set of each text has, ``(n,)``: those whose score is within ``limit``.

    The most probable column is always taken: a set without a label helps nobody.
    """
    p = np.asarray(posterior, dtype=np.float64)
    return np.maximum((1.0 - p <= limit + 1e-12).sum(1), 1)


def check_coverage(
    posterior: npt.NDArray[Any],
    gold: Sequence[npt.NDArray[Any]],
    taxonomy: Taxonomy,
    *,
    coverage: float = 0.9,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, Any]:
    """Cut the texts in halves at random many times: one sets the limit, the other is counted.

    Args:
        posterior: ``(n, T)`` over the terminals of the taxonomy, in its order.
        gold: end nodes of each text; those with several or without a terminal are left out.
    Returns:
        ``promised``, ``coverage`` and ``coverage_low`` (mean and 5 % quantile over the repeats),
        ``size`` and ``size_median`` of the sets, ``single`` (share of sets of one path), ``depth``
        (depth of the lowest common ancestor over that of the best path), ``texts``, ``repeats``.
    """
    column = {int(node): at for at, node in enumerate(taxonomy.terminals)}
    usable = [i for i, ends in enumerate(gold) if len(ends) == 1 and int(ends[0]) in column]
    if len(usable) < 2:
        raise DataError(
            f"conformal sets: {len(usable)} texts have one gold path that ends where paths end; at "
            "least 2 are needed. Give labelled texts."
        )
    p = np.asarray(posterior, dtype=np.float64)[usable]
    own = np.array([column[int(gold[i][0])] for i in usable])
    scores, order = gold_scores(p, own), np.argsort(-p, axis=1, kind="stable")
    random = np.random.default_rng(seed)
    half, covered, sizes, medians, single, depth = len(p) // 2, [], [], [], [], []
    for repeat in range(repeats):
        mixed = random.permutation(len(p))
        fit, count = mixed[:half], mixed[half:]
        limit = quantile(scores[fit], coverage)
        size = set_sizes(p[count], limit)
        inside = (scores[count] <= limit + 1e-12) | (order[count, 0] == own[count])
        covered.append(inside.mean())
        sizes.append(size.mean())
        medians.append(np.median(size))
        single.append((size == 1).mean())
        if repeat < _REPEATS_OF_DEPTH:
            shared = [_shared(taxonomy, order[i, :k]) for i, k in zip(count, size, strict=True)]
            depth.append(np.mean(shared))
    return {
        "promised": coverage,
        "coverage": float(np.mean(covered)),
        "coverage_low": float(np.quantile(covered, 0.05)),
        "size": float(np.mean(sizes)),
        "size_median": float(np.mean(medians)),
        "single": float(np.mean(single)),
        "depth": float(np.mean(depth)),
        "texts": len(p),
        "repeats": repeats,
    }


def _shared(taxonomy: Taxonomy, columns: npt.NDArray[Any]) -> float:
    """Depth of the lowest common ancestor over the depth of the first, in [0, 1]."""
    nodes = taxonomy.terminals[columns]
    common = {int(nodes[0]), *map(int, taxonomy.ancestors(int(nodes[0])))}
    for node in nodes[1:]:
        common &= {int(node), *map(int, taxonomy.ancestors(int(node)))}
        if not common:
            return 0.0
    return float(max(taxonomy.depth[node] for node in common) / taxonomy.depth[nodes[0]])
