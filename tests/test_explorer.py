"""The explorer page as a document: what it holds, and the files it is written to."""

import base64
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explorer_documents import Page, flat, named, with_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm import Taxonomy
from hyperlm.errors import OffManifoldError, OptionError, OutputError
from hyperlm.viz import explorer, pagedata
from hyperlm.viz.explorer import (
    explorer_html,
    page_layouts,
    write_explorer,
)
from hyperlm.viz.layout import Layout
from hyperlm.viz.pagedata import page_document, shortened
from hyperlm.viz.rundata import RunData, taxonomy_data

TREE = Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)], name="small")


@pytest.fixture(scope="module")
def learned() -> RunData:
    """Points and texts of a taxonomy of two levels."""
    taxonomy = Taxonomy.from_paths([(f"top {i}", f"leaf {j}") for i in range(4) for j in range(5)])
    points = np.random.default_rng(1).normal(size=(len(taxonomy), 3))
    run = dataclasses.replace(
        taxonomy_data(taxonomy, title="learned"), points=points, geometry="poincare", c=1.5
    )
    return with_texts(run, [f"text number {i}" for i in range(30)])


# --- what the page holds --------------------------------------------------------------------------


def numbers(text: str, width: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f8").reshape(-1, width)


def test_positions_arrive_bit_for_bit(learned):
    layouts = page_layouts(learned)
    document = page_document(learned, layouts)
    assert [plan["name"] for plan in document["layouts"]] == [plan.name for plan in layouts]
    for plan, entry in zip(layouts, document["layouts"], strict=True):
        np.testing.assert_array_equal(numbers(entry["nodes"], 2), plan.tangents)
        np.testing.assert_array_equal(numbers(entry["texts"], 2), plan.texts)
        assert entry["note"] == " ".join(plan.note)


def test_cones_are_those_of_the_drawn_positions(learned):
    plan = page_layouts(learned)[0]
    entry = page_document(learned, [plan])["layouts"][0]
    for u, angle in zip(plan.tangents, numbers(entry["cones"], 1)[:, 0], strict=True):
        # sin(psi) = K (1 - r^2) / r in the disk, and r = tanh(length / 2).
        r = math.tanh(math.hypot(*u) / 2)
        assert math.sin(angle) == pytest.approx(min(0.1 * (1 - r * r) / r, 1), rel=1e-6)
    flat_run = dataclasses.replace(learned, geometry="euclidean", c=0.0)
    learned_flat = [
        entry["cones"] is None
        for entry in page_document(flat_run, page_layouts(flat_run))["layouts"]
    ]
    assert learned_flat == [False, True]  # the tree has cones, flat points have none


def test_figures_come_from_the_texts():
    run = with_texts(taxonomy_data(TREE), ["x", "y", "z", "w"], gold=np.array([2, 2, 3, 1]),
                     predicted=np.array([2, 3, 3, 1]))  # fmt: skip
    assert TREE.names == ("a", "d", "b", "c")
    nodes = page_document(run, [flat(run)])["nodes"]
    assert nodes["parent"] == [-1, -1, 0, 0]
    assert nodes["count"] == [3, 1, 2, 1]
    assert nodes["accuracy"] == [1.0, 1.0, 0.5, 1.0]
    assert nodes["confused"] == [[], [], [[3, 1]], []]
    assert nodes["examples"][2] == [0, 1]


def test_without_gold_labels_predictions_are_counted_and_that_is_said():
    run = with_texts(taxonomy_data(TREE), ["x", "y"], gold=np.array([-1, -1]),
                     predicted=np.array([2, 2]))  # fmt: skip
    document = page_document(run, [flat(run)])
    assert document["nodes"]["count"] == [2, 0, 2, 0]
    assert (document["nodes"]["accuracy"], document["nodes"]["confused"]) == (None, None)
    assert "count predictions" in document["notes"][-1]


def test_a_taxonomy_alone_has_no_figures():
    document = page_document(taxonomy_data(TREE), page_layouts(taxonomy_data(TREE)))
    assert document["texts"] is None
    assert document["split"] is None
    for key in ("count", "accuracy", "confused", "examples"):
        assert document["nodes"][key] is None
    assert [plan["name"] for plan in document["layouts"]] == ["tree"]


def test_many_texts_are_thinned_and_examples_still_point_at_theirs(monkeypatch):
    monkeypatch.setattr(pagedata, "MOST_TEXTS", 10)
    run = with_texts(taxonomy_data(TREE), [f"text {i} of node {i % 4}" for i in range(60)])
    plan = dataclasses.replace(flat(run), texts=np.arange(120.0).reshape(60, 2))
    document = page_document(run, [plan])
    texts = document["texts"]
    assert {len(column) for column in texts.values()} == {10}
    rows = [int(text.split()[1]) for text in texts["text"]]
    assert rows == sorted(rows)
    assert texts["gold"] == [row % 4 for row in rows]
    np.testing.assert_array_equal(numbers(document["layouts"][0]["texts"], 2), plan.texts[rows])
    assert sum(document["nodes"]["count"][n] for n in (0, 1)) == 60  # all texts count
    below = {0: {0, 2, 3}, 1: {1}, 2: {2}, 3: {3}}
    for node, examples in enumerate(document["nodes"]["examples"]):
        assert examples
        assert all(texts["gold"][i] in below[node] for i in examples)
    assert "10 of the 60 texts are on this page." in document["notes"]


def test_a_layout_of_another_taxonomy_is_refused():
    run = taxonomy_data(TREE)
    with pytest.raises(OptionError, match=r"shape \(1, 2\); the taxonomy has 4 nodes"):
        page_document(run, [flat(named(["x"]))])
    with pytest.raises(OptionError, match="at least one layout"):
        page_document(run, [])


def test_a_projection_that_fails_is_left_out_and_named(learned, monkeypatch):
    original, said = explorer.project, []

    def project(run: RunData, how: str, *, seed: int = 0) -> Layout:
        if how == "horopca":
            raise OptionError("it does not converge")
        return original(run, how, seed=seed)

    monkeypatch.setattr(explorer, "project", project)
    assert [plan.name for plan in page_layouts(learned, say=said.append)] == ["tree", "pca"]
    assert said == ["The page has no projection 'horopca': it does not converge"]
    with pytest.raises(OptionError, match="converge"):  # asked for by name
        page_layouts(learned, ["horopca"])


# --- texts in short -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=120), st.integers(8, 60))
def test_a_shortened_text_is_a_beginning_in_one_line(text, most):
    line = " ".join(text.split())
    short = shortened(text, most)
    assert len(short) <= most
    if len(line) <= most:
        assert short == line
    else:
        assert short.endswith("…")
        assert line.startswith(short[:-1])
        assert len(short) >= most - 25 or not short[:-1].isascii()


def test_a_text_is_cut_between_letters():
    family = "👩\u200d👩\u200d👧"
    for most in range(12, 30):
        rest = shortened("x" * 10 + family * 10, most)[10:-1]
        assert rest.replace(family, "") == ""
        accents = shortened("x" * 10 + "e\u0301" * 20, most)[10:-1]
        assert accents == "e\u0301" * (len(accents) // 2)


# --- files ----------------------------------------------------------------------------------------


def test_equal_runs_make_equal_files(learned, tmp_path):
    for name in ("a.html", "b.html"):
        assert write_explorer(learned, tmp_path / name) == tmp_path / name
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_projections_can_be_chosen(learned, tmp_path):
    write_explorer(learned, tmp_path / "a.html", how=["pca", "tree"])
    layouts = Page((tmp_path / "a.html").read_text(encoding="utf-8")).data["layouts"]
    assert [plan["name"] for plan in layouts] == ["pca", "tree"]


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "page.html"
    path.write_text("the old one")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        write_explorer(taxonomy_data(TREE), path)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_pages_end_in_html_and_need_a_folder(tmp_path):
    with pytest.raises(OptionError, match=r"must end in \.html"):
        write_explorer(taxonomy_data(TREE), tmp_path / "page.png")
    with pytest.raises(OutputError, match="no folder"):
        write_explorer(taxonomy_data(TREE), tmp_path / "none" / "page.html")


def test_the_page_itself_is_small():
    run = named(["a"])
    text = explorer_html(run, [flat(run)])
    (data,) = Page(text).of("script", id="hyperlm-data")
    assert len(text.encode()) - len(data.encode()) < 300_000


# --- input that is hard to draw -------------------------------------------------------------------


@pytest.mark.parametrize(
    "taxonomy",
    [
        Taxonomy.from_paths([("alone",)]),
        Taxonomy.from_paths([(f"leaf {i}",) for i in range(5000)]),
        Taxonomy.from_paths([[f"level {i}" for i in range(200)]]),
        Taxonomy.from_paths([("n" * 500, "m" * 500), ("שלום", "👩\u200d👩\u200d👧")]),
        Taxonomy.from_edges([("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")]),
    ],
    ids=["one", "star", "chain", "names", "dag"],
)
def test_odd_taxonomies_make_whole_pages(taxonomy):
    run = taxonomy_data(taxonomy)
    run = with_texts(run, ["a text", "👩\u200d👩\u200d👧 " * 200, "", "x" * 5000])
    page = Page(explorer_html(run))
    assert page.data["nodes"]["name"] == list(taxonomy.names)
    positions = numbers(page.data["layouts"][0]["nodes"], 2)
    assert positions.shape == (len(taxonomy), 2)
    assert np.isfinite(positions).all()
    assert max(map(len, page.data["texts"]["text"])) <= 300


def test_edges_to_other_parents_are_on_the_page():
    dag = Taxonomy.from_edges([("b", "a"), ("c", "a"), ("d", "b"), ("d", "c")])
    run = taxonomy_data(dag)
    document = page_document(run, [flat(run)])
    ((child, parent),) = document["nodes"]["also"]
    drawn = document["nodes"]["parent"][child]
    assert {dag.name(drawn), dag.name(parent)} == {"b", "c"}
    assert dag.name(child) == "d"
    assert "several parents" in document["notes"][-1]
    run = taxonomy_data(TREE)
    assert page_document(run, [flat(run)])["nodes"]["also"] is None


def test_positions_that_are_nan_are_refused():
    run = with_texts(taxonomy_data(TREE), ["x"])
    bad = np.full((4, 2), np.nan)
    with pytest.raises(OffManifoldError, match="cannot be drawn"):
        page_document(run, [dataclasses.replace(flat(run), tangents=bad)])
    with pytest.raises(OffManifoldError, match="cannot be drawn"):
        page_document(run, [dataclasses.replace(flat(run), texts=bad[:1])])
