"""A label taxonomy: a rooted tree or DAG, as plain integer arrays.

In go paths, edges, graphs or files; out come read-only numpy arrays, with no torch.
The root is never a node: it is -1 wherever an integer is needed. Nodes are 0..N-1, numbered by
depth and then breadth-first, so that every level is a contiguous range and every parent has a
smaller number than its children. Depth counts edges from the root along the LONGEST path, so
top nodes have depth 1 and every edge goes strictly down, in a DAG too. Pairs are (child, parent).

What users give is checked in ``taxonomy_build``, the arrays are computed in ``taxonomy_graph``,
files and networkx graphs are handled in ``taxonomy_io``.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from hyperlm import taxonomy_graph as graphs
from hyperlm.errors import TaxonomyError
from hyperlm.taxonomy_build import (
    Parts,
    as_integers,
    check_names_distinct,
    checked_numbers,
    listed,
    parts_of_edges,
    parts_of_paths,
    refuse_cycle,
    refuse_unknown,
)
from hyperlm.taxonomy_graph import IntArray, frozen

if TYPE_CHECKING:
    import networkx

PATH_SEPARATOR = " > "


class Taxonomy:
    """A rooted tree or DAG of named labels; immutable, equal when the fingerprints are.

    Build one with ``from_paths``, ``from_edges``, ``from_networkx``, ``from_dict`` or ``read``.
    The constructor takes integers: ``edges`` (E, 2) are (child, parent) positions in ``names``,
    in any order; positions that are nobody's child lie under the root. Nodes are renumbered;
    siblings keep the order of ``names``. In a tree equal names may occur under different
    parents, in a DAG a name names one node.

    Attributes:
        title: What the taxonomy is called; no part of its identity.
        names: N names.
        depth: (N,) 1 for top nodes; in a DAG the longest path from the root.
        parent: (N,) -1 for top nodes; in a DAG the first-named parent of largest depth.
        edges: (E, 2) pairs (child, parent) without those from the root, sorted by child, and
            for each child ``parent`` first, then its other parents ascending.
        terminals: Sorted nodes where a path may end: all leaves, and the inner nodes given.
    Raises:
        TaxonomyError: No node, a bad or ambiguous name, a cycle.
    """

    title: str
    names: tuple[str, ...]
    depth: IntArray
    parent: IntArray
    edges: IntArray
    terminals: IntArray

    def __init__(
        self,
        names: Sequence[str],
        edges: Iterable[tuple[int, int]] | IntArray,
        terminals: Iterable[int] = (),
        *,
        name: str = "",
    ) -> None:
        pairs, ends = checked_numbers(Parts(names, edges, terminals))
        child, parent = pairs.T
        depth = graphs.longest_depth(child, parent, len(names))
        if not depth.all():
            refuse_cycle(names, graphs.find_cycle(depth, child, parent))
        main = graphs.main_parents(depth, child, parent)
        new = graphs.breadth_first(depth, main)

        old = np.argsort(new[:-1])
        set_once = self.__dict__  # past __setattr__, which refuses
        set_once["title"] = name
        set_once["names"] = tuple(str(names[i]) for i in old)
        set_once["depth"] = frozen(depth[old])
        set_once["parent"] = frozen(new[main[old]])
        child, parent = new[child], new[parent]
        order = np.lexsort((parent, parent != self.parent[child], child))
        set_once["edges"] = frozen(np.stack((child, parent), 1)[order])
        set_once["terminals"] = frozen(np.union1d(self.leaves, new[ends]))
        check_names_distinct(self.names, self.parent, is_tree=self.is_tree)

    # -- making one ------------------------------------------------------------------------

    @classmethod
    def from_paths(cls, paths: Iterable[Sequence[str]], *, name: str = "") -> Taxonomy:
        """The tree whose nodes are the prefixes of ``paths`` (root side first, without the root).

        Paths may repeat and may end at inner nodes, which thereby become terminals.
        """
        return cls(*parts_of_paths(paths), name=name)

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[tuple[str, str | None]],
        *,
        terminals: Iterable[str] = (),
        root: str | None = None,
        tree: bool = False,
        name: str = "",
    ) -> Taxonomy:
        """The DAG of (child, parent) names; every name is one node.

        A single name that is nobody's child is the root and no node; several become top nodes
        under an implicit root. An edge to the root is dropped where the child has another
        parent. Siblings keep the order in which they first occur as a child.

        Args:
            edges: Pairs of names; a parent None declares a name without giving it a parent.
            terminals: Names of inner nodes where a path may end; leaves need not be listed.
            root: Which name is the root; then everything must hang below it.
            tree: Refuse a child with two parents.
        """
        return cls(*parts_of_edges(edges, terminals, root=root, tree=tree), name=name)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Taxonomy:
        """The inverse of ``to_dict``."""
        if not isinstance(data, Mapping) or not {"names", "edges"} <= data.keys():
            got = listed([str(key) for key in data]) if isinstance(data, Mapping) else repr(data)
            raise TaxonomyError(
                "A taxonomy as a dict has the keys 'names' (list of str) and 'edges' (list of "
                "[child, parent] numbers), and may have 'inner_terminals' and 'name'; got "
                f"{got:.200}."
            )
        if isinstance(data["names"], str) or not isinstance(data["names"], Sequence):
            raise TaxonomyError(f"'names' must be a list of str, got {data['names']!r:.80}.")
        terminals = data.get("inner_terminals", ())
        return cls(data["names"], data["edges"], terminals, name=str(data.get("name", "")))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists that JSON can hold and ``from_dict`` reads back."""
        return {
            "name": self.title,
            "names": list(self.names),
            "edges": self.edges.tolist(),
            "inner_terminals": np.setdiff1d(self.terminals, self.leaves).tolist(),
        }

    @classmethod
    def from_networkx(cls, graph: networkx.DiGraph[Any]) -> Taxonomy:
        """From a directed graph with edges parent -> child; see ``taxonomy_io.from_networkx``."""
        from hyperlm.taxonomy_io import from_networkx

        return from_networkx(graph)

    def to_networkx(self) -> networkx.DiGraph[Any]:
        """A graph on the integers -1 (root)..N-1 with node attributes ``name``, ``terminal``."""
        from hyperlm.taxonomy_io import to_networkx

        return to_networkx(self)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Taxonomy:
        """From .json, .csv, .tsv, .yaml, .yml or .taxonomy, each also .gz; see ``taxonomy_io``."""
        from hyperlm.taxonomy_io import read

        return read(path)

    def write(self, path: str | PathLike[str]) -> None:
        """To a file that ``read`` turns into an equal taxonomy; JSON can hold every taxonomy.

        Raises:
            TaxonomyError: The format cannot express this taxonomy; the message says which can.
            OutputError: The file cannot be written.
        """
        from hyperlm.taxonomy_io import write

        write(self, path)

    def with_terminals(self, nodes: Iterable[int]) -> Taxonomy:
        """The same nodes where paths may end at the leaves and at ``nodes``, nowhere else."""
        return Taxonomy(self.names, self.edges, nodes, name=self.title)

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

    # -- identity --------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over names, edges and terminals; the title does not count."""
        content = [self.names, self.edges.tolist(), self.terminals.tolist()]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Taxonomy):
            return NotImplemented
        return self is other or self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        kind = "tree" if self.is_tree else "DAG"
        title = f"{self.title!r}: " if self.title else ""
        return (
            f"<Taxonomy {title}{kind} of {len(self)} nodes, {self.num_levels} levels, "
            f"{len(self.leaves)} leaves>"
        )

    def __setattr__(self, key: str, value: object) -> NoReturn:
        raise AttributeError(f"A Taxonomy is immutable; cannot set {key!r}. Build a new one.")

    def __delattr__(self, key: str) -> NoReturn:
        raise AttributeError(f"A Taxonomy is immutable; cannot delete {key!r}.")

    def __reduce__(self) -> tuple[Any, ...]:  # pickled numpy arrays would come back writeable
        return Taxonomy.from_dict, (self.to_dict(),)

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
