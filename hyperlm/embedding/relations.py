"""What is to be learned: for every node the ancestors to be near, and those never to be pushed off.

In: a taxonomy, or (child, parent) numbers. Out: sparse rows (CSR); row n holds ancestors of n.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyperlm.errors import OptionError
from hyperlm.taxonomy import Taxonomy

__all__ = ["Relations", "Rows", "take"]

IntArray = NDArray[np.int64]


class Rows(NamedTuple):
    """Sparse rows: row n is ``indices[indptr[n] : indptr[n + 1]]``."""

    indptr: IntArray
    indices: IntArray

    @classmethod
    def from_pairs(cls, pairs: ArrayLike, count: int) -> "Rows":
        """Of ``(E, 2)`` pairs (row, entry); a pair given twice counts once."""
        both = np.unique(np.asarray(pairs, dtype=np.int64).reshape(-1, 2), axis=0)
        sizes = np.bincount(both[:, 0], minlength=count)
        return cls(np.append(0, np.cumsum(sizes)), np.ascontiguousarray(both[:, 1]))


class Relations(NamedTuple):
    """Ancestors to train on, and ancestors that are known and so never negatives.

    Attributes:
        positives: Per node the ancestors it is drawn to.
        known: Per node all its known ancestors, ``positives`` among them.
        rooted: ``(N,)`` bool: nodes that are drawn to the root too, which sits at the origin.
    """

    positives: Rows
    known: Rows
    rooted: NDArray[np.bool_]

    @classmethod
    def of(cls, taxonomy: Taxonomy, pairs: str = "closure") -> "Relations":
        """All (ancestor, descendant) pairs of a taxonomy, or its ``edges`` alone."""
        closure = Rows(taxonomy.ancestor_indptr, taxonomy.ancestor_indices)
        if pairs == "closure":
            return cls(closure, closure, np.ones(len(taxonomy), dtype=bool))
        if pairs == "edges":
            edges = Rows.from_pairs(taxonomy.edges, len(taxonomy))
            return cls(edges, closure, taxonomy.parent < 0)
        raise OptionError(f"pairs = {pairs!r} is unknown; choose closure or edges.")

    @classmethod
    def from_pairs(cls, pairs: ArrayLike, count: int) -> "Relations":
        """Of ``(E, 2)`` pairs (child, parent) of ``count`` nodes, with no root above them."""
        rows = Rows.from_pairs(pairs, count)
        return cls(rows, rows, np.zeros(count, dtype=bool))

    def __len__(self) -> int:
        return len(self.positives.indptr) - 1


def take(rows: Rows, nodes: IntArray) -> tuple[IntArray, IntArray]:
    """Positions in ``nodes``, and entries, of their rows one after the other."""
    sizes = rows.indptr[nodes + 1] - rows.indptr[nodes]
    shift = np.repeat(rows.indptr[nodes] - (np.cumsum(sizes) - sizes), sizes)
    return np.repeat(np.arange(len(nodes)), sizes), rows.indices[shift + np.arange(len(shift))]
