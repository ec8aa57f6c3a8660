"""Figures of a run: regions are the cones, counts are counts, captions say what was measured."""

import itertools
import math
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.transforms import Affine2D
from PIL import Image
from viz_trees import assert_no_overlap

from hyperlm.errors import DataError, OffManifoldError, OptionError
from hyperlm.manifolds.cones import exterior_angle, half_aperture, polar_half_aperture
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz import (
    FIGURES,
    confusion_figure,
    distances_figure,
    draw_figure,
    layer_sweep_figure,
    norms_figure,
    project,
    read_sweep,
    run_tree_figure,
    save_figure,
    style,
    taxonomy_data,
    training_figure,
)
from hyperlm.viz.behind import sibling_confusions
from hyperlm.viz.cone_regions import cone_regions, half_apertures, share_held
from hyperlm.viz.confusion import _names, level_confusion
from hyperlm.viz.disk import to_disk
from hyperlm.viz.palette import DARK, LIGHT, channels
from hyperlm.viz.rundata import TextData

PATHS = [(a, a + b, a + b + c) for a in "abcd" for b in "xy" for c in "12"]
TREE = Taxonomy.from_paths(PATHS)
LOG = (
    *(
        {"epoch": e / 4, "loss": 3 / (e + 1), "temperature_1": 1.0 + e, "temperature_2": 2.0,
         "temperature_3": 3.0, "node_radius": 0.5, "curvature": 1 + e / 10}
        for e in range(1, 9)
    ),
    {"epoch": 2.0, "eval_loss": 1.0, "eval_path_accuracy": 0.625},
)  # fmt: skip


def a_run(tree=TREE, count=60, seed=0, c=1.0):
    random = np.random.default_rng(seed)
    points = random.normal(size=(len(tree), 4)) * 0.5 * np.asarray(tree.depth)[:, None]
    gold = random.choice(tree.leaves, count)
    said = np.where(random.random(count) < 0.5, gold, random.choice(len(tree), count))
    gold[:3], said[3] = -1, -1
    texts = TextData(
        tuple(f"text {i}" for i in range(count)), random.normal(size=(count, 4)), gold, said,
        np.ones(count), said[:, None], np.ones((count, 1)), "val",
    )  # fmt: skip
    return replace(
        taxonomy_data(tree, title="A run"), points=points, geometry="poincare", c=c, texts=texts,
        log=LOG,
    )  # fmt: skip


def words(fig):
    found = [text.get_text() for axes in fig.axes for text in axes.texts]
    found += [axes.get_title(loc="left") for axes in fig.axes]
    return " ".join([*found, *(text.get_text() for text in fig.texts)])


# -- cones ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_a_region_holds_what_the_cone_holds(seed):
    random = np.random.default_rng(seed)
    angle = random.uniform(-math.pi, math.pi, 8)
    radius = np.array([0.05, 0.21, 0.3, 0.6, 1.0, 1.7, 2.5, 4.0])
    apexes = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    side = np.linspace(-0.995, 0.995, 90)
    grid = np.array([p for p in itertools.product(side, side) if math.hypot(*p) < 0.995])
    for apex, region in zip(apexes, cone_regions(apexes), strict=True):
        x, y = torch.from_numpy(to_disk(apex[None])), torch.from_numpy(grid)
        outside = (exterior_angle(x, y) - half_aperture(x)).numpy()
        # As large as a page: curves are made of lines that are short on that scale.
        drawn = region.contains_points(1000 * grid, transform=Affine2D().scale(1000))
        sure = np.abs(outside) > 2e-3
        np.testing.assert_array_equal(drawn[sure], outside[sure] < 0)
        assert sure.mean() > 0.95


def test_cones_follow_the_unit_of_length_and_the_origin_sees_everything():
    u = np.random.default_rng(0).normal(size=(20, 2))
    for c in (0.25, 4.0):
        in_c = polar_half_aperture(torch.from_numpy(u / math.sqrt(c)), c=c).numpy()
        np.testing.assert_allclose(half_apertures(u), in_c)
    (disk,) = cone_regions(np.zeros((1, 2)))
    assert disk.contains_points([(0.99, 0), (-0.6, 0.6), (0, -0.99)]).all()


def test_the_share_of_children_that_cones_hold():
    tree = Taxonomy.from_paths([("a", "b"), ("a", "c")])
    straight, aside = np.array([[1.0, 0], [2, 0], [1, 2]]), np.array([[1.0, 0], [0, 2], [1, 2]])
    assert share_held(tree, straight) == 0.5
    assert share_held(tree, aside) == 0
    assert share_held(Taxonomy.from_paths([("a",)]), np.ones((1, 2))) is None
    run = replace(taxonomy_data(tree), points=straight, c=1.0, geometry="poincare")
    plan = project(run, "pca")
    assert "hold 50% of" in words(
        run_tree_figure(run, replace(plan, tangents=straight), cones=True)
    )
    assert "no cones" in words(
        run_tree_figure(taxonomy_data(Taxonomy.from_paths([("a",)])), cones=True)
    )


# -- texts ------------------------------------------------------------------------------------


def test_siblings_that_are_confused_are_counted():
    run = a_run(seed=3)
    pairs, count, wrong = sibling_confusions(TREE, run.texts)
    expected = {}
    errors = 0
    for gold, said in zip(run.texts.gold, run.texts.predicted, strict=True):
        if gold < 0 or gold == said:
            continue
        errors += 1
        one, other = TREE.path_nodes(gold), TREE.path_nodes(said) if said >= 0 else []
        for a, b in zip(one, other, strict=False):
            if a != b:
                key = (min(a, b), max(a, b))
                expected[key] = expected.get(key, 0) + 1
                break
    assert {tuple(p): n for p, n in zip(pairs.tolist(), count.tolist(), strict=True)} == expected
    assert wrong == errors
    assert (TREE.parent[pairs[:, 0]] == TREE.parent[pairs[:, 1]]).all()
    assert (np.diff(count) <= 0).all()


def test_clouds_are_where_the_texts_are_and_in_their_colour():
    run = a_run()
    at = np.array([[1.0, 0.0]] * 40 + [[0.0, -1.5]] * 20)
    gold = np.array([TREE.leaves[0]] * 40 + [TREE.leaves[-1]] * 20)
    run = replace(run, texts=replace(run.texts, gold=gold))
    plan = replace(project(run, "tree"), texts=at)
    fig = run_tree_figure(run, plan, texts=True)
    (image,) = fig.axes[0].images
    cells = np.asarray(image.get_array())
    for point, top in ((at[0], 0), (at[-1], 3)):
        column, row = ((to_disk(point[None])[0] + 1) / 2 * len(cells)).astype(int)
        assert cells[row, column, 3] > 60
        np.testing.assert_allclose(cells[row, column, :3], channels(LIGHT.classes[top]), atol=2)
    assert cells[5, 5, 3] == 0
    assert "60 texts (val)" in words(fig)


def test_nan_texts_and_missing_texts_are_refused():
    run = a_run()
    plan = project(run, "tree")
    broken = plan.texts.copy()
    broken[4] = np.nan
    with pytest.raises(OffManifoldError, match="1 of 60 text points hold NaN.*first text 4"):
        run_tree_figure(run, replace(plan, texts=broken), texts=True)
    with pytest.raises(OptionError, match="there are no texts to show"):
        run_tree_figure(replace(run, texts=None), confusion=True)


def test_matrices_agree_with_scikit_learn():
    from sklearn.metrics import confusion_matrix

    run = a_run(count=300, seed=1)
    known = run.texts.gold >= 0
    lines = np.concatenate([TREE.path_matrix, [[-1, -1, -1]]])
    for level in (1, 2, 3):
        gold, said = (lines[n[known], level - 1] for n in (run.texts.gold, run.texts.predicted))
        nodes, matrix = level_confusion(TREE, run.texts, level, largest=100)
        np.testing.assert_array_equal(nodes, TREE.levels[level - 1])
        np.testing.assert_array_equal(
            matrix, confusion_matrix(gold, said, labels=[*nodes.tolist(), -1])
        )
    largest, small = level_confusion(TREE, run.texts, 3, largest=5)
    sizes = np.bincount(gold, minlength=len(TREE))
    assert sizes[largest].min() >= np.sort(sizes)[-5]
    assert small.sum() == known.sum()


# -- the other figures ------------------------------------------------------------------------


def test_equal_names_are_told_apart_by_their_parents():
    paths = [("cars", "other"), ("boats", "other"), ("boats", "oars")]
    tree = Taxonomy.from_paths(paths)
    nodes = np.array([tree.index(path) for path in paths])
    assert _names(tree, nodes) == ["cars \u203a other", "boats \u203a other", "oars"]


def test_captions_tell_what_was_measured():
    run = a_run()
    norm = np.linalg.norm(run.points, axis=1)
    nearer = (norm[TREE.edges[:, 1]] < norm[TREE.edges[:, 0]]).mean()
    assert f"{nearer:.0%} of parents lie nearer" in words(norms_figure(run, texts=True))
    said = words(distances_figure(run))
    assert f"{len(TREE) * (len(TREE) - 1) // 2:,} pairs" in said
    fig = confusion_figure(run)
    right = (run.texts.gold == run.texts.predicted)[run.texts.gold >= 0].mean()
    assert f"L3: {right:.0%} right" in words(fig)
    assert len(confusion_figure(run, level=2).axes) == 1
    # An answer above the level is in no column of a label, and the caption says where it is.
    shallow = run.texts.predicted.copy()
    shallow[run.texts.gold >= 0] = TREE.parent[TREE.leaves[0]]
    texts = replace(run.texts, predicted=shallow)
    assert "also answers that end above" in words(confusion_figure(replace(run, texts=texts)))


def test_distances_of_a_perfect_embedding_have_no_distortion():
    star = Taxonomy.from_paths([(f"{i}",) for i in range(5)])
    points = np.eye(5) * 2.0
    run = replace(taxonomy_data(star), points=points, c=4.0, geometry="poincare")
    assert "Distortion 0.00" in words(distances_figure(run))
    assert "flat" in words(distances_figure(replace(run, c=0.0, geometry="euclidean")))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_dark_and_the_tree_light_too(name, tmp_path):
    run = a_run()
    for dark in (False, True) if name == "tree" else (True,):
        fig = draw_figure(run, name, layout="tree", dark=dark)
        assert fig.get_facecolor() == matplotlib.colors.to_rgba((DARK if dark else LIGHT).paper)
    path = save_figure(fig, tmp_path / "a.svg")
    assert path.stat().st_size < 2_000_000
    assert path.read_bytes() == save_figure(fig, tmp_path / "b.svg").read_bytes()


def test_all_that_can_lie_behind_the_tree(tmp_path):
    fig = run_tree_figure(a_run(), "horopca", cones=True, texts=True, confusion=True, dark=True)
    assert {"cones", "Clouds:", "Arcs:"} <= set(words(fig).split())
    assert save_figure(fig, tmp_path / "a.pdf").stat().st_size < 2_000_000


def test_a_palette_makes_a_png_smaller_and_changes_no_colour_by_much(tmp_path):
    fig = norms_figure(a_run())
    full, few = tmp_path / "full.png", tmp_path / "few.png"
    save_figure(fig, full)
    save_figure(fig, few, colors=256)
    assert few.stat().st_size < full.stat().st_size / 2
    pictures = [np.asarray(Image.open(path).convert("RGB"), dtype=int) for path in (full, few)]
    assert pictures[0].shape == pictures[1].shape
    assert np.abs(pictures[0] - pictures[1]).mean() < 1
    # The colours of large surfaces are the same, so that pictures side by side have one paper.
    surfaces = []
    for picture in pictures:
        found, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        surfaces.append(found[np.argsort(-counts)[:4]].tolist())
    assert surfaces[0] == surfaces[1]
    assert few.read_bytes() == save_figure(fig, tmp_path / "again.png", colors=256).read_bytes()
    with pytest.raises(OptionError, match="1 to 256"):
        save_figure(fig, few, colors=257)
    # Drawn lines have no palette.
    lines = [save_figure(fig, tmp_path / f"{n}.svg", colors=n) for n in (None, 256)]
    assert lines[0].read_bytes() == lines[1].read_bytes()


def test_a_user_s_settings_change_nothing_and_nothing_is_changed(tmp_path):
    before = dict(dict.items(matplotlib.rcParams))
    plain = save_figure(norms_figure(a_run()), tmp_path / "a.png").read_bytes()
    assert dict(dict.items(matplotlib.rcParams)) == before
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "xtick.labelsize": 40}):
        other = save_figure(norms_figure(a_run()), tmp_path / "b.png").read_bytes()
    assert plain == other
    with matplotlib.rc_context(style(dark=True)):  # every key is one that matplotlib knows
        assert matplotlib.rcParams["axes.facecolor"] == DARK.disk


def test_shades_darken_or_lighten_all_the_way():
    for colors in (LIGHT, DARK):
        grey = [channels(shade) @ (0.2126, 0.7152, 0.0722) for shade in colors.shades()]
        assert np.all(np.diff(grey) < 0) or np.all(np.diff(grey) > 0)


AWKWARD = {
    "one": Taxonomy.from_paths([("only",)]),
    "star": Taxonomy.from_paths([(f"label {i}",) for i in range(5000)]),
    "chain": Taxonomy.from_paths([tuple(f"n{i}" for i in range(200))]),
    "names": Taxonomy.from_paths(
        [
            ("n" * 500, "שלום עולם"),
            ("مرحبا", "🙂" * 3),
            ("$x_1$", "</script>"),
            ("a\u202eb", "c\nd"),
        ]
    ),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *itertools.product(("one", "names"), FIGURES),
        *itertools.product(("star", "chain"), ("tree", "norms")),
        ("chain", "confusion"),
    ],
)
def test_awkward_trees(kind, name):
    run = a_run(AWKWARD[kind])
    if kind == "one" and name == "distances":
        with pytest.raises(OptionError, match="there must be three"):
            draw_figure(run, name)
        return
    layout = "tree" if name == "tree" else None
    fig = draw_figure(run, name, layout=layout, texts=name in ("tree", "norms"), cones=True)
    if name == "tree":
        assert_no_overlap(fig)
    fig.canvas.draw()  # a glyph that no font has would warn, and a warning is an error
    assert max(fig.get_size_inches()) < 40
    assert max(map(len, words(fig).split())) < 60


def test_what_a_run_lacks_is_said():
    bare = taxonomy_data(TREE, title="Bare")
    for name, reason in (
        ("norms", "norms need label points; Bare has none"),
        ("confusion", "confusion needs texts with gold labels"),
        ("training", "Bare has no training log"),
        ("pie", "choose one of tree, norms"),
    ):
        with pytest.raises(OptionError, match=reason):
            draw_figure(bare, name)
    with pytest.raises(OptionError, match="level = 4; this taxonomy has the levels 1 to 3"):
        confusion_figure(a_run(), level=4)
    run = a_run()
    object.__setattr__(run, "points", np.full(run.points.shape, np.nan))  # past its own check
    for name in ("tree", "norms", "distances"):
        with pytest.raises(OffManifoldError, match="hold NaN or infinity"):
            draw_figure(run, name)


def test_training_logs_with_gaps():
    run = a_run()
    gap = ({"epoch": 1.0, "loss": math.nan}, {"epoch": 2.0, "loss": 1.0})
    fig = training_figure(replace(run, log=gap))
    assert words(fig).count("not in the log") == 3
    assert "held at c = 1" in words(fig)
    whole = training_figure(run)
    assert "62.5%" in words(whole)
    assert "curvature" in str([line.get_label() for line in whole.axes[3].lines])
    with pytest.raises(DataError, match="the training log has none of"):
        training_figure(replace(run, log=({"epoch": 1.0, "note": 3},)))


# -- curves and sweeps ------------------------------------------------------------------------


def test_a_sweep_is_read_and_its_best_layers_are_ringed(tmp_path):
    table = tmp_path / "sweep.csv"
    table.write_text("layer,L1,L2\n1,0.5,0.25\n2,0.75,\n2,0.85,0.5\n")
    scores = read_sweep(table)
    assert scores == {"L1": {1: [0.5], 2: [0.75, 0.85]}, "L2": {1: [0.25], 2: [0.5]}}
    (tmp_path / "sweep.json").write_text('[{"layer": 1, "L1": 0.5}, {"layer": "2", "L1": null}]')
    assert read_sweep(tmp_path / "sweep.json") == {"L1": {1: [0.5]}}
    fig = layer_sweep_figure(scores, title="$t$")
    rings = [line for line in fig.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [tuple(np.ravel(ring.get_xydata())) for ring in rings] == [(2, 0.8), (2, 0.5)]
    assert "$t$" in words(fig)
    assert "1 to 2 repetitions" in words(fig)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("depth,L1\n1,2\n", "row 1 has no layer, only depth, L1"),
        ("layer,L1\n1.5,2\n", "layer '1.5' is no whole number"),
        ("layer,L1\n1,good\n", "row 1, column 'L1': 'good' is no finite number"),
        ("layer,L1\n1,0.5\n2,nan\n", "row 2, column 'L1': 'nan' .* a score empty"),
        ("layer,L1\n", "there are no scores"),
    ],
)
def test_sweeps_that_cannot_be_read(text, reason, tmp_path):
    table = tmp_path / "sweep.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=reason):
        read_sweep(table)
    with pytest.raises(DataError, match="cannot be read as a layer sweep"):
        read_sweep(tmp_path / "nowhere.csv")
    with pytest.raises(OptionError, match="at least one curve"):
        layer_sweep_figure({})
    with pytest.raises(OptionError, match="one or more finite numbers"):
        layer_sweep_figure({"a": {1: [math.nan]}})
