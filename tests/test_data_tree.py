"""The label tree from whatever holds one: each form gives the tree that ``from_paths`` makes."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.data import load_data, read_tree
from hyperlm.data.tree import holds_taxonomy
from hyperlm.errors import DataError, HyperlmError, OptionError, TaxonomyError
from hyperlm.taxonomy import Taxonomy
from hyperlm.viz import project, read_source
from hyperlm.viz.pagedata import page_document

PATHS = [("a", "b", "c"), ("a", "d", "e"), ("f",)]
TREE = Taxonomy.from_paths(PATHS)
RAGGED = "l1,l2,l3\na,b,c\na,d,e\na,b,c\nf,,\n"


@pytest.mark.parametrize(
    ("name", "content", "levels"),
    [
        ("labels.csv", RAGGED, ("l1", "l2", "l3")),
        ("labels.tsv", RAGGED.replace(",", "\t"), ("l1", "l2", "l3")),
        ("excel.csv", RAGGED.replace(",", ";"), ("l1", "l2", "l3")),
        ("paths.csv", "category\na > b > c\na > d > e\nf\n", None),
        (
            "labels.jsonl",
            "".join(json.dumps({"id": i, "label": p}) + "\n" for i, p in enumerate(PATHS)),
            None,
        ),
        ("texts.csv", "text,x,y,z\nhello,a,b,c\nhello,a,d,e\nhello,f,,\n", ("x", "y", "z")),
        ("edges.csv", "child,parent\na,\nf,\nb,a\nc,b\nd,a\ne,d\n", None),
    ],
)
def test_every_form_gives_the_same_tree(name, content, levels, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    for source in path, str(path), packed:
        found = read_tree(source)
        assert found.taxonomy == TREE
        if levels is not None:
            assert found.level_names == levels
    assert read_source(path).taxonomy == TREE


def test_what_a_csv_holds_is_told_by_its_header(tmp_path):
    for number, (header, row, is_tree) in enumerate(
        (
            ("child,parent", "a,b", True),
            ('"Parent";"Child"', "b;a", True),
            ("text,parent_category,child_category", "x,a,b", False),
            ("text,parent,child", "x,a,b", False),
            ("parent,name", "a,b", False),
        )
    ):
        table = tmp_path / f"{number}.csv"
        table.write_text(f"{header}\n{row}\n")
        assert holds_taxonomy(table) is is_tree, header
    assert holds_taxonomy("x.yaml")
    assert not holds_taxonomy("x.jsonl.gz")


names = st.text("abcdefgh", min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(names, min_size=1, max_size=3), min_size=1, max_size=12))
def test_labels_alone_are_those_of_from_paths(tmp_path_factory, paths):
    table = tmp_path_factory.mktemp("labels") / "t.csv"
    rows = [",".join(path + [""] * (3 - len(path))) for path in paths]
    table.write_text("\n".join(["one,two,three", *rows]) + "\n")
    found = read_tree(table)
    assert found.taxonomy == Taxonomy.from_paths(sorted(map(tuple, paths)))
    deepest = max(map(len, paths))
    assert found.level_names == (("one", "two", "three") if deepest == 3 else None)


def test_columns_can_be_named(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("id,kind,path\n1,x,a/b\n2,y,a/c\n")
    found = read_tree(table, label_columns=["path"], path_separator="/")
    assert found.taxonomy == Taxonomy.from_paths([("a", "b"), ("a", "c")])
    assert read_source(table, columns={"label_columns": ["kind"]}).level_names == ("L1",)
    # an edge list with label columns is a table like any other
    edges = tmp_path / "e.csv"
    edges.write_text("child,parent\nb,a\n")
    assert read_tree(edges, label_columns=["parent", "child"]).taxonomy.path(1) == ("a", "b")


def test_a_data_set_gives_its_labels_and_no_texts(tmp_path):
    demo = load_data("demo")
    found = read_source("demo")
    assert (found.taxonomy, found.level_names) == (demo.taxonomy, demo.level_names)
    assert (found.points, found.texts) == (None, None)
    for split in "train", "test":
        (tmp_path / f"{split}.csv").write_text(f"text,l\nhello,{split}\n")
    assert set(read_source(tmp_path).taxonomy.names) == {"train", "test"}
    with pytest.raises(OptionError, match="texts need a model"):
        read_source("demo", data="demo")


@pytest.mark.parametrize(
    ("content", "columns", "error", "message"),
    [
        ("l1,l2\na,b\n", ["l9"], DataError, r"no column 'l9'; the columns are \['l1', 'l2'\]"),
        ("l1,l2\n,b\n", None, DataError, "line 2: an empty label above 'b'"),
        ("l1,l2\na,b\n,\n", None, DataError, "line 3: no label in 'l1', 'l2'"),
        ("kind,blurb\na," + "x " * 150 + "\n", None, DataError, "line 2: .*--text-column"),
        ("l1,l2\n", None, DataError, "no rows"),
        ("child,parent\na,b\nb,a\n", None, TaxonomyError, "Cycle"),
        ("", None, HyperlmError, "t.csv"),
    ],
)
def test_what_cannot_be_used_is_explained(content, columns, error, message, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(content)
    with pytest.raises(error, match=message):
        read_tree(table, label_columns=columns)


def test_columns_belong_to_tables(tmp_path):
    with pytest.raises(OptionError, match="--label-columns: of a table of labels"):
        read_source(tmp_path / "run", columns={"label_columns": ["a"]})


def test_texts_are_counted_at_every_node_of_their_paths(tmp_path):
    """Against a loop over the paths themselves; a text of two paths counts once where they meet."""
    demo = load_data("demo")
    found = read_tree("demo")
    every = [
        {path[: depth + 1] for path in paths for depth in range(len(path))}
        for split in (demo.train, demo.val, demo.test)
        for paths in split.paths
    ]
    for node in range(len(demo.taxonomy)):
        path = demo.taxonomy.path(node)
        assert found.counts[node] == sum(path in above for above in every)
    assert found.texts == len(every) == 912
    table = tmp_path / "two.jsonl"
    rows = (
        {"text": "x", "labels": [["a", "b"], ["a", "c"]]},
        {"text": "y", "labels": [["a", "b"]]},
    )
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = []
    shown = read_source(table, say=notes.append)
    at = {name: shown.counts[node] for node, name in enumerate(shown.taxonomy.names)}
    assert at == {"a": 2, "b": 2, "c": 1}
    assert (
        list(shown.notes)
        == notes
        == ["2 texts have these labels. 1 of 2 leaves have a single text: c"]
    )
    document = page_document(shown, [project(shown, "tree")])
    assert document["nodes"]["count"] == [2, 2, 1]
    assert document["notes"] == notes
