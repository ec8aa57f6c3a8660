"""Index arrays of a taxonomy's cuts and of the steps along its edges; numpy only.

A level is a *cut* through the taxonomy: the nodes of depth l, the terminals above them (a path that
has ended stays where it ended) and, in a DAG, the nodes where a path waits because its next edge
skips level l. Every root-to-terminal path has exactly one member in each of the L cuts.
``cuts.Cuts`` turns these arrays into tensors and computes with them.
"""

from typing import NamedTuple

import numpy as np

from hyperlm.taxonomy import Taxonomy
from hyperlm.taxonomy_graph import IntArray


class CutNodes(NamedTuple):
    """The nodes of one cut, increasing.

    Attributes:
        members: All of them.
        ended: Terminals of this depth: members of every deeper cut too.
        waiting: Higher nodes that are no terminals, where a path waits.
    """

    members: IntArray
    ended: IntArray
    waiting: IntArray


class StepsUp(NamedTuple):
    """Sums into parents: column ``source[i]`` goes to column ``first + to[i]`` of ``size``."""

    source: IntArray
    first: int
    to: IntArray
    size: int


def cut_nodes(taxonomy: Taxonomy) -> list[CutNodes]:
    """The L cuts, from the top down."""
    depth, (child, parent) = taxonomy.depth, taxonomy.edges.T
    is_terminal = np.isin(np.arange(len(taxonomy)), taxonomy.terminals)
    deepest_child = np.zeros_like(depth)
    np.maximum.at(deepest_child, parent, depth[child])
    cuts = []
    for level in range(1, taxonomy.num_levels + 1):
        here, above = depth == level, depth < level
        waits = above & (deepest_child > level)
        members = here | (above & is_terminal) | waits
        nodes = (members, here & is_terminal, waits & ~is_terminal)
        cuts.append(CutNodes(*map(np.flatnonzero, nodes)))
    return cuts


def members_of_paths(taxonomy: Taxonomy) -> IntArray:
    """``(N, L)`` the member in each cut of the path to a node along ``taxonomy.parent``.

    A terminal stays in the cuts below its own; below another node there is -1.
    """
    members = taxonomy.path_matrix.copy()
    ends = taxonomy.terminals
    members[ends] = np.where(members[ends] < 0, ends[:, None], members[ends])
    return members


def parent_tables(taxonomy: Taxonomy) -> list[IntArray]:
    """Of each level from the second, the parents of its nodes: ``(n_l, most parents)``.

    Padded with the main parent: a repeated candidate changes no maximum.
    """
    child, over = np.ascontiguousarray(taxonomy.edges.T)  # sorted by child, its main parent first
    slot = np.arange(len(child)) - np.searchsorted(child, child)
    tables = []
    for level in taxonomy.level_slices[1:]:
        rows = slice(*np.searchsorted(child, (level.start, level.stop)))
        table = np.repeat(taxonomy.parent[level, None], slot[rows].max() + 1, axis=1)
        table[child[rows] - level.start, slot[rows]] = over[rows]
        tables.append(table)
    return tables


def choices(taxonomy: Taxonomy) -> tuple[IntArray, IntArray]:
    """Every choice on the way down, and beside it the node chosen at: N for the root.

    The choices at a node are its children and, where an inner node is a terminal, itself: to stop.
    """
    (child, parent), tops, stops = taxonomy.edges.T, taxonomy.levels[0], inner_terminals(taxonomy)
    at_root = np.full(len(tops), len(taxonomy))
    return np.concatenate([child, tops, stops]), np.concatenate([parent, at_root, stops])


def inner_terminals(taxonomy: Taxonomy) -> IntArray:
    """Nodes with children where paths may end as well."""
    return np.setdiff1d(taxonomy.terminals, taxonomy.leaves)


def ancestor_keys(taxonomy: Taxonomy) -> IntArray:
    """``N * node + ancestor`` of every such pair of a DAG, increasing; of a tree nothing.

    A tree's paths say it themselves, and a deep tree has very many pairs.
    """
    if taxonomy.is_tree:
        return np.zeros(0, dtype=np.int64)
    below = np.repeat(np.arange(len(taxonomy)), np.diff(taxonomy.ancestor_indptr))
    return below * len(taxonomy) + taxonomy.ancestor_indices


def steps_up(taxonomy: Taxonomy) -> list[StepsUp]:
    """Sums to run one after the other, so that every node gets what the terminals below it hold."""
    if taxonomy.is_tree:
        levels, parent = taxonomy.level_slices, taxonomy.parent
        return [
            StepsUp(
                np.arange(below.start, below.stop),
                above.start,
                parent[below] - above.start,
                above.stop - above.start,
            )
            for above, below in zip(levels[-2::-1], levels[:0:-1], strict=True)
        ]
    # The closure at once: by levels, a terminal would count once per path to it.
    owner = np.repeat(np.arange(len(taxonomy)), np.diff(taxonomy.ancestor_indptr))
    keep = np.isin(owner, taxonomy.terminals)
    return [StepsUp(owner[keep], 0, taxonomy.ancestor_indices[keep], len(taxonomy))]
