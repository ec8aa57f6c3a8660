"""A start for trained points: the construction of Sarkar with steps that follow subtree sizes.

In: a taxonomy. Out: tangent vectors at the origin, ``c = 1``. :func:`hyperlm.manifolds.sarkar`
gives every edge one length, for tree distances. To rank ancestors first, room must go where the
nodes are: an edge is as long as the logarithm of how much smaller the child's subtree is, so that
chains cost little and wide families spread; leaves stand further out by ``LEAF``, whereby every
inner node is nearer to a leaf than other leaves are. ``flat_tree`` is the layout of the control.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds.spread import spread_directions
from hyperlm.taxonomy import Taxonomy

__all__ = ["flat_tree", "sized_tree"]

SCALE, LEAST, LEAF = 4.0, 0.2, 8.0
INNER_RADIUS = 12.0  # inner nodes keep within it
RADIUS = 20.0  # and leaves within this one, where training stops points


def sized_tree(
    taxonomy: Taxonomy, dim: int, *, spacing: float = 1.0, leaf: float = LEAF, seed: int = 0
) -> Tensor:
    """Points whose distance from the parent grows with ``log(size of parent / size of child)``.

    A DAG is laid out along ``taxonomy.parent``.

    Args:
        dim: Dimension, at least 2.
        spacing: Factor on all steps.
        leaf: How much further leaves stand from their parents.
        seed: Of the spread directions.
    Returns:
        ``(N, dim)`` float64 tangent vectors at the origin, for ``c = 1``.
    """
    if dim < 2:
        raise OptionError(f"dim = {dim}: a tree needs at least 2 dimensions.")
    parent, count = taxonomy.parent, len(taxonomy)
    size = _sizes(taxonomy)
    step = spacing * (LEAST + SCALE * np.log(size[parent] / size[:-1]) / (dim - 1))
    is_leaf = np.zeros(count, dtype=bool)
    is_leaf[taxonomy.leaves] = True
    reach = np.zeros(count + 1)
    for level in taxonomy.level_slices:
        reach[:-1][level] = reach[parent[level]] + step[level]
    inner = reach[:-1][~is_leaf].max(initial=0.0)
    step *= min(1.0, INNER_RADIUS / inner) if inner > 0 else 1.0
    reach *= step[0] / reach[0]  # as the steps were shortened
    step[is_leaf] = np.minimum(step + leaf, RADIUS - reach[parent])[is_leaf]

    local = _directions(parent, dim, seed)
    radius, direction = np.zeros(count), np.zeros((count, dim))
    for level in taxonomy.level_slices:
        nodes = np.arange(count)[level]
        top = parent[nodes] < 0
        radius[nodes[top]], direction[nodes[top]] = step[nodes[top]], local[nodes[top]]
        nodes = nodes[~top]
        above = parent[nodes]
        radius[nodes], direction[nodes] = _move(
            radius[above], direction[above], local[nodes], step[nodes]
        )
    return torch.from_numpy(direction * radius[:, None])


def flat_tree(taxonomy: Taxonomy, dim: int, *, seed: int = 0) -> Tensor:
    """A layout for flat space: children around their parent, where their subtrees have room.

    As much room as there are nodes: the distance of the children is the ``dim``-th root of the size
    of the parent's subtree. A DAG is laid out along ``taxonomy.parent``.

    Args:
        dim: Dimension, at least 2.
        seed: Of the spread directions.
    Returns:
        ``(N, dim)`` float64 points of flat space, the root at the origin.
    """
    if dim < 2:
        raise OptionError(f"dim = {dim}: a tree needs at least 2 dimensions.")
    parent, local = taxonomy.parent, _directions(taxonomy.parent, dim, seed)
    step = _sizes(taxonomy)[parent, None] ** (1 / dim)
    points = np.zeros((len(taxonomy) + 1, dim))
    for level in taxonomy.level_slices:
        points[:-1][level] = points[parent[level]] + step[level] * local[level]
    return torch.from_numpy(points[:-1])


def _sizes(taxonomy: Taxonomy) -> NDArray[np.float64]:
    """Nodes at or below each node; the last entry is the root's."""
    size = np.ones(len(taxonomy) + 1)
    for level in taxonomy.level_slices[::-1]:
        np.add.at(size, taxonomy.parent[level], size[:-1][level])
    return size


def _directions(parent: NDArray[np.int64], dim: int, seed: int) -> NDArray[np.float64]:
    """A direction for each node among its siblings; the first axis points away from the root."""
    order = np.argsort(parent, kind="stable")
    _, first, count = np.unique(parent[order], return_index=True, return_counts=True)
    local = np.zeros((len(parent), dim))
    top = parent[order[first]] < 0
    for size in np.unique(count).tolist():
        for is_top in (True, False):
            begin = first[(count == size) & (top == is_top)]
            if len(begin):
                spread = spread_directions(size, dim, away_from_parent=not is_top, seed=seed)
                local[order[begin[:, None] + np.arange(size)]] = spread
    return local


def _move(
    a: NDArray[np.float64],
    p: NDArray[np.float64],
    local: NDArray[np.float64],
    step: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radius and direction after ``step`` from the point ``(a, p)`` towards ``local``."""
    # The reflection that takes the first axis to p takes local to a direction at p.
    mirror = -p.copy()
    mirror[:, 0] += 1
    square = (mirror * mirror).sum(1)
    turned = 2 * (mirror * local).sum(1) / np.where(square > 0, square, 1)
    heading = local - turned[:, None] * mirror
    cos = local[:, 0]
    across = heading - cos[:, None] * p
    sin = np.linalg.norm(across, axis=1)
    across /= np.where(sin > 0, sin, 1)[:, None]
    # cosh b = cosh a cosh step + sinh a sinh step cos, in half-angle form.
    open_ = 1 + cos
    half = np.sinh((a - step) / 2) ** 2 + np.sinh(a) * np.sinh(step) * open_ / 2
    b = 2 * np.arcsinh(np.sqrt(half))
    ahead = np.sinh(a - step) + np.sinh(step) * np.cosh(a) * open_
    angle = np.arctan2(np.sinh(step) * sin, ahead)
    q = np.cos(angle)[:, None] * p + np.sin(angle)[:, None] * across
    return b, q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), math.ulp(0.0))
