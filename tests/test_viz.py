"""Figures: arcs are geodesics, layouts keep their promises, no two drawn names overlap."""

import ast
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.transforms import Affine2D

import hyperlm.viz
from hyperlm.data import load_data
from hyperlm.errors import OffManifoldError, OptionError, OutputError
from hyperlm.manifolds import PoincareBall, polar, sarkar
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz import (
    label_tree_figure,
    picture_quality,
    save_figure,
    tree_layout,
)
from hyperlm.viz.disk import arc_circles, circle_arc, geodesic_paths, to_disk
from hyperlm.viz.labels import Ruler, overlapping, shorten
from hyperlm.viz.palette import DARK, LIGHT, MARKERS, class_style

FIVE = Taxonomy.from_paths([("$x_1$", "a" * 500), ("$x_1$", "</script>"), ("b", "c\nd\t\x07")])


@pytest.fixture(scope="module")
def demo():
    return load_data("demo").taxonomy


def random_tree(levels, widest, seed):
    rng = np.random.default_rng(seed)
    paths = [(f"class {i}",) for i in range(5)]
    grown = list(paths)
    for _ in range(levels - 1):
        grown = [(*p, f"n{i} {p[-1][-6:]}") for p in grown for i in range(rng.integers(0, widest))]
        paths += grown
    return Taxonomy.from_paths(paths)


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


# -- figures ----------------------------------------------------------------------------------


def drawn_boxes(fig):
    """Corners of every text as the renderer measures it level, turned about its anchor."""
    renderer = fig.canvas.get_renderer()
    boxes = []
    for text in fig.axes[0].texts:
        x, y = text.get_transform().transform(text.get_position())
        angle = text.get_rotation()
        text.set_rotation(0)
        box = text.get_window_extent(renderer)
        text.set_rotation(angle)
        turn = Affine2D().rotate_deg_around(x, y, angle)
        boxes.append(turn.transform(box.corners()[[0, 2, 3, 1]]))
    return np.array(boxes)


def assert_no_overlap(fig):
    boxes = drawn_boxes(fig)
    page = fig.bbox
    assert boxes.min() >= 0
    assert (boxes <= (page.width, page.height)).all()
    for i in range(len(boxes) - 1):
        # A hair less: the renderer rounds to whole pixels.
        box = boxes[i].mean(0) + 0.99 * (boxes[i] - boxes[i].mean(0))
        hit = np.flatnonzero(overlapping(box, boxes[i + 1 :]))
        texts = [fig.axes[0].texts[j].get_text() for j in (i, *(hit + i + 1))]
        assert not len(hit), texts


def names_of(fig):
    return [text.get_text() for text in fig.axes[0].texts]


@pytest.mark.parametrize("dark", [False, True])
def test_demo_tree_names_everything_at_the_rim_and_nothing_overlaps(demo, dark):
    fig = label_tree_figure(demo, title="The demo", dark=dark)
    assert_no_overlap(fig)
    names = set(names_of(fig))
    assert {demo.name(int(n)) for n in demo.levels[0]} <= names
    assert {demo.name(int(n)) for n in demo.leaves} <= names
    assert "The demo" in names
    assert any("distortion" in name for name in names)
    assert tuple(fig.get_size_inches() * fig.dpi) == (1600, 1600)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_demo_points(demo, kind):
    u = sarkar(demo, 16, 0.5)
    u = u + 0.05 * torch.randn(u.shape, generator=torch.Generator().manual_seed(0))
    fig = label_tree_figure(demo, u.numpy() if kind == "array" else u.bfloat16())
    assert_no_overlap(fig)
    names = set(names_of(fig))
    assert {demo.name(int(n)) for n in demo.levels[0]} <= names
    assert any("learned distances" in name for name in names)


@pytest.mark.parametrize(
    "tree",
    [
        Taxonomy.from_paths([("only",)]),
        FIVE,
        random_tree(5, 5, 3),
        Taxonomy.from_edges([("b", "a"), ("c", "a"), ("d", "b"), ("d", "c"), ("e", "a")]),
        Taxonomy.from_paths([("שלום", "עולם"), ("日本", "🙂" * 3), ("é" * 40, "x")]),
    ],
    ids=["one", "five", "deep", "dag", "scripts"],
)
def test_awkward_trees_are_drawn(tree):
    fig = label_tree_figure(tree, title="a title that is too long to stand in the corner of a page")
    fig.canvas.draw()
    assert_no_overlap(fig)
    u = np.random.default_rng(0).normal(size=(len(tree), 3))
    if len(tree) < 300:
        assert_no_overlap(label_tree_figure(tree, u))


def test_names_are_drawn_literally_and_shortened():
    fig = label_tree_figure(FIVE, title="$\\frac{1}{2}$")
    names = names_of(fig)
    assert {"$x_1$", "</script>", "c d", "$\\frac{1}{2}$"} <= set(names)
    assert not any(text.get_parse_math() or text.get_usetex() for text in fig.axes[0].texts)
    assert max(len(name) for name in names if name.startswith("aaa")) <= 36
    # "$x_1$" as mathematics would be far narrower than its five characters.
    width = Ruler(200).extent("$x_1$", 10)[0]
    assert width > 0.9 * (Ruler(200).extent("x_1", 10)[0] + 2 * Ruler(200).extent("$", 10)[0])


def test_shorten():
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd ef", 6) == "abcd\u2026"
    assert shorten("a\x00b\n\tc\u202e", 10) == "ab c"
    assert shorten("\U0010ffff", 5) == "\u25a1"
    assert len(shorten("x" * 10**6, 20)) == 20


def test_max_labels_keeps_the_most_important(demo):
    captions = len(names_of(label_tree_figure(demo, max_labels=0)))
    fig = label_tree_figure(demo, max_labels=12)
    names = names_of(fig)
    assert captions < len(names) <= captions + 12
    assert {demo.name(int(n)) for n in demo.levels[0]} <= set(names)


def test_a_user_s_settings_change_nothing_and_nothing_is_changed(demo, tmp_path):
    # Without asking for each value: that of the backend is decided when it is asked for.
    before = dict(dict.items(matplotlib.rcParams))
    plain = save_figure(label_tree_figure(demo), tmp_path / "a.png").read_bytes()
    assert dict(dict.items(matplotlib.rcParams)) == before
    with matplotlib.rc_context(
        {"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red", "lines.marker": "o"}
    ):
        other = save_figure(label_tree_figure(demo), tmp_path / "b.png").read_bytes()
    assert plain == other


def test_no_file_of_viz_imports_pyplot():
    for file in Path(hyperlm.viz.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            assert not any("pyplot" in n or "pylab" in n for n in names), file


def test_errors_say_what_to_do(demo):
    u = np.zeros((len(demo), 3))
    with pytest.raises(OptionError, match="choose one of tree, pca, horopca, umap"):
        label_tree_figure(demo, layout="points")
    with pytest.raises(OptionError, match="the projection pca needs label points"):
        label_tree_figure(demo, layout="pca")
    with pytest.raises(OptionError, match=rf"\(5, 3\), the taxonomy has {len(demo)} nodes"):
        label_tree_figure(demo, u[:5])
    with pytest.raises(OptionError, match="max_labels = -1"):
        label_tree_figure(demo, max_labels=-1)
    with pytest.raises(OptionError, match="c = -1; it must not be negative"):
        label_tree_figure(demo, u, c=-1)
    u[7, 1] = np.nan
    with pytest.raises(OffManifoldError, match=r"1 of 130 node points hold NaN.*node 7"):
        label_tree_figure(demo, u)


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")]
)
def test_saving_is_complete_and_repeatable(ending, magic, tmp_path):
    paths = [tmp_path / f"{i}{ending}" for i in range(2)]
    for path in paths:
        assert save_figure(label_tree_figure(FIVE), str(path)) == path
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(magic)
    assert first == second
    assert sorted(os.listdir(tmp_path)) == sorted(p.name for p in paths)
    if ending == ".svg":
        assert b"</script>" not in first


def test_vector_files_of_300_nodes_stay_small(tmp_path):
    paths = itertools.product([f"class {i}" for i in range(8)], [f"family {i}" for i in range(7)])
    tree = Taxonomy.from_paths([(*p, f"{p[1]} leaf {i}") for p in paths for i in range(4)])
    assert 280 <= len(tree) <= 300
    u = sarkar(tree, 8, 0.6)
    for name, tangents in (("tree", None), ("points", u)):
        fig = label_tree_figure(tree, tangents, layout="pca" if tangents is not None else None)
        for ending in (".svg", ".pdf"):
            path = save_figure(fig, tmp_path / (name + ending))
            assert path.stat().st_size < 2_000_000


def test_saving_refuses_other_endings_and_missing_folders(tmp_path):
    fig = label_tree_figure(FIVE)
    with pytest.raises(OptionError, match=r"must end in \.png, \.svg or \.pdf"):
        save_figure(fig, tmp_path / "a.jpg")
    with pytest.raises(OptionError, match="a file without ending"):
        save_figure(fig, tmp_path / "a")
    with pytest.raises(OutputError, match="Make it first"):
        save_figure(fig, tmp_path / "nowhere" / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    broken = SimpleNamespace(savefig=fail, dpi=100, get_facecolor=lambda: "white")
    with pytest.raises(OutputError, match="No space left on device"):
        save_figure(broken, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_drawing_and_saving_do_not_load_pyplot(tmp_path):
    # Another test of this process may have loaded it: ask a fresh one.
    code = (
        "import sys; from hyperlm.viz import *; from hyperlm.taxonomy import Taxonomy; "
        "fig = label_tree_figure(Taxonomy.from_paths([('a', 'b')])); "
        "[save_figure(fig, sys.argv[1] + end) for end in ('.png', '.svg', '.pdf')]; "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    assert subprocess.run(command, check=False).returncode == 0
