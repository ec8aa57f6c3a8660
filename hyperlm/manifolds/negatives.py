"""False children and parents to train against: a true ancestor is never a negative.

In: the transitive closure as CSR arrays (``indices[indptr[n]:indptr[n + 1]]`` are the strict
ancestors of node ``n``, the root left out), as :class:`hyperlm.taxonomy.Taxonomy` gives it. Out:
node numbers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hyperlm.errors import OptionError

__all__ = ["NegativeSampler"]

_ROUNDS = 16  # of rejection, before the rest is drawn by listing what is allowed


class NegativeSampler:
    """Draws nodes that are unrelated to a parent (or a child) in the direction asked for.

    Args:
        ancestor_indptr: ``(N + 1,)``.
        ancestor_indices: ``(nnz,)`` strict ancestors, node by node.
        seed: Of the generator that draws.
    """

    def __init__(
        self, ancestor_indptr: ArrayLike, ancestor_indices: ArrayLike, *, seed: int = 0
    ) -> None:
        indptr = np.asarray(ancestor_indptr, dtype=np.int64)
        indices = np.asarray(ancestor_indices, dtype=np.int64)
        if indptr.ndim != 1 or len(indptr) < 2 or indptr[-1] != len(indices):
            raise OptionError(
                f"ancestor arrays do not fit: indptr {indptr.shape} ends at "
                f"{indptr[-1] if indptr.size else 'nothing'}, {len(indices)} indices. Pass "
                "taxonomy.ancestor_indptr and taxonomy.ancestor_indices."
            )
        self.num_nodes = len(indptr) - 1
        below = np.repeat(np.arange(self.num_nodes), np.diff(indptr))
        # One sorted key per (node, ancestor) pair: membership is a binary search.
        self._keys = np.sort(below * self.num_nodes + indices)
        self.reseed(seed)

    def reseed(self, seed: int | Sequence[int]) -> None:
        """Start the generator again, from ``seed``."""
        self._generator = np.random.default_rng(seed)

    def is_ancestor(self, ancestor: ArrayLike, node: ArrayLike) -> NDArray[np.bool_]:
        """Whether ``ancestor`` lies strictly above ``node``; arrays broadcast."""
        keys = np.asarray(node, dtype=np.int64) * self.num_nodes + np.asarray(ancestor)
        if not len(self._keys):
            return np.zeros(keys.shape, dtype=bool)
        at = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        found: NDArray[np.bool_] = self._keys[at] == keys
        return found

    def false_children(self, parents: ArrayLike, count: int) -> NDArray[np.int64]:
        """``(B,) -> (B, count)``: not the parent, nor below it; -1 where none exists."""
        return self._draw(np.asarray(parents, dtype=np.int64), count, child=True)

    def false_parents(self, children: ArrayLike, count: int) -> NDArray[np.int64]:
        """``(B,) -> (B, count)``: not the child, nor above it; -1 where none exists."""
        return self._draw(np.asarray(children, dtype=np.int64), count, child=False)

    def _related(
        self, fixed: NDArray[np.int64], drawn: NDArray[np.int64], child: bool
    ) -> NDArray[np.bool_]:
        ancestor, node = (fixed, drawn) if child else (drawn, fixed)
        return self.is_ancestor(ancestor, node) | (fixed == drawn)

    def _draw(self, fixed: NDArray[np.int64], count: int, child: bool) -> NDArray[np.int64]:
        if count < 1:
            raise OptionError(f"count = {count} negatives: at least 1 is needed.")
        if fixed.size and not 0 <= fixed.min() <= fixed.max() < self.num_nodes:
            raise OptionError(
                f"nodes {fixed.min()}..{fixed.max()} are outside 0..{self.num_nodes - 1}. "
                "The root is not a node: leave its pairs out."
            )
        rows = np.repeat(fixed[:, None], count, axis=1)  # (B, count)
        drawn = self._generator.integers(self.num_nodes, size=rows.shape)
        bad = self._related(rows, drawn, child)
        for _ in range(_ROUNDS):
            if not bad.any():
                return drawn
            drawn[bad] = self._generator.integers(self.num_nodes, size=int(bad.sum()))
            bad = self._related(rows, drawn, child)
        every = np.arange(self.num_nodes)
        for node in np.unique(rows[bad]):
            allowed = every[~self._related(np.full_like(every, node), every, child)]
            here = bad & (rows == node)
            if len(allowed):
                drawn[here] = self._generator.choice(allowed, size=int(here.sum()))
            else:
                drawn[here] = -1
        return drawn
