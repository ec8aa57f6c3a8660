"""Arcs are geodesics, layouts keep their promises, colours can be told apart."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from viz_trees import random_tree

from hyperlm.data import load_data
from hyperlm.errors import OffManifoldError
from hyperlm.manifolds import PoincareBall, polar, sarkar
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz import (
    picture_quality,
    tree_layout,
)
from hyperlm.viz.disk import arc_circles, circle_arc, geodesic_paths, to_disk
from hyperlm.viz.palette import DARK, LIGHT, MARKERS, class_style

FIVE = Taxonomy.from_paths([("$x_1$", "a" * 500), ("$x_1$", "</script>"), ("b", "c\nd\t\x07")])


@pytest.fixture(scope="module")
def demo():
    return load_data("demo").taxonomy


def in_disk(count, seed, largest=0.99):
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * math.pi, count), largest * np.sqrt(rng.random(count))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


# -- geodesics --------------------------------------------------------------------------------


def sampled(path, per_piece=16):
    """Points along a path of lines and cubic Bezier curves."""
    if path.codes[1] == path.LINETO:
        s = np.linspace(0, 1, per_piece)[:, None]
        return path.vertices[0] * (1 - s) + path.vertices[1] * s
    s = np.linspace(0, 1, per_piece)[:, None]
    pieces = []
    for k in range(0, len(path.vertices) - 1, 3):
        p0, p1, p2, p3 = path.vertices[k : k + 4]
        pieces.append(
            (1 - s) ** 3 * p0 + 3 * (1 - s) ** 2 * s * p1 + 3 * (1 - s) * s**2 * p2 + s**3 * p3
        )
    return np.concatenate(pieces)


def test_every_point_of_an_arc_lies_between_its_ends():
    # d(a, x) + d(x, b) = d(a, b) on a geodesic and nowhere else.
    a, b = in_disk(60, 0, 0.95), in_disk(60, 1, 0.95)
    ball = PoincareBall(c=1.0)
    for p, q, path in zip(a, b, geodesic_paths(a, b), strict=True):
        np.testing.assert_array_equal(path.vertices[0], p)
        np.testing.assert_array_equal(path.vertices[-1], q)
        x = torch.from_numpy(sampled(path))
        p, q = torch.from_numpy(p), torch.from_numpy(q)
        around = ball.dist(p, x) + ball.dist(x, q)
        torch.testing.assert_close(around, ball.dist(p, q).expand_as(around), rtol=1e-4, atol=1e-5)


def test_the_circle_of_an_arc_meets_the_boundary_at_right_angles():
    centre, radius = arc_circles(in_disk(200, 2), in_disk(200, 3))
    # |centre|^2 = 1 + radius^2: a right triangle of centre, origin and a common point.
    np.testing.assert_allclose((centre**2).sum(1), 1 + radius**2, rtol=1e-9)
    a = in_disk(200, 2)
    np.testing.assert_allclose(np.linalg.norm(a - centre, axis=1), radius, rtol=1e-6)


@pytest.mark.parametrize("end", [(0.5, 0.25), (-0.6, -0.3), (1e-12, 5e-13)])
def test_through_the_origin_an_arc_is_straight(end):
    (path,) = geodesic_paths(np.array([[0.2, 0.1]]), np.array([end]))
    points = sampled(path)
    assert np.abs(points[:, 0] - 2 * points[:, 1]).max() < 1e-6


def test_between_points_of_the_boundary_and_from_a_point_to_itself():
    rim = np.array([[1.0, 0.0], [0.0, 1.0]])
    path, same = geodesic_paths(rim, np.array([[0.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_allclose(np.linalg.norm(sampled(path) - (1, 1), axis=1), 1, atol=1e-5)
    assert np.isfinite(same.vertices).all()


def test_points_outside_the_disk_are_refused():
    inside = np.zeros((2, 2))
    for bad in ([[0.0, 0.0], [1.1, 0.0]], [[0.0, 0.0], [np.nan, 0.0]]):
        with pytest.raises(OffManifoldError, match="1 of 2 points lie outside"):
            geodesic_paths(inside, np.array(bad))


@given(st.floats(-7, 7), st.floats(-6.2, 6.2))
@settings(max_examples=50, deadline=None)
def test_circle_arcs_stay_on_the_circle(start, turn):
    points = sampled(circle_arc(start, turn, radius=2.0, centre=(1.0, -1.0)))
    np.testing.assert_allclose(np.linalg.norm(points - (1, -1), axis=1), 2, rtol=5e-6)
    end = 2 * np.array([math.cos(start + turn), math.sin(start + turn)]) + (1, -1)
    np.testing.assert_allclose(points[-1], end, atol=1e-12)


def test_disk_coordinates_agree_with_the_ball():
    u = np.random.default_rng(0).normal(size=(50, 2)) * 2
    ball = PoincareBall(c=1.0)
    np.testing.assert_allclose(to_disk(u), ball.from_polar(torch.from_numpy(u)).numpy(), atol=1e-12)


# -- layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tree", [random_tree(4, 4, 0), random_tree(2, 9, 1), FIVE])
def test_tree_layout_goes_outwards_and_shares_the_angle(tree):
    layout = tree_layout(tree)
    radius = np.linalg.norm(layout.tangents, axis=1)
    above = tree.parent >= 0
    assert (radius[tree.parent[above]] < radius[above]).all()
    assert len(np.unique(np.round(radius, 9))) == tree.num_levels
    assert (np.linalg.norm(layout.xy, axis=1) < 1).all()
    begin, end = layout.wedges.T
    assert (begin > end).all()
    inside = (begin[above] <= begin[tree.parent[above]] + 1e-9) & (
        end[above] >= end[tree.parent[above]] - 1e-9
    )
    assert inside.all()  # a child's wedge lies in its parent's
    for nodes in (tree.leaves, np.flatnonzero(~above)):  # and in nobody else's
        order = nodes[np.argsort(-begin[nodes])]
        assert (end[order[:-1]] >= begin[order[1:]] - 1e-9).all()
    np.testing.assert_allclose((begin - end)[tree.leaves], (begin - end)[tree.leaves[0]])


# -- quality ----------------------------------------------------------------------------------


def test_a_faithful_picture_has_no_distortion():
    u = np.random.default_rng(0).normal(size=(60, 2))
    quality = picture_quality(u, None, u)
    assert quality.distortion < 1e-9
    assert quality.rank_correlation == pytest.approx(1)
    assert quality.neighbours == 1
    # Points of curvature -4 at half the length are the same points at half the scale.
    scaled = picture_quality(u, None, u / 2, c=4.0)
    assert scaled.distortion < 1e-9


def test_quality_agrees_with_scipy_and_plain_counting():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(40, 2)), rng.normal(size=(40, 5))
    quality = picture_quality(u, None, v)
    a, b = (polar.pairwise_dist(torch.from_numpy(w), torch.from_numpy(w)).numpy() for w in (u, v))
    off = ~np.eye(40, dtype=bool)
    assert quality.rank_correlation == pytest.approx(spearmanr(a[off], b[off]).statistic)
    kept = 0
    for row in range(40):
        near = [set(sorted(set(range(40)) - {row}, key=d[row].__getitem__)[:10]) for d in (a, b)]
        kept += len(near[0] & near[1])
    assert quality.neighbours == pytest.approx(kept / 400)
    scales = np.quantile(a[off] / b[off], np.linspace(0.01, 0.99, 400))
    best = min(np.abs(a[off] / (s * b[off]) - 1).mean() for s in scales)
    assert quality.distortion == pytest.approx(best, abs=2e-3)


def test_tree_pictures_are_compared_with_the_tree(demo):
    sparse = Taxonomy.from_paths([(a, b) for a in "abcd" for b in "xyz"])
    good = picture_quality(sarkar(sparse, 2, 4.0).numpy(), sparse)
    assert good.rank_correlation > 0.9
    assert "tree" in good.of
    assert picture_quality(np.zeros((2, 2)), Taxonomy.from_paths([("a",), ("b",)])) is None
    assert 0.6 < picture_quality(tree_layout(demo).tangents, demo).rank_correlation <= 1


# -- palette ----------------------------------------------------------------------------------


@pytest.mark.parametrize("colors", [LIGHT, DARK])
def test_colours_differ_for_colour_blind_readers_and_in_greyscale(colors):
    hexes = [c[1:] for c in colors.classes]
    srgb = np.array([[int(h[i : i + 2], 16) / 255 for i in (0, 2, 4)] for h in hexes])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    # Machado, Oliveira and Fernandes 2009, severity 1: protanopia, deuteranopia.
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
              [-0.003882, -0.048116, 1.051998]]  # fmt: skip
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
              [-0.011820, 0.042940, 0.968881]]  # fmt: skip
    for simulated in (np.eye(3), protan, deutan):
        lab = cielab(np.clip(linear @ np.array(simulated).T, 0, 1))
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
        assert apart[~np.eye(12, dtype=bool)].min() > 15
    lightness = np.sort(cielab(linear)[:, 0])
    assert np.diff(lightness).min() > 1.5
    neighbours = np.abs(np.diff(cielab(linear)[:, 0]))
    assert neighbours.min() > 5
    styles = {class_style(i, colors) for i in range(12 * len(MARKERS))}
    assert len(styles) == 12 * len(MARKERS)


def cielab(linear):
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    t = linear @ to_xyz.T / (0.9505, 1, 1.089)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
