"""A label taxonomy: a rooted tree or DAG, as plain integer arrays.

In go paths, edges, graphs or files; out come read-only numpy arrays, with no torch.
The root is never a node: it is -1 wherever an integer is needed. Nodes are 0..N-1, numbered by
depth and then breadth-first, so that every level is a contiguous range and every parent has a
smaller number than its children. Depth counts edges from the root along the LONGEST path, so
top nodes have depth 1 and every edge goes strictly down, in a DAG too. Pairs are (child, parent).

Here a taxonomy is made and compared; what can be asked of its nodes stands in ``taxonomy_nodes``.
What users give is checked in ``taxonomy_build``, the arrays are computed in ``taxonomy_graph``,
files and networkx graphs are handled in ``taxonomy_io``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hyperlm import taxonomy_graph as graphs
from hyperlm.errors import TaxonomyError
from hyperlm.taxonomy_build import (
    Parts,
    check_names_distinct,
    checked_numbers,
    listed,
    parts_of_edges,
    parts_of_paths,
    refuse_cycle,
)
from hyperlm.taxonomy_graph import IntArray, frozen
from hyperlm.taxonomy_nodes import PATH_SEPARATOR, TaxonomyNodes

if TYPE_CHECKING:
    import networkx

__all__ = ["PATH_SEPARATOR", "Taxonomy"]


class Taxonomy(TaxonomyNodes):
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

    # -- identity --------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over names, edges and terminals; the title does not count."""
        content = [self.names, self.edges.tolist(), self.terminals.tolist()]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def numbering(self) -> str:
        """SHA-256 (hex) over names and edges: without terminals, which number nothing."""
        content = [self.names, self.edges.tolist()]
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
