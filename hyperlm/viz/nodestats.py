"""How the texts fare at every node: how many there are, how many arrive, where the others go.

In: a taxonomy and the gold and predicted end nodes of some texts. Out: a row per node. A text
counts at its gold node and at everything above it; it arrives at a node when the predicted node
lies there or below, whatever else is wrong with it. In a DAG "above" means every ancestor.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hyperlm.taxonomy import Taxonomy

__all__ = ["NodeStats", "node_stats"]


@dataclass(frozen=True)
class NodeStats:
    """Figures of N nodes.

    Attributes:
        count: ``(N,)`` texts whose gold node is here or below.
        hits: ``(N,)`` those of them whose predicted node is here or below too.
        confused: per node, the nodes of its level that the other texts were given to, along
            ``taxonomy.parent``, with their number, most frequent first; a path that ended above
            that level counts where it ended, at the root nowhere.
        examples: per node, some texts of it: the surest right answers, then the surest wrong one.
    """

    count: NDArray[np.int64]
    hits: NDArray[np.int64]
    confused: tuple[tuple[tuple[int, int], ...], ...]
    examples: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """``(N,)`` recall of each node, NaN where no text belongs."""
        return np.where(self.count > 0, self.hits / np.maximum(self.count, 1), np.nan)


def node_stats(
    taxonomy: Taxonomy,
    gold: NDArray[np.int64],
    predicted: NDArray[np.int64],
    sureness: NDArray[np.float64],
    *,
    most: int = 3,
    examples: int = 3,
) -> NodeStats:
    """Count, accuracy, confusions and examples of every node.

    Args:
        gold: ``(M,)`` gold end nodes, -1 for unknown; such texts count nowhere.
        predicted: ``(M,)`` predicted end nodes, -1 for the root.
        sureness: ``(M,)`` probability of the predicted path.
        most: confusions kept of a node.
        examples: texts kept of a node.
    """
    size = len(taxonomy)
    text, node = taxonomy.at_or_above(gold)  # every text with every node it belongs to
    given = np.sort(_key(*taxonomy.at_or_above(predicted), size))
    hit = np.isin(_key(text, node, size), given)
    count = np.bincount(node, minlength=size)
    hits = np.bincount(node[hit], minlength=size)

    lost = ~hit & (predicted[text] >= 0)
    answer, at = predicted[text[lost]], node[lost]
    other = taxonomy.path_matrix[answer, taxonomy.depth[at] - 1]
    other = np.where(other < 0, answer, other)
    pairs, number = np.unique(_key(at, other, size), return_counts=True)
    frequent = np.lexsort((pairs, -number))
    given_to = np.stack([pairs % size, number], 1)
    confused = _first(pairs // size, given_to, frequent, size, most)
    # Below a node the surest come first; ties keep the order of the texts.
    surest = np.lexsort((text, -sureness[text]))
    right = _first(node, text[:, None], surest[hit[surest]], size, examples)
    wrong = _first(node, text[:, None], surest[~hit[surest]], size, examples)
    chosen = []
    for good, bad in zip(right, wrong, strict=True):
        best = good[: examples - 1] if bad else good
        chosen.append(tuple(row[0] for row in (*best, *bad[: examples - len(best)])))
    pairs_of = tuple(tuple((row[0], row[1]) for row in rows) for rows in confused)
    return NodeStats(count, hits, pairs_of, tuple(chosen))


def _key(row: NDArray[np.int64], column: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """One number per pair."""
    return row * size + column


def _first(
    node: NDArray[np.int64],
    values: NDArray[np.int64],
    order: NDArray[np.int64],
    size: int,
    most: int,
) -> list[list[tuple[int, ...]]]:
    """Per node, its first ``most`` rows of ``values``, taken in ``order``."""
    order = order[np.argsort(node[order], kind="stable")]
    begin = np.searchsorted(node[order], np.arange(size + 1)).tolist()
    return [
        [tuple(row) for row in values[order[a : min(a + most, b)]].tolist()]
        for a, b in pairwise(begin)
    ]
