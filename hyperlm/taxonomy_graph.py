"""The array machinery behind ``Taxonomy``: depth, numbering, ancestors, pairs of nodes.

Plain functions over integer arrays. Edges are two arrays ``child`` and ``parent``, ``(E,)`` each;
-1 is the root. Sparse rows (CSR) are a pair: row i is ``indices[indptr[i] : indptr[i + 1]]``.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
_PAIRS_AT_ONCE = 1 << 16  # bounds the memory of common_ancestors()


def frozen(array: IntArray) -> IntArray:
    """A contiguous, read-only int64 array."""
    array = np.ascontiguousarray(array, np.int64)
    array.setflags(write=False)
    return array


def row_starts(rows: IntArray, count: int) -> IntArray:
    """``indptr`` of ``count`` rows from the row of every entry, ``(count + 1,)``."""
    return frozen(np.append(0, np.cumsum(np.bincount(rows, minlength=count))))


def take_rows(indptr: IntArray, indices: IntArray, rows: IntArray) -> IntArray:
    """The sparse rows ``rows``, one after the other."""
    sizes = indptr[rows + 1] - indptr[rows]
    shift = np.repeat(indptr[rows] - (np.cumsum(sizes) - sizes), sizes)
    return indices[shift + np.arange(len(shift))]


# -- depth and numbers -------------------------------------------------------------------------


def longest_depth(child: IntArray, parent: IntArray, count: int) -> IntArray:
    """Longest path from the root, ``(count,)``, 1 at the top; 0 on a cycle and below one.

    Kahn's algorithm by levels: a node is reached when its last parent is.
    """
    waiting = np.bincount(child, minlength=count)
    indptr, indices = row_starts(parent, count), child[np.argsort(parent, kind="stable")]
    depth = np.zeros(count, np.int64)
    reached = np.flatnonzero(waiting == 0)
    level = 1
    while reached.size:
        depth[reached] = level
        level += 1
        below, times = np.unique(take_rows(indptr, indices, reached), return_counts=True)
        waiting[below] -= times
        reached = below[waiting[below] == 0]
    return depth


def find_cycle(depth: IntArray, child: IntArray, parent: IntArray) -> list[int]:
    """Nodes of one cycle, parents before children, where ``longest_depth`` left zeros."""
    # Each node that was not reached has such a parent: going up must come round.
    inside = (depth[child] == 0) & (depth[parent] == 0)
    up = dict(zip(child[inside].tolist(), parent[inside].tolist(), strict=True))
    node, walk = next(iter(up)), dict[int, None]()
    while node not in walk:
        walk[node] = None
        node = up[node]
    return list(walk)[list(walk).index(node) :][::-1]


def main_parents(depth: IntArray, child: IntArray, parent: IntArray) -> IntArray:
    """The first parent of each node that sits exactly one level up, ``(N,)``; -1 at the top."""
    one_up = depth[parent] == depth[child] - 1
    with_parent, first = np.unique(child[one_up], return_index=True)
    main = np.full(len(depth), -1, np.int64)
    main[with_parent] = parent[one_up][first]
    return main


def breadth_first(depth: IntArray, main: IntArray) -> IntArray:
    """(N + 1,) new numbers, by depth, then by the main parent, then as given; entry -1 is -1."""
    new = np.full(len(depth) + 1, -1, np.int64)
    by_level = np.argsort(depth, kind="stable")
    bounds = np.cumsum(np.bincount(depth)).tolist()
    for start, stop in pairwise(bounds):
        nodes = by_level[start:stop]
        new[nodes[np.argsort(new[main[nodes]], kind="stable")]] = np.arange(start, stop)
    return new


# -- ancestors ---------------------------------------------------------------------------------


class Closure(NamedTuple):
    """Strict ancestors of every node as sparse rows, never N x N.

    Attributes:
        indptr: ``(N + 1,)`` row starts.
        indices: Ancestors of node 0, of node 1, ...; ascending in each row, without the root.
        hops: The fewest edges up to each of them.
    """

    indptr: IntArray
    indices: IntArray
    hops: IntArray


def ancestor_closure(
    parent_indptr: IntArray, edges: IntArray, level_slices: tuple[slice, ...]
) -> Closure:
    """All ancestors, level by level: the parents and what lies above these.

    Args:
        parent_indptr: Where each child starts in ``edges``.
        edges: ``(E, 2)`` pairs (child, parent), sorted by child.
        level_slices: The nodes of each depth.
    """
    count = len(parent_indptr) - 1
    indptr = np.zeros(count + 1, np.int64)
    found = np.empty((2, 2 * count), np.int64)  # ancestors; edges up to them
    for level in level_slices[1:]:
        rows = slice(parent_indptr[level.start], parent_indptr[level.stop])
        child, parent = edges[rows].T
        sizes = indptr[parent + 1] - indptr[parent]
        owner = np.concatenate((child, np.repeat(child, sizes)))
        above = np.concatenate((parent, take_rows(indptr, found[0], parent)))
        hops = np.concatenate((np.ones_like(parent), take_rows(indptr, found[1], parent) + 1))
        order = np.lexsort((hops, above, owner))
        owner, above, hops = owner[order], above[order], hops[order]
        new = np.append(True, (owner[1:] != owner[:-1]) | (above[1:] != above[:-1]))
        start = int(indptr[level.start])
        stop = start + int(new.sum())
        if stop > found.shape[1]:  # grow by doubling, so that the copies stay linear
            found = np.concatenate((found, np.empty((2, stop), np.int64)), axis=1)
        found[:, start:stop] = above[new], hops[new]
        sizes = np.bincount(owner[new] - level.start, minlength=level.stop - level.start)
        indptr[level.start + 1 : level.stop + 1] = start + np.cumsum(sizes)
    found = found[:, : indptr[-1]].copy()
    return Closure(frozen(indptr), frozen(found[0]), frozen(found[1]))


def hops_to_root(depth: IntArray, closure: Closure) -> IntArray:
    """(N + 1,) fewest edges up to the root, in a DAG sometimes less than ``depth``; -1 has 0."""
    fewest = np.append(depth, 0)
    owner = np.repeat(np.arange(len(depth)), np.diff(closure.indptr))
    top = depth[closure.indices] == 1
    np.minimum.at(fewest, owner[top], closure.hops[top] + 1)
    return fewest


# -- pairs of nodes: arrays of one shape, -1 for the root ----------------------------------------


def tree_lca(a: IntArray, b: IntArray, depth: IntArray, parent: IntArray) -> IntArray:
    """Lowest common ancestors in a tree: the deeper of the two goes up until they meet."""
    x, y = a.ravel().copy(), b.ravel().copy()
    parent, depth = np.append(parent, -1), np.append(depth, 0)  # entry -1: the root
    active = np.flatnonzero(x != y)
    while active.size:
        u, v = x[active], y[active]
        x[active] = np.where(depth[u] >= depth[v], parent[u], u)
        y[active] = np.where(depth[v] >= depth[u], parent[v], v)
        active = active[x[active] != y[active]]
    return x.reshape(a.shape)[()]


def common_ancestors(
    a: IntArray, b: IntArray, closure: Closure, to_root: IntArray
) -> tuple[IntArray, IntArray]:
    """For every pair the last common ancestor, and the fewest edges from a to b over any of them.

    Args:
        to_root: From ``hops_to_root``.
    """
    x, y, count = a.ravel(), b.ravel(), len(to_root)
    lca, hops = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    for start in range(0, len(x), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        keys_x, hops_x = _upward(x[part], closure, to_root)
        keys_y, hops_y = _upward(y[part], closure, to_root)
        keys, at_x, at_y = np.intersect1d(keys_x, keys_y, True, return_indices=True)
        pair, above = np.divmod(keys, count)
        first = np.flatnonzero(np.append(True, pair[1:] != pair[:-1]))
        lca[part] = above[np.append(first[1:], len(keys)) - 1] - 1  # keys ascend with depth
        hops[part] = np.minimum.reduceat(hops_x[at_x] + hops_y[at_y], first)
    return lca.reshape(a.shape)[()], hops.reshape(a.shape)[()]


def _upward(nodes: IntArray, closure: Closure, to_root: IntArray) -> tuple[IntArray, IntArray]:
    """Keys (position, ancestor + 1) and edges up to it, of ancestors, self and root."""
    indptr, indices, hops = closure
    inner = np.flatnonzero(nodes >= 0)
    rows = nodes[inner]
    base = np.arange(len(nodes)) * len(to_root)
    owner = np.repeat(base[inner], indptr[rows + 1] - indptr[rows])
    keys = (base, base[inner] + rows + 1, owner + take_rows(indptr, indices, rows) + 1)
    edges_up = (to_root[nodes], np.zeros_like(rows), take_rows(indptr, hops, rows))
    return np.concatenate(keys), np.concatenate(edges_up)
