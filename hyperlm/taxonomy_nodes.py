"""What can be asked of the nodes of a taxonomy: levels, relatives, names, paths, distances.

Nodes are 0..N-1 and the root is -1, numbered as ``taxonomy`` says; what is computed from the arrays
is computed when it is first asked for.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hyperlm import taxonomy_graph as graphs
from hyperlm.errors import TaxonomyError
from hyperlm.taxonomy_build import as_integers, listed, refuse_unknown
from hyperlm.taxonomy_graph import IntArray, frozen

__all__ = ["PATH_SEPARATOR", "TaxonomyNodes"]

PATH_SEPARATOR = " > "


class TaxonomyNodes:
    """The half of a :class:`~hyperlm.taxonomy.Taxonomy` that answers questions about its nodes.

    The attributes are described, and set, there.
    """

    names: tuple[str, ...]
    depth: IntArray
    parent: IntArray
    edges: IntArray
    terminals: IntArray

    # -- shape -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def is_tree(self) -> bool:
        """Whether no node has two parents."""
        return len(self.edges) == int((self.parent >= 0).sum())

    @property
    def num_levels(self) -> int:
        """L, the largest depth."""
        return int(self.depth[-1])

    @cached_property
    def level_slices(self) -> tuple[slice, ...]:
        """L slices of the nodes; item i holds depth i + 1."""
        bounds = np.searchsorted(self.depth, np.arange(1, self.num_levels + 2)).tolist()
        return tuple(slice(a, b) for a, b in pairwise(bounds))

    @cached_property
    def levels(self) -> tuple[IntArray, ...]:
        """L arrays of nodes; item i holds depth i + 1."""
        nodes = frozen(np.arange(len(self)))
        return tuple(nodes[s] for s in self.level_slices)

    @cached_property
    def leaves(self) -> IntArray:
        """Nodes without children, ascending."""
        return frozen(np.setdiff1d(np.arange(len(self)), self.edges[:, 1]))

    @cached_property
    def _parent_indptr(self) -> IntArray:
        return graphs.row_starts(self.edges[:, 0], len(self))

    @cached_property
    def _child_csr(self) -> tuple[IntArray, IntArray]:
        child, parent = self.edges.T
        order = np.argsort(parent, kind="stable")  # edges are sorted by child already
        return graphs.row_starts(parent, len(self)), frozen(child[order])

    def parents(self, node: int) -> IntArray:
        """Parents of a node, ``parent`` first; none for a top node."""
        node = self._checked(node)
        return self.edges[self._parent_indptr[node] : self._parent_indptr[node + 1], 1]

    def children(self, node: int) -> IntArray:
        """Children of a node, ascending; of -1 the top nodes."""
        if self._checked(node, root=True) < 0:
            return self.levels[0]
        indptr, indices = self._child_csr
        return indices[indptr[node] : indptr[node + 1]]

    def descendants(self, node: int) -> IntArray:
        """All nodes strictly below a node, ascending; of -1 all nodes."""
        if self._checked(node, root=True) < 0:
            return np.arange(len(self))
        below = [self.children(node)]
        while below[-1].size:
            below.append(np.unique(graphs.take_rows(*self._child_csr, below[-1])))
        return np.unique(np.concatenate(below))  # in a DAG a node can be met at several distances

    def ancestors(self, node: int) -> IntArray:
        """All nodes strictly above a node, ascending, without the root."""
        if self._checked(node, root=True) < 0 or self.is_tree:
            return self.path_nodes(node)[:-1]
        return self.ancestor_indices[self.ancestor_indptr[node] : self.ancestor_indptr[node + 1]]

    @property
    def ancestor_indptr(self) -> IntArray:
        """(N + 1,) row starts in ``ancestor_indices``: sparse rows (CSR), never N x N."""
        return self._closure.indptr

    @property
    def ancestor_indices(self) -> IntArray:
        """Strict ancestors of node 0, of node 1, ...; ascending in each row."""
        return self._closure.indices

    def at_or_above(self, nodes: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """All pairs ``(i, a)`` where ``a`` is ``nodes[i]`` or an ancestor of it; -1 has none."""
        given = np.asarray(nodes, dtype=np.int64)
        rows = np.flatnonzero(given >= 0)
        ends = given[rows]
        start = self.ancestor_indptr
        many = (start[ends + 1] - start[ends]).astype(np.int64)
        repeated = np.repeat(np.arange(len(rows)), many)
        place = np.arange(len(repeated)) - np.repeat(np.cumsum(many) - many, many)
        above = self.ancestor_indices[start[ends][repeated] + place]
        row = np.concatenate([rows, rows[repeated]]).astype(np.int64)
        return row, np.concatenate([ends, above]).astype(np.int64)

    @cached_property
    def _closure(self) -> graphs.Closure:
        return graphs.ancestor_closure(self._parent_indptr, self.edges, self.level_slices)

    # -- names and paths -------------------------------------------------------------------

    def name(self, node: int) -> str:
        """The node's own name."""
        return self.names[self._checked(node)]

    def path_nodes(self, node: int) -> IntArray:
        """Nodes from the top down to ``node`` along ``parent``; (depth,), empty for -1."""
        steps = []
        node = self._checked(node, root=True)
        while node >= 0:
            steps.append(node)
            node = int(self.parent[node])
        return np.array(steps[::-1], np.int64)

    def path(self, node: int) -> tuple[str, ...]:
        """Names from the top down to ``node`` along ``parent``; () for -1."""
        return tuple(self.names[n] for n in self.path_nodes(node))

    @cached_property
    def path_matrix(self) -> IntArray:
        """(N, L) row n is ``path_nodes(n)``, then -1."""
        matrix = np.full((len(self), self.num_levels), -1, np.int64)
        for i, level in enumerate(self.level_slices):
            if i:
                matrix[level, :i] = matrix[self.parent[level], :i]
            matrix[level, i] = self.levels[i]
        return frozen(matrix)

    @cached_property
    def _nodes_named(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for node, label in enumerate(self.names):
            found[label].append(node)
        return dict(found)

    @cached_property
    def _child_named(self) -> dict[tuple[int, str], int]:
        pairs = self.edges.tolist() + [[int(n), -1] for n in self.levels[0]]
        return {(parent, self.names[child]): child for child, parent in pairs}

    def index(self, name_or_path: str | Sequence[str]) -> int:
        """The node of a name, or of a path of names from the top down.

        A string that is no name is tried as a path, ``"a > b > c"``, as messages show them.

        Raises:
            TaxonomyError: Unknown (with close matches), or a name that several nodes have.
        """
        if isinstance(name_or_path, str):
            found = self._nodes_named.get(name_or_path, [])
            if len(found) > 1:
                paths = [PATH_SEPARATOR.join(self.path(n)) for n in found]
                raise TaxonomyError(
                    f"{name_or_path!r} names {len(found)} nodes: {listed(paths)}. Give the path."
                )
            if found:
                return found[0]
            if PATH_SEPARATOR not in name_or_path:
                refuse_unknown(name_or_path, list(self._nodes_named), "name")
            name_or_path = name_or_path.split(PATH_SEPARATOR)
        node = -1
        for part in name_or_path:
            step = self._child_named.get((node, part))
            if step is None:
                whole = PATH_SEPARATOR.join(map(str, name_or_path))
                above = PATH_SEPARATOR.join(self.path(node)) or "the root"
                siblings = [self.names[n] for n in self.children(node)]
                refuse_unknown(part, siblings, f"path {whole!r}: below {above!r}")
            node = step
        if node < 0:
            raise TaxonomyError("The empty path is the root, which is no node.")
        return node

    # -- pairs of nodes --------------------------------------------------------------------

    def lca(self, a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
        """Lowest common ancestor, where a node counts as its own; -1 is the root.

        In a DAG the deepest of the common ancestors, the largest number where several are.

        Args:
            a, b: Nodes or -1; arrays broadcast.
        """
        a, b = self._pair(a, b)
        if self.is_tree:
            return graphs.tree_lca(a, b, self.depth, self.parent)
        return graphs.common_ancestors(a, b, self._closure, self._hops_to_root)[0]

    def distance(self, a: npt.ArrayLike, b: npt.ArrayLike) -> IntArray:
        """Edges up from ``a`` to a common ancestor and down to ``b``, the fewest there are.

        The root counts as a common ancestor, with an edge to every top node.

        Args:
            a, b: Nodes or -1; arrays broadcast.
        """
        a, b = self._pair(a, b)
        if not self.is_tree:
            return graphs.common_ancestors(a, b, self._closure, self._hops_to_root)[1]
        depth = np.append(self.depth, 0)  # entry -1: the root
        hops: IntArray = depth[a] + depth[b] - 2 * depth[self.lca(a, b)]
        return hops

    @cached_property
    def _hops_to_root(self) -> IntArray:
        return graphs.hops_to_root(self.depth, self._closure)

    # -- checks ----------------------------------------------------------------------------

    def _checked(self, node: int, *, root: bool = False) -> int:
        if not -int(root) <= node < len(self):
            raise TaxonomyError(
                f"{node} is no node: nodes are 0 to {len(self) - 1}"
                + (", and -1 is the root." if root else "; the root (-1) is not allowed here.")
            )
        return operator.index(node)

    def _pair(self, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        pair = np.broadcast_arrays(as_integers(a, "a"), as_integers(b, "b"))
        for nodes in pair:
            if nodes.size:
                self._checked(int(nodes.min()), root=True)
                self._checked(int(nodes.max()), root=True)
        return pair[0], pair[1]
