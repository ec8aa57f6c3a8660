"""Sets of nodes, one per text, and how two of them overlap. No torch.

In: gold or predicted nodes in one of the forms that ``metrics`` lists. Inside: one sorted array of
integers ``text * N + node``, so that unions, look-ups and counts are numpy calls over all texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperlm.errors import DataError
from hyperlm.taxonomy import Taxonomy
from hyperlm.taxonomy_graph import IntArray, row_starts, take_rows

Labels = npt.ArrayLike | Sequence[Sequence[int]]


@dataclass(frozen=True)
class LabelSets:
    """One set of nodes per text.

    Attributes:
        taxonomy: Whose nodes they are.
        texts: n, how many sets there are; some may be empty.
        keys: ``(P,)`` text * N + node of every member, ascending.
    """

    taxonomy: Taxonomy
    texts: int
    keys: IntArray

    @classmethod
    def of(
        cls, taxonomy: Taxonomy, labels: Labels, what: str, *, needed: bool = False
    ) -> "LabelSets":
        """Check labels and make sets of them; -1 names no node.

        Args:
            what: What a message calls them.
            needed: Refuse a text without a node.
        """
        sizes: list[int] | int
        if isinstance(labels, Sequence) and any(np.ndim(item) for item in labels):
            lists = [np.atleast_1d(item).tolist() for item in labels]
            texts, sizes = len(lists), [len(item) for item in lists]
            nodes = node_array(list(chain.from_iterable(lists)), what)
        else:
            array = node_array(labels, what)
            if array.ndim not in (1, 2):
                raise DataError(
                    f"{what} has the shape {array.shape}; use (n,), (n, k) or a list of lists."
                )
            texts, sizes = len(array), array.shape[1] if array.ndim == 2 else 1
            nodes = array.ravel()
        rows = np.repeat(np.arange(texts), sizes)
        check_nodes(taxonomy, nodes, rows, what)
        rows, nodes = rows[nodes >= 0], nodes[nodes >= 0]
        empty = np.flatnonzero(np.bincount(rows, minlength=texts) == 0)
        if needed and len(empty):
            raise DataError(
                f"{len(empty)} texts have no {what} node, the first is row {empty[0]}. Leave "
                "texts without a label out of the evaluation."
            )
        return cls(taxonomy, texts, _distinct(rows * len(taxonomy) + nodes))

    @property
    def rows(self) -> IntArray:
        """``(P,)`` the text of every member."""
        return self.keys // len(self.taxonomy)

    @property
    def nodes(self) -> IntArray:
        """``(P,)`` the node of every member."""
        return self.keys % len(self.taxonomy)

    def node_counts(self) -> IntArray:
        """In how many texts each node occurs, ``(N,)``."""
        return np.bincount(self.nodes, minlength=len(self.taxonomy))

    def level_counts(self) -> IntArray:
        """How many texts have a node on each level, ``(L,)``: each text once."""
        L = self.taxonomy.num_levels
        levels = _distinct(self.rows * L + self.taxonomy.depth[self.nodes] - 1) % L
        return np.bincount(levels, minlength=L)

    def hits(self, ends: IntArray) -> npt.NDArray[np.bool_]:
        """Whether the node given for each text, ``(n,)``, is in its set; -1 never is."""
        keys = np.arange(self.texts) * len(self.taxonomy) + ends
        return (ends >= 0) & sorted_contains(self.keys, keys)

    def common(self, other: "LabelSets") -> "LabelSets":
        """What is in both."""
        return replace(self, keys=other.keys[sorted_contains(self.keys, other.keys)])

    def augmented(self) -> "LabelSets":
        """The sets with all ancestors of their nodes."""
        t = self.taxonomy
        rows = np.repeat(self.rows, np.diff(t.ancestor_indptr)[self.nodes])
        above = take_rows(t.ancestor_indptr, t.ancestor_indices, self.nodes)
        return replace(self, keys=_distinct(np.append(self.keys, rows * len(t) + above)))

    def connected(self) -> "LabelSets":
        """The nodes to which a path from the root leads inside the set; the others are left out."""
        t, rows, nodes = self.taxonomy, self.rows, self.nodes
        depth = t.depth[nodes]
        counts = depth == 1
        child, parent = t.edges.T
        indptr = row_starts(child, len(t))
        for level in range(2, t.num_levels + 1):
            here = np.flatnonzero(depth == level)
            member = np.repeat(here, np.diff(indptr)[nodes[here]])  # once per parent
            above = rows[member] * len(t) + take_rows(indptr, parent, nodes[here])
            counts[member[sorted_contains(self.keys[counts], above)]] = True
        return replace(self, keys=self.keys[counts])


def overlap(gold: LabelSets, predicted: LabelSets) -> dict[str, float | None]:
    """``precision``, ``recall`` and ``f1`` of all members, micro-averaged."""
    both, said, true = len(gold.common(predicted).keys), len(predicted.keys), len(gold.keys)
    return {
        "precision": ratio(both, said),
        "recall": ratio(both, true),
        # 2PR / (P + R) without its division by zero when nothing is right.
        "f1": ratio(2 * both, said + true),
    }


def node_f1s(
    gold: LabelSets, predicted: LabelSets, among: slice = slice(None)
) -> dict[str, float | None]:
    """``micro`` and ``macro`` F1 over some nodes; macro over those that occur in the gold."""
    both, said, true = (
        sets.node_counts()[among] for sets in (gold.common(predicted), predicted, gold)
    )
    seen = true > 0
    f1 = 2 * both[seen] / (said[seen] + true[seen])
    return {"micro": ratio(2 * both.sum(), said.sum() + true.sum()), "macro": mean(f1)}


def mean(values: npt.NDArray[Any]) -> float | None:
    """None where there is nothing to average."""
    return float(values.mean()) if len(values) else None


def ratio(part: float, whole: float) -> float | None:
    """None where the whole is 0."""
    return float(part / whole) if whole else None


# -- arrays of nodes ---------------------------------------------------------------------------


def node_array(values: Any, what: str) -> IntArray:
    """Integers of any shape; refuses floats, such as logits."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise DataError(
            f"{what} holds {array.dtype}; pass integer node numbers: taxonomy.index(path) is that "
            "of a label."
        )
    return array.astype(np.int64)


def check_nodes(taxonomy: Taxonomy, nodes: IntArray, rows: IntArray, what: str) -> None:
    """Refuse numbers that are neither nodes nor -1, naming the first row."""
    bad = np.flatnonzero((nodes < -1) | (nodes >= len(taxonomy)))
    if len(bad):
        raise DataError(
            f"{what}: row {rows[bad[0]]} holds {nodes[bad[0]]}, which is no node of this taxonomy "
            f"(0 to {len(taxonomy) - 1}, -1 for none). Was it made with another taxonomy?"
        )


def same_length(count: int, expected: int) -> None:
    """Refuse inputs that are not of the same texts."""
    if count != expected:
        raise DataError(f"Got {count} rows where {expected} were expected: one per text.")


def sorted_contains(keys: IntArray, wanted: IntArray) -> npt.NDArray[np.bool_]:
    """Which of ``wanted`` are among the sorted ``keys``."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=bool)
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    found: npt.NDArray[np.bool_] = keys[at] == wanted
    return found


def _distinct(keys: IntArray) -> IntArray:
    """Sorted, each once; several times faster than the hashing of ``np.unique``."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
