"""The explorer page as a document: what it holds, and that names and texts stay data.

A parser of the standard library stands for the browser; the page in a real one has tests of its
own.
"""

import base64
import dataclasses
import hashlib
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm import Taxonomy
from hyperlm.errors import OffManifoldError, OptionError, OutputError
from hyperlm.viz import explorer, pagedata
from hyperlm.viz.explorer import (
    content_policy,
    data_text,
    explorer_html,
    fill_page,
    page_layouts,
    write_explorer,
)
from hyperlm.viz.layout import Layout
from hyperlm.viz.pagedata import page_document, shortened
from hyperlm.viz.rundata import RunData, TextData, taxonomy_data

HOSTILE = [
    "</script><img onerror=alert(1) src=x>",
    "<!--<script>",
    "-->",
    "]]>",
    "</ScRiPt ><svg/onload=alert(1)>",
    "<\u2028script>\u2029",
    "&lt;b&gt; &amp; &#60;",
    "\\u003cscript\\u003e",
    "\"quotes\" 'and' `ticks` ${1}",
    "__DATA__ __SCRIPT__ __TITLE__",
    "\ud83d half of a pair",
    "\u202eright to left\u202c",
    "\x01\x7f control\x1b[31m",
    "שלום עולם",
    "👩\u200d👩\u200d👧 family",
]
TREE = Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)], name="small")
PARTS = {
    "page": '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>__TITLE__</title>'
    "<style>__STYLE__</style></head><body><h1>__TITLE__</h1>"
    '<script type="application/json" id="hyperlm-data">__DATA__</script>'
    "<script>\n__SCRIPT__\n</script></body></html>",
    "style": "h1 { color: red }",
    "script": 'const a = 1 < 2 && "<b>";',
}


class Page(HTMLParser):
    """Elements in order, and what stands in those that matter."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.others: list[str] = []
        self.open = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside.append((tag, ""))
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, before = self.inside[-1]
            self.inside[-1] = (tag, before + data)

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def of(self, tag: str, **attributes: str) -> list[str]:
        found = zip(self.tags, self.inside, strict=True)
        return [
            text
            for (name, have), (_, text) in found
            if name == tag and attributes.items() <= have.items()
        ]

    @property
    def data(self) -> Any:
        (text,) = self.of("script", id="hyperlm-data")
        return json.loads(text)

    @property
    def policy(self) -> dict[str, list[str]]:
        (content,) = [
            attrs["content"]
            for tag, attrs in self.tags
            if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        assert content is not None
        rules = (rule.split() for rule in content.split("; "))
        return {name: values for name, *values in rules}


def named(names: list[str], title: str = "t") -> RunData:
    """A taxonomy of one level."""
    taxonomy = Taxonomy(names, np.zeros((0, 2), dtype=np.int64))
    return taxonomy_data(taxonomy, title=title)


def flat(run: RunData) -> Layout:
    """The cheapest layout there is."""
    return Layout("tree", np.zeros((len(run.taxonomy), 2)), None, ("flat",))


def with_texts(run: RunData, texts: list[str], **changes: Any) -> RunData:
    count, size = len(texts), len(run.taxonomy)
    gold = np.arange(count) % size
    data = TextData(
        tuple(texts),
        np.random.default_rng(0).normal(size=(count, 3)),
        gold,
        (gold + (np.arange(count) % 4 == 0)) % size,
        np.linspace(0.2, 0.9, count),
        np.stack([gold, (gold + 1) % size], 1),
        np.tile([0.6, 0.3], (count, 1)),
        "val",
    )
    return dataclasses.replace(run, texts=dataclasses.replace(data, **changes))


@pytest.fixture(scope="module")
def learned() -> RunData:
    """Points and texts of a taxonomy of two levels."""
    taxonomy = Taxonomy.from_paths([(f"top {i}", f"leaf {j}") for i in range(4) for j in range(5)])
    points = np.random.default_rng(1).normal(size=(len(taxonomy), 3))
    run = dataclasses.replace(
        taxonomy_data(taxonomy, title="learned"), points=points, geometry="poincare", c=1.5
    )
    return with_texts(run, [f"text number {i}" for i in range(30)])


# --- names and texts are data ---------------------------------------------------------------------


def plain_tags(run: RunData) -> list[tuple[str, dict[str, str | None]]]:
    return Page(explorer_html(named(["x"]), [flat(named(["x"]))])).tags


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_shows_as_text(name):
    label = name.replace("\ud83d", "?")  # a taxonomy refuses halves of pairs, a text may hold them
    run = with_texts(named([label, "tame"], title=name), [name] * 3)
    page = Page(explorer_html(run, [flat(run)]))
    assert page.tags == plain_tags(run)
    assert page.data["nodes"]["name"] == list(run.taxonomy.names)
    assert page.data["title"] == name
    assert page.data["texts"]["text"] == [" ".join(name.split())] * 3
    (title,) = page.of("title")
    assert title.strip().startswith(name.replace("\ud83d", "\ufffd").strip()[:6])


hostile_text = st.one_of(
    st.text(st.characters(codec=None), max_size=40),
    st.lists(
        st.sampled_from(["<", ">", "</", "script", "<!--", "-->", "&", '"', "'", "\\", "\0", " "]),
        max_size=8,
    ).map("".join),
    st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile_text, min_size=1, max_size=5), hostile_text)
def test_any_names_come_back_exactly_and_add_no_element(texts, title):
    document = {"title": title, "names": texts, **{text: index for index, text in enumerate(texts)}}
    text = fill_page(PARTS, title, data_text(document), served=False)
    text.encode("utf-8")  # it can be written
    page = Page(text)
    assert page.data == document
    names = ["html", "head", "meta", "meta", "title", "style", "body", "h1", "script", "script"]
    assert [tag for tag, _ in page.tags] == names
    assert page.others == []
    assert page.of("style") == [PARTS["style"]]


@settings(max_examples=50, deadline=None)
@given(hostile_text)
def test_the_data_has_no_sign_that_html_knows(text):
    escaped = data_text({text: [text]})
    assert not set(escaped) & set("<>&\u2028\u2029")
    assert json.loads(escaped) == {text: [text]}


@pytest.mark.parametrize("what", ["style", "script"])
@pytest.mark.parametrize("sign", ["</script", "</STYLE", "<!--", "<script"])
def test_a_script_that_would_end_itself_is_refused(what, sign):
    with pytest.raises(OptionError, match="would end it early"):
        fill_page(PARTS | {what: f"'{sign}>'"}, "t", "{}", served=False)


# --- the policy -----------------------------------------------------------------------------------


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("served", [False, True])
def test_the_policy_allows_this_script_and_style_alone(served):
    run = named(["a"])
    page = Page(explorer_html(run, [flat(run)], served=served))
    scripts = [
        text
        for (tag, attrs), (_, text) in zip(page.tags, page.inside, strict=True)
        if tag == "script" and attrs.get("type") != "application/json"
    ]
    assert page.policy == {
        "default-src": ["'none'"],
        "script-src": [sha256(text) for text in scripts],
        "style-src": [sha256(text) for text in page.of("style")],
        "img-src": ["data:", "blob:"],
        "connect-src": ["'self'" if served else "'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    assert len(scripts) == 1
    assert page.data["served"] is served


def test_the_policy_comes_before_all_it_governs():
    run = named(["a"])
    names = [tag for tag, _ in Page(explorer_html(run, [flat(run)])).tags]
    assert names[:4] == ["html", "head", "meta", "meta"]


def test_the_page_asks_nobody_for_anything():
    run = named(["a"])
    text = explorer_html(run, [flat(run)])
    for _, attributes in Page(text).tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    addresses = {part.split('"')[0].split("'")[0] for part in text.split("http")[1:]}
    assert {a for a in addresses if a.startswith(("://", "s://"))} <= {"://www.w3.org/2000/svg"}
    assert "@import" not in text
    assert "url(" not in text


def test_a_policy_can_be_had_without_a_page():
    assert "connect-src 'self'" in content_policy(served=True)
    assert sha256(f"\n{PARTS['script']}\n") in content_policy(PARTS)


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

    def project(run: RunData, how: str) -> Layout:
        if how == "horopca":
            raise OptionError("it does not converge")
        return original(run, how)

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


def test_positions_that_are_nan_are_refused():
    run = with_texts(taxonomy_data(TREE), ["x"])
    bad = np.full((4, 2), np.nan)
    with pytest.raises(OffManifoldError, match="cannot be drawn"):
        page_document(run, [dataclasses.replace(flat(run), tangents=bad)])
    with pytest.raises(OffManifoldError, match="cannot be drawn"):
        page_document(run, [dataclasses.replace(flat(run), texts=bad[:1])])
