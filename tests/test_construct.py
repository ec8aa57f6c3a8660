"""Trees placed without training: edge lengths, separation, distortion and average precision."""

import math

import numpy as np
import pytest
import torch

from hyperlm.errors import OptionError
from hyperlm.manifolds import distortion, mean_average_precision, polar, sarkar
from hyperlm.manifolds.spread import spread_directions


class Tree:
    """A random tree, numbered level by level, with what the construction reads of a taxonomy."""

    def __init__(self, levels, widest, seed=0):
        generator = np.random.default_rng(seed)
        parent, depth = [-1] * 3, [1] * 3
        begin, self.level_slices = 0, [slice(0, 3)]
        for level in range(2, levels + 1):
            end = len(parent)
            for node in range(begin, end):
                count = int(generator.integers(1 if node == begin else 0, widest + 1))
                parent += [node] * count
                depth += [level] * count
            begin = end
            self.level_slices.append(slice(end, len(parent)))
        self.parent, self.depth = np.array(parent), np.array(depth)
        child = np.flatnonzero(self.parent >= 0)
        self.edges = np.stack([child, self.parent[child]], 1)

    def __len__(self):
        return len(self.parent)

    def distance(self, a, b):
        a, b = np.array(a), np.array(b)
        steps = np.zeros(len(a), dtype=int)
        depth = np.append(self.depth, 0)
        while (a != b).any():
            deeper = (a != b) & (depth[a] >= depth[b])
            other = (a != b) & ~deeper
            a = np.where(deeper, np.append(self.parent, -1)[a], a)
            b = np.where(other, np.append(self.parent, -1)[b], b)
            steps += deeper | other
        return steps


class Small:
    """Given edges, and the distance of a path."""

    def __init__(self, size, edges):
        self.size, self.edges = size, edges

    def __len__(self):
        return self.size

    def distance(self, a, b):
        return np.abs(a - b)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("dim", [2, 3, 5])
def test_every_edge_has_length_tau(dim, c):
    tree = Tree(5, 4)
    tau = 2.5 / c**0.5
    u = sarkar(tree, dim, tau, c=c)
    assert u.shape == (len(tree), dim)
    assert u.dtype == torch.float64
    top = tree.parent < 0
    torch.testing.assert_close(
        u[top].norm(dim=-1), torch.full((int(top.sum()),), tau, dtype=u.dtype)
    )
    length = polar.dist(u[~top], u[tree.parent[~top]], c)
    torch.testing.assert_close(length, torch.full_like(length, tau), rtol=1e-6, atol=0)


def test_same_seed_same_points():
    tree = Tree(4, 9)
    assert torch.equal(sarkar(tree, 4, 2.0, seed=1), sarkar(tree, 4, 2.0, seed=1))
    assert not torch.equal(sarkar(tree, 4, 2.0, seed=1), sarkar(tree, 4, 2.0, seed=2))


def test_points_scale_with_curvature():
    tree = Tree(4, 3)
    torch.testing.assert_close(sarkar(tree, 3, 1.0, c=4.0) * 2, sarkar(tree, 3, 2.0, c=1.0))


@pytest.mark.parametrize(("dim", "tau", "most"), [(2, 5.0, 0.06), (5, 3.0, 0.04), (10, 5.0, 0.015)])
def test_reconstruction_is_perfect_and_distortion_small(dim, tau, most):
    tree = Tree(6, 7)
    u = sarkar(tree, dim, tau)
    assert mean_average_precision(tree, u) == pytest.approx(1.0, abs=1e-3)
    assert distortion(tree, u, pairs=4000) <= most


def test_distortion_of_an_isometric_path_is_zero():
    path = Small(10, np.zeros((0, 2)))
    line = torch.zeros(10, 2, dtype=torch.float64)
    line[:, 0] = torch.arange(10, dtype=torch.float64) * 0.7
    assert distortion(path, line) == pytest.approx(0, abs=1e-12)
    with pytest.raises(OptionError, match="deeper taxonomy"):
        mean_average_precision(path, line)


def test_average_precision_of_a_case_worked_by_hand():
    # Points on a line at 0, 1, 3, 4; edges 0-1 and 0-3. From 0: ranks 1 and 3 -> (1 + 2/3)/2;
    # from 1: 0 is nearest -> 1; from 3: order 2, 1, 0 -> 1/3.
    tree = Small(4, np.array([[1, 0], [3, 0]]))
    line = torch.tensor([[0.0, 0], [1, 0], [3, 0], [4, 0]])
    assert mean_average_precision(tree, line) == pytest.approx((5 / 6 + 1 + 1 / 3) / 3)
    # All in one place: everyone ties, and ties count against.
    assert mean_average_precision(tree, torch.zeros(4, 2)) < 0.6


@pytest.mark.parametrize("parent", [False, True])
@pytest.mark.parametrize(
    ("count", "dim"), [(1, 2), (5, 2), (1, 4), (3, 4), (6, 3), (40, 5), (2000, 3)]
)
def test_directions_are_unit_vectors_and_spread(count, dim, parent):
    points = spread_directions(count, dim, away_from_parent=parent)
    assert points.shape == (count, dim)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-12)
    if parent:
        points = np.concatenate([-np.eye(dim)[:1], points])
    cos = points @ points.T
    np.fill_diagonal(cos, -1)
    if len(points) <= dim + 1 and dim > 2 and len(points) > 1:
        assert cos.max() == pytest.approx(-1 / (len(points) - 1))  # a simplex
    elif dim == 2 and len(points) > 1:
        assert math.acos(min(1, cos.max())) == pytest.approx(2 * math.pi / len(points))
    elif count == 6:
        # Thomson's problem for 6 (octahedron, 90 degrees) and 7 points (best known 77.87).
        assert math.degrees(math.acos(cos.max())) > (70 if parent else 89)


def test_wrong_arguments_are_explained():
    tree = Tree(3, 2)
    with pytest.raises(OptionError, match="dim = 1"):
        sarkar(tree, 1, 1.0)
    with pytest.raises(OptionError, match="positive"):
        sarkar(tree, 2, 0.0)
    with pytest.raises(OptionError, match="one row per"):
        distortion(tree, torch.zeros(2, 2))
    with pytest.warns(UserWarning, match="float64 keeps siblings apart"):
        sarkar(tree, 2, 30.0)
