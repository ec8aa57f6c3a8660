"""Figures of label trees: no two drawn names overlap, and files are written whole."""

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
from viz_trees import assert_no_overlap, random_tree

import hyperlm.viz
from hyperlm.data import load_data
from hyperlm.errors import HyperlmWarning, OffManifoldError, OptionError, OutputError
from hyperlm.manifolds import sarkar
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz import (
    fonts,
    label_tree_figure,
    save_figure,
)
from hyperlm.viz.labels import Label, Placer, Ruler, shorten

FIVE = Taxonomy.from_paths([("$x_1$", "a" * 500), ("$x_1$", "</script>"), ("b", "c\nd\t\x07")])


@pytest.fixture(scope="module")
def demo():
    return load_data("demo").taxonomy


# -- figures ----------------------------------------------------------------------------------


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


def test_boxes_are_told_by_the_figure_s_writer(tmp_path):
    # A noncharacter: no font may ever have it.
    taxonomy = Taxonomy.from_paths([("a", "b\U0010ffff"), ("a", "c")])
    fig = label_tree_figure(taxonomy)
    assert "b\u25a1" in names_of(fig)
    path = tmp_path / "tree.png"
    with pytest.warns(HyperlmWarning, match=r"tree\.png: boxes .*: U\+10FFFF\. Install a font"):
        save_figure(fig, path)
    # And of others nothing, though a box be in their names.
    save_figure(label_tree_figure(Taxonomy.from_paths([("a", "tick \u25a1")])), path)


def test_only_fonts_that_a_name_needs_are_taken(monkeypatch):
    """Every font in the list stays open while matplotlib draws."""
    has = {"DejaVu Sans": "ab", "Noto Sans": "x", "Noto Sans A": "xy", "Noto Sans B": "yz"}
    monkeypatch.setattr(fonts, "_others", lambda: ("Noto Sans", "Noto Sans A", "Noto Sans B"))
    monkeypatch.setattr(fonts, "_characters", lambda family: set(map(ord, has[family])))
    monkeypatch.setattr(fonts, "_needed", [])
    fonts.drawable.cache_clear()
    try:
        with matplotlib.rc_context({"font.family": list(fonts.font_families())}):
            assert fonts.drawable("a")
            assert fonts.font_families() == ("DejaVu Sans",)
            assert fonts.drawable("z")
            assert fonts.drawable("y")  # by the first that has it
            assert not fonts.drawable("q")
            families = ("DejaVu Sans", "Noto Sans A", "Noto Sans B")
            assert fonts.font_families() == tuple(matplotlib.rcParams["font.family"]) == families
            matplotlib.rcParams["font.family"] = ["serif"]  # somebody else's
            assert fonts.drawable("x")
            assert matplotlib.rcParams["font.family"] == ["serif"]
    finally:
        fonts.drawable.cache_clear()


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


@given(
    st.floats(-120, 120), st.floats(-120, 120), st.floats(-180, 180), st.floats(1, 90),
    st.integers(0, 300),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_a_label_hides_what_lies_under_it(x, y, angle, width, count):
    random = np.random.default_rng(count)
    nodes, marks = random.uniform(-100, 100, (2, count, 2))
    radius, lengths = random.uniform(0, 15, (2, count))
    label = Label("a", x, y, angle, 8.0, False, width, 6.0, 2.0)
    found = Placer((-100, -100, 100, 100), nodes, radius, marks, lengths).hidden(label)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    want = [0.0, 0.0]
    for kind, (points, margins, weights) in enumerate(
        [(nodes, radius, radius), (marks, np.zeros(count), lengths)]
    ):
        for (px, py), margin, weight in zip(points, margins, weights, strict=True):
            along = cos * (px - x) + sin * (py - y)
            up = cos * (py - y) - sin * (px - x)
            if -margin < along < width + margin and -2 - margin < up < 6 + margin:
                want[kind] += weight
    assert found == pytest.approx(want)
