"""Projections: hyperbolic PCA keeps what it promises, texts go where labels go, whatever c is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import polar
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz import applicable, default_projection, picture_quality, project, taxonomy_data
from hyperlm.viz import umap_plane as umap_module
from hyperlm.viz.disk import to_disk
from hyperlm.viz.hyperbolic_pca import fit_plane, onto_plane, principal_plane
from hyperlm.viz.rundata import TextData
from hyperlm.viz.umap_plane import umap_plane

TREE = Taxonomy.from_paths([(a, a + b, a + b + c) for a in "abc" for b in "xyz" for c in "123"])
CURVATURES = (0.25, 1.0, 4.0)


def run_of(points, c=1.0, texts=None, tree=TREE):
    geometry = "poincare" if c else "euclidean"
    return replace(taxonomy_data(tree), points=points, c=c, geometry=geometry, texts=texts)


def texts_at(tangents, nodes=None, probabilities=None):
    count = len(tangents)
    nodes = np.zeros((count, 1), dtype=int) if nodes is None else np.asarray(nodes)
    probabilities = np.ones(nodes.shape) if probabilities is None else np.asarray(probabilities)
    return TextData(
        tuple(f"text {i}" for i in range(count)), np.asarray(tangents, dtype=float), nodes[:, 0],
        nodes[:, 0], probabilities[:, 0], nodes, probabilities, "val",
    )  # fmt: skip


def cloud(count, dim, seed, spread=1.0):
    return np.random.default_rng(seed).normal(size=(count, dim)) * spread


def pairwise(u, c=1.0):
    return polar.pairwise_dist(torch.from_numpy(u), torch.from_numpy(u), c).numpy()


def random_plane(dim, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, 2)))[0]


# -- hyperbolic PCA ---------------------------------------------------------------------------


@pytest.mark.parametrize("c", CURVATURES)
def test_points_of_a_geodesic_disk_are_recovered_isometrically(c):
    flat = cloud(60, 2, 0) * np.array([2.5, 1.0]) / math.sqrt(c)
    points = flat @ random_plane(7, 1).T
    basis = fit_plane(points, c=c)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    image = onto_plane(points, basis, c=c)
    np.testing.assert_allclose(pairwise(image, c), pairwise(flat, c), rtol=1e-7, atol=1e-7)
    # To a rotation or reflection about the root, where all angles are kept.
    np.testing.assert_allclose(image @ image.T, flat @ flat.T, atol=1e-8)


@given(st.integers(0, 10**6), st.floats(0.05, 8), st.sampled_from(CURVATURES))
@settings(max_examples=40, deadline=None)
def test_the_image_is_that_of_lorentz_coordinates_and_no_distance_grows(seed, spread, c):
    u, basis = cloud(12, 5, seed, spread), random_plane(5, seed + 1)
    image = onto_plane(u, basis, c=c) * math.sqrt(c)
    radius = np.linalg.norm(u, axis=1, keepdims=True) * math.sqrt(c)
    inside = np.sinh(radius) * (u / np.linalg.norm(u, axis=1, keepdims=True)) @ basis
    length = np.linalg.norm(image, axis=1, keepdims=True)
    np.testing.assert_allclose(np.sinh(length) * image / length, inside, rtol=1e-9)
    assert (length <= radius * (1 + 1e-12)).all()
    assert (pairwise(image) <= pairwise(u * math.sqrt(c)) * (1 + 1e-9) + 1e-9).all()


def test_both_horospheres_of_every_direction_of_the_plane_are_kept_in_difference():
    # Busemann functions on the ball: B_q(x) = log(|q - x|^2 / (1 - |x|^2)).
    u, basis = cloud(20, 4, 3), random_plane(4, 4)
    image = onto_plane(u, basis) @ basis.T

    def busemann(x, q):
        return np.log(((q - x) ** 2).sum(1) / (1 - (x * x).sum(1)))

    for angle in np.linspace(0, math.pi, 7):
        q = basis @ np.array([math.cos(angle), math.sin(angle)])
        kept = [
            np.exp(busemann(to_disk(v), -q)) - np.exp(busemann(to_disk(v), q)) for v in (u, image)
        ]
        np.testing.assert_allclose(kept[0], kept[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("c", [1.0, 4.0])
def test_no_other_plane_spreads_the_images_more(c):
    u = cloud(40, 6, 5) * np.array([2, 1.6, 1.2, 0.8, 0.8, 0.5]) / math.sqrt(c)

    def spread(basis):
        return float((pairwise(onto_plane(u, basis, c=c), c) ** 2).mean())

    basis = fit_plane(u, c=c)
    best = spread(basis)
    assert all(spread(random_plane(6, seed)) < best for seed in range(40))
    for seed in range(6):  # stationary: any small turn changes the second order only
        turned = np.linalg.qr(basis + 1e-4 * cloud(6, 2, seed))[0]
        assert abs(spread(turned) - best) < 1e-6 * best
    # The axes are those of the images' spread, the first the larger.
    image = onto_plane(u, basis, c=c)
    moments = image.T @ image
    assert abs(moments[0, 1]) < 1e-9 * moments[0, 0]
    assert moments[0, 0] >= moments[1, 1]


def test_far_points_do_not_overflow():
    u = np.array([[600.0, 1.0, 2.0], [-400.0, 300.0, 0.0], [0.0, 0.0, 0.0], [1e-9, 0.0, 0.0]])
    image = onto_plane(u, np.eye(3)[:, :2])
    np.testing.assert_allclose(np.linalg.norm(image, axis=1)[[1, 2]], [500, 0])
    assert np.isfinite(image).all()


# -- every projection -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["pca", "horopca"])
@pytest.mark.parametrize("c", [0.25, 4.0])
def test_a_picture_does_not_depend_on_the_unit_of_length(how, c):
    u = cloud(len(TREE), 5, 0)
    one, other = (project(run_of(v, k), how) for v, k in ((u, 1.0), (u / math.sqrt(c), c)))
    np.testing.assert_allclose(one.tangents, other.tangents, atol=1e-5)
    assert one.quality.distortion == pytest.approx(other.quality.distortion, abs=1e-5)
    assert one.note == other.note


@pytest.mark.parametrize("how", ["pca", "horopca"])
@pytest.mark.parametrize("spread", [0.1, 1.0, 9.0])
def test_texts_go_through_the_map_of_the_labels(how, spread):
    u = cloud(len(TREE), 5, 1, spread)
    plan = project(run_of(u, texts=texts_at(u)), how)
    np.testing.assert_allclose(plan.texts, plan.tangents)
    np.testing.assert_allclose(plan.place(texts_at(u[3:5])), plan.tangents[3:5])
    alone = project(run_of(u), how)
    np.testing.assert_allclose(alone.tangents, plan.tangents)  # fitted on the labels alone
    outer = np.quantile(np.linalg.norm(plan.tangents, axis=1), 0.95)
    assert 2.5 - 1e-9 <= outer <= 5 + 1e-9


def test_far_texts_are_drawn_by_a_power_that_labels_share():
    u = cloud(len(TREE), 5, 1, 0.2)
    plan = project(run_of(u, texts=texts_at(np.concatenate([20 * u, u]))), "pca")
    np.testing.assert_allclose(plan.texts[len(u) :], plan.tangents)
    radius = [np.linalg.norm(v, axis=1) for v in (u @ principal_plane(u), plan.tangents)]
    np.testing.assert_array_equal(np.argsort(radius[0]), np.argsort(radius[1]))
    np.testing.assert_allclose(
        np.ptp(np.diff(np.log(np.sort(radius[1]))) / np.diff(np.log(np.sort(radius[0])))),
        0,
        atol=1e-6,
    )
    assert "Radii r are drawn as" in " ".join(plan.note)
    assert np.quantile(np.linalg.norm(plan.texts, axis=1), 0.95) == pytest.approx(5, rel=0.1)


def test_texts_of_the_tree_lie_at_the_mean_of_their_labels():
    run = run_of(None, texts=texts_at(np.zeros((3, 4)), [[5, 0], [3, 9], [-1, 5]],
                                      [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]]))  # fmt: skip
    plan = project(run, "tree")
    np.testing.assert_allclose(plan.texts[0], plan.tangents[5], atol=1e-9)
    np.testing.assert_allclose(plan.texts[2], 0, atol=1e-12)  # -1 is the root
    three = np.stack([plan.tangents[3], plan.texts[1], plan.tangents[9]])
    apart = pairwise(three)
    assert apart[0, 1] == pytest.approx(apart[0, 2] / 2)  # the middle of a geodesic
    assert apart[1, 2] == pytest.approx(apart[0, 2] / 2)
    np.testing.assert_allclose(plan.place(run.texts), plan.texts)


def test_projections_repeat_themselves_and_samples_follow_the_seed():
    tree = Taxonomy.from_paths([(f"{i % 7}", f"{i}") for i in range(402)])
    u = cloud(len(tree), 3, 2)
    plans = [project(run_of(u, tree=tree), "horopca", seed=seed).tangents for seed in (0, 0, 1)]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert np.abs(plans[0] - plans[2]).max() > 1e-9


@pytest.mark.parametrize("u", [np.zeros((6, 3)), np.ones((6, 1)), np.eye(6), np.ones((6, 4))])
@pytest.mark.parametrize("how", ["pca", "horopca"])
def test_degenerate_points_are_drawn_finitely(u, how):
    tree = Taxonomy.from_paths([(c,) for c in "abcdef"])
    plan = project(run_of(u, tree=tree), how)
    assert np.isfinite(plan.tangents).all()
    assert (np.linalg.norm(plan.xy, axis=1) < 1).all()


def test_one_label():
    tree = Taxonomy.from_paths([("only",)])
    plan = project(run_of(np.ones((1, 3)), tree=tree), "horopca")
    assert plan.quality is None
    assert np.isfinite(plan.tangents).all()


def test_flat_points():
    u = cloud(len(TREE), 2, 0)
    run = run_of(u, c=0.0)
    plan = project(run, "pca")
    angle = [np.arctan2(v[:, 1], v[:, 0]) for v in (u @ principal_plane(u), plan.tangents)]
    np.testing.assert_allclose(*angle, atol=1e-9)
    from scipy.spatial.distance import cdist
    from scipy.stats import spearmanr

    off = ~np.eye(len(u), dtype=bool)
    rank = spearmanr(pairwise(plan.tangents)[off], cdist(u, u)[off]).statistic
    assert plan.quality.rank_correlation == pytest.approx(rank)
    with pytest.raises(OptionError, match="horopca needs hyperbolic points"):
        project(run, "horopca")
    assert (default_projection(run), applicable(run)) == ("pca", ("tree", "pca"))


def test_which_projections_apply():
    run = run_of(cloud(len(TREE), 3, 0))
    assert (default_projection(run), applicable(run)) == ("horopca", ("tree", "horopca", "pca"))
    bare = taxonomy_data(TREE)
    assert (default_projection(bare), applicable(bare)) == ("tree", ("tree",))
    with pytest.raises(OptionError, match="the projection umap needs label points"):
        project(bare, "umap")
    with pytest.raises(OptionError, match="'t-sne'; choose one of tree, pca, horopca, umap"):
        project(bare, "t-sne")


def test_quality_is_measured_against_what_is_drawn():
    u = cloud(len(TREE), 5, 0)
    for how, points in (("tree", None), ("pca", u), ("horopca", u)):
        plan = project(run_of(u), how)
        assert plan.quality == picture_quality(plan.tangents, TREE, points)


# -- UMAP -------------------------------------------------------------------------------------


def test_umap_keeps_clusters_with_the_root_at_the_centre():
    pytest.importorskip("umap", reason="umap-learn, the extra viz, is not installed")
    tree = Taxonomy.from_paths([(a, f"{a}{i}") for a in "abc" for i in range(9)])
    top = np.array([tree.path_nodes(n)[0] for n in range(len(tree))])
    u = (3 * np.eye(5)[top] + cloud(len(tree), 5, 0, 0.15)) / 2  # c = 4
    texts = texts_at(u[10:14] + 1e-3)
    threads = torch.get_num_threads()
    plan = project(run_of(u, 4.0, texts, tree), "umap")
    assert torch.get_num_threads() == threads  # which numba sets for all of OpenMP
    near = pairwise(plan.tangents) + 1e9 * np.eye(len(tree))
    assert (top[near.argmin(1)] == top).all()
    to_texts = polar.pairwise_dist(*map(torch.from_numpy, (plan.texts, plan.tangents))).numpy()
    assert (top[to_texts.argmin(1)] == top[10:14]).all()
    assert plan.place is None
    # The unit of length is no part of it, and a seed repeats itself.
    again = project(run_of(2 * u, 1.0, texts_at(2 * texts.tangents), tree), "umap")
    np.testing.assert_array_equal(plan.tangents, again.tangents)


def test_a_boost_takes_the_root_to_the_origin_and_keeps_distances():
    sheet = cloud(20, 2, 0, 3.0)
    moved = umap_module._centred(sheet)
    np.testing.assert_allclose(moved[0], 0, atol=1e-9)
    time = np.sqrt(1 + (sheet**2).sum(1))
    apart = np.arccosh(np.maximum(np.outer(time, time) - sheet @ sheet.T, 1))
    np.testing.assert_allclose(pairwise(moved), apart, atol=1e-6)


def test_umap_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(umap_module, "_library", lambda: None)
    with pytest.raises(OptionError, match="UMAP needs at least 3 points, there are 2"):
        umap_plane(np.ones((2, 3)))
    with pytest.raises(OptionError, match="more than one place"):
        umap_plane(np.zeros((9, 3)))
    monkeypatch.undo()

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(umap_module.importlib, "import_module", missing)
    with pytest.raises(OptionError, match=r"pip install 'hyperlm-toolkit\[viz\]'"):
        umap_plane(np.ones((9, 3)))


def test_a_diverged_umap_is_refused(monkeypatch):
    class Broken:
        def __init__(self, **_):
            pass

        def fit_transform(self, points):
            return np.full((len(points), 2), np.nan)

    monkeypatch.setattr(umap_module, "_library", lambda: type("umap", (), {"UMAP": Broken}))
    with pytest.raises(OffManifoldError, match="UMAP diverged"):
        umap_plane(cloud(9, 3, 0))
