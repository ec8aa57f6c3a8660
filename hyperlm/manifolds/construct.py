"""A tree placed in hyperbolic space without training.

In: a taxonomy (anything with ``parent``, ``level_slices``, ``len``; a DAG also says so with
``is_tree``). Out: tangent vectors at the origin. Sources: Sarkar 2011 (the plane), Sala et al.
2018, arXiv 1804.03329 (d dimensions). The root sits at the origin; each node's children lie around
it at distance ``tau``, along directions that are spread out on the sphere, one member of the set
turned towards the parent. Everything in polar form and one level at a time.

A DAG is laid out along a spanning tree, see ``spanning_parents``: each edge of that tree has length
``tau``, the other edges have whatever length results; :mod:`hyperlm.manifolds.refinement` then
moves the points towards the distances of the whole DAG.
"""

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperlm.errors import HyperlmWarning, OptionError
from hyperlm.manifolds.spread import spread_directions

__all__ = ["sarkar", "spanning_parents"]


def sarkar(taxonomy: Any, dim: int, tau: float, *, c: float = 1.0, seed: int = 0) -> Tensor:
    """Points for every node of a tree such that distances are nearly ``tau`` times tree distances.

    Larger ``tau`` or ``dim`` means less distortion. The largest radius is about ``tau`` times the
    depth; directions of siblings differ by ``exp(-sqrt(c) radius)``, which float64 holds to a
    scaled radius of 34 and float32 to 16. Beyond 34 siblings begin to coincide, and a warning says
    so.

    Args:
        taxonomy: Nodes numbered level by level (:class:`hyperlm.taxonomy.Taxonomy`).
        dim: Dimension of the space, at least 2.
        tau: Length of an edge, a Riemannian length.
        c: Positive; curvature is ``-c``.
        seed: Of the spread directions.
    Returns:
        ``(N, dim)`` float64, tangent vectors at the origin in Riemannian length. The root, at the
        origin, is not among them.
    Raises:
        OptionError: ``dim`` below 2, ``tau`` or ``c`` not positive.
    """
    if dim < 2:
        raise OptionError(f"dim = {dim}: a tree needs at least 2 dimensions.")
    if not (tau > 0 and c > 0):
        raise OptionError(f"tau = {tau} and c = {c} must both be positive.")
    s = math.sqrt(c)
    parent = spanning_parents(taxonomy)
    levels = _levels(parent)
    if s * tau * len(levels) > 36:
        warnings.warn(
            f"sarkar: {len(levels)} levels at tau = {tau:g} reach radius {tau * len(levels):.0f}; "
            f"float64 keeps siblings apart only to {34 / s:.0f}. "
            f"Use tau <= {34 / s / len(levels):.2g}.",
            HyperlmWarning,
            stacklevel=2,
        )
    rank, siblings = _sibling_ranks(parent)
    radius = np.zeros(len(parent))  # scaled by s
    direction = np.zeros((len(parent), dim))
    tables = _tables(siblings, parent, dim, seed)
    step = s * tau
    for nodes in levels:
        local = tables[0][tables[1][nodes] + rank[nodes]]  # (n, d), first axis points outward
        top = parent[nodes] < 0
        radius[nodes[top]] = step
        direction[nodes[top]] = local[top]
        nodes, local = nodes[~top], local[~top]
        above = parent[nodes]
        radius[nodes], direction[nodes] = _place(radius[above], direction[above], local, step)
    return torch.from_numpy(direction * (radius / s)[:, None])


def spanning_parents(taxonomy: Any) -> NDArray[np.int64]:
    """The parent of each node along which a construction lays it out, ``(N,)``; -1 for top nodes.

    In a tree its only one. In a DAG the parent nearest the root, so that the spanning tree keeps
    the fewest edges from the root to every node; of several the one with the most descendants, the
    largest number among equals. Measured against the deepest parent in ``docs/geometry.md``.
    """
    parent = np.array(taxonomy.parent, dtype=np.int64)
    if getattr(taxonomy, "is_tree", True):
        return parent
    child, above = np.asarray(taxonomy.edges, dtype=np.int64).T
    hops = np.asarray(taxonomy.distance(np.arange(len(parent)), -1))
    below = np.bincount(taxonomy.ancestor_indices, minlength=len(parent))
    # Written in this order, the best parent of each child comes last and stays.
    order = np.lexsort((above, below[above], -hops[above], child))
    parent[child[order]] = above[order]
    return parent


def _levels(parent: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Nodes by their depth in the tree; parents have smaller numbers than their children."""
    depth = np.ones_like(parent)
    waiting = np.flatnonzero(parent >= 0)
    while waiting.size:  # each pass settles at least one level
        deeper = depth[parent[waiting]] + 1
        changed = deeper > depth[waiting]
        depth[waiting[changed]] = deeper[changed]
        waiting = waiting[changed]
    order = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[order], np.arange(2, depth.max(initial=0) + 1))
    return np.split(order, bounds)


def _place(
    a: NDArray[np.float64], p: NDArray[np.float64], local: NDArray[np.float64], step: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radius and direction of the point at distance ``step`` from ``(a, p)`` towards ``local``."""
    cos = local[:, 0]
    # Reflect the first axis onto p; what was across it becomes the direction across p.
    across = local.copy()
    across[:, 0] = 0
    mirror = -p.copy()
    mirror[:, 0] += 1
    square = (mirror * mirror).sum(1)
    scale = 2 * (mirror * across).sum(1) / np.where(square > 0, square, 1)
    across -= scale[:, None] * mirror
    sin = np.linalg.norm(across, axis=1)
    across /= np.where(sin > 0, sin, 1)[:, None]
    turn = 1 + cos
    # cosh b = cosh a cosh step + sinh a sinh step cos, in half-angle form.
    half = np.sinh((a - step) / 2) ** 2 + np.sinh(a) * math.sinh(step) * turn / 2
    b = 2 * np.arcsinh(np.sqrt(half))
    angle = np.arctan2(
        math.sinh(step) * sin, np.sinh(a - step) + math.sinh(step) * np.cosh(a) * turn
    )
    q = np.cos(angle)[:, None] * p + np.sin(angle)[:, None] * across
    return b, q / np.linalg.norm(q, axis=1, keepdims=True)


def _sibling_ranks(parent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each node's position among its siblings, and how many they are, itself included."""
    order = np.argsort(parent, kind="stable")
    ordered = parent[order]
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right")
    rank, count = np.empty_like(parent), np.empty_like(parent)
    rank[order] = np.arange(len(parent)) - first
    count[order] = last - first
    return rank, count


def _tables(
    siblings: NDArray[np.int64], parent: NDArray[np.int64], dim: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All direction sets in one array, and where each node's set begins.

    Below the root the set has one member more: the first axis reversed, where the parent is.
    """
    top = parent < 0
    pieces, begin, start = [], np.zeros(len(parent), dtype=np.int64), 0
    for is_top in (True, False):
        mine = top == is_top
        for count in np.unique(siblings[mine]).tolist():
            pieces.append(spread_directions(count, dim, away_from_parent=not is_top, seed=seed))
            begin[mine & (siblings == count)] = start
            start += count
    return np.concatenate(pieces) if pieces else np.zeros((0, dim)), begin
