"""The label tree from whatever holds one, the refusals of what does not, and what is told of it."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.data import load_data, read_tree
from hyperlm.data.tree import has_labels_to_show, is_run
from hyperlm.errors import DataError, OptionError, TaxonomyError
from hyperlm.taxonomy import Taxonomy

PATHS = [("a", "b", "c"), ("a", "d", "e"), ("f",)]
TREE = Taxonomy.from_paths(PATHS)
RAGGED = "l1,l2,l3\na,b,c\na,d,e\na,b,c\nf,,\n"


@pytest.mark.parametrize(
    ("name", "content", "levels"),
    [
        ("labels.csv", RAGGED, ("l1", "l2", "l3")),
        ("labels.tsv", RAGGED.replace(",", "\t"), ("l1", "l2", "l3")),
        ("excel.csv", "\ufeff" + RAGGED.replace(",", ";"), ("l1", "l2", "l3")),
        ("paths.csv", "category\na > b > c\na > d > e\nf\n", None),
        (
            "labels.jsonl",
            "".join(json.dumps({"id": i, "label": p}) + "\n" for i, p in enumerate(PATHS)),
            None,
        ),
        ("texts.csv", "text,x,y,z\nhello,a,b,c\nhello,a,d,e\nhello,f,,\n", ("x", "y", "z")),
        ("edges.csv", "child,parent\na,\nf,\nb,a\nc,b\nd,a\ne,d\n", None),
        ("edges3.csv", "child,parent,,\na,,,\nf,,,\nb,a,,\nc,b,,\nd,a,,\ne,d,,\n", None),
        ("edges2.csv", '"Parent";"Child"\n;a\n;f\na;b\nb;c\na;d\nd;e\n', None),
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
        assert found.level_names == levels
        assert found.title == path.stem
        assert (found.counts is None) == (name != "texts.csv")
        assert has_labels_to_show(source)


names = st.text("abcdefgh", min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(names, min_size=1, max_size=3), min_size=1, max_size=12))
def test_labels_alone_are_all_paths_of_the_table_and_no_more(tmp_path_factory, paths):
    table = tmp_path_factory.mktemp("labels") / "t.csv"
    rows = [",".join(path + [""] * (3 - len(path))) for path in paths]
    table.write_text("\n".join(["one,two,three", *rows]) + "\n")
    found = read_tree(table)
    tree = found.taxonomy
    assert {tree.path(int(node)) for node in tree.terminals} >= {tuple(path) for path in paths} - {
        tree.path(node) for node in range(len(tree)) if node not in tree.terminals
    }
    prefixes = {tuple(path[: depth + 1]) for path in paths for depth in range(len(path))}
    assert {tree.path(node) for node in range(len(tree))} == prefixes
    deepest = max(map(len, paths))
    assert found.level_names == (("one", "two", "three") if deepest == 3 else None)


def test_columns_can_be_named(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("id,kind,path\n1,x,a/b\n2,y,a/c\n")
    found = read_tree(table, label_columns=["path"], path_separator="/")
    assert found.taxonomy == Taxonomy.from_paths([("a", "b"), ("a", "c")])
    assert (found.notes, found.advice) == ((), ())
    # An edge list of which columns are named is a table like any other.
    edges = tmp_path / "e.csv"
    edges.write_text("body,child,parent\nhello,b,a\n")
    assert read_tree(edges).counts is None
    both = tmp_path / "both.csv"
    both.write_text("text,child,parent\nhello,b,a\n")
    found = read_tree(both, text_column="text", label_columns=["parent", "child"])
    assert list(found.counts) == [1, 1]
    found = read_tree(edges, text_column="body", label_columns=["parent", "child"])
    assert (found.taxonomy.path(1), list(found.counts)) == (("a", "b"), [1, 1])
    long = tmp_path / "long.csv"
    long.write_text("l1,l2\na," + "x" * 300 + "\n")
    assert len(read_tree(long, label_columns=["l1", "l2"]).taxonomy) == 2


def test_folders_and_named_sets(tmp_path, monkeypatch):
    demo = load_data("demo")
    found = read_tree("demo")
    assert (found.taxonomy, found.level_names) == (demo.taxonomy, demo.level_names)
    assert (found.title, found.counts.sum() > 0) == ("demo", True)
    folder = tmp_path / "v1.2"
    folder.mkdir()
    for split in "train", "test":
        (folder / f"{split}.csv").write_text(f"text,l\nhello,{split}\n")
    found = read_tree(folder)
    assert (set(found.taxonomy.names), found.title) == ({"train", "test"}, "v1.2")
    monkeypatch.setenv("HYPERLM_DATA", str(tmp_path))
    assert has_labels_to_show("v1.2")
    assert read_tree("v1.2").taxonomy == found.taxonomy
    for split in "train", "test":  # labels alone, and a taxonomy with more of them
        (folder / f"{split}.csv").write_text("l\na\n")
    # In a small split every text may have a class of its own: no id.
    few = tmp_path / "few"
    few.mkdir()
    for split, times in ("train", 2), ("test", 1):
        rows = [f"x,{i},{i}a\n" for i in range(25)] * times
        (few / f"{split}.csv").write_text("text,l1,l2\n" + "".join(rows))
    assert len(read_tree(few).taxonomy) == 50
    (folder / "t.taxonomy").write_text("root\ta\tb\n")
    assert set(read_tree(folder).taxonomy.names) == {"a", "b"}
    original = tmp_path / "original"
    original.mkdir()
    for name, lines in ("X", "one two\nthree\n"), ("YL1", "0\n1\n"), ("YL2", "0\n3\n"):
        (original / f"{name}.txt").write_text(lines)
    assert has_labels_to_show(original)
    assert read_tree(original).counts.tolist().count(1) == 4


def test_a_run_is_told_from_data(tmp_path):
    (tmp_path / "train.csv").write_text("text,l\nhello,a\n")
    assert has_labels_to_show(tmp_path)
    (tmp_path / "config.json").write_text('{"lr": 1}')
    assert has_labels_to_show(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "hyperlm"}')
    assert is_run(tmp_path)
    assert not has_labels_to_show(tmp_path)
    assert not has_labels_to_show("owner/name")
    assert has_labels_to_show("owner/name", label_columns=["a"])
    assert has_labels_to_show("missing.json")


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("l1,l2\na,b\n", ["l9"], r"no column 'l9'; the columns are \['l1', 'l2'\]"),
        ("l1,l2\n,b\n", None, "line 2: an empty label above 'b'"),
        (
            "l1,l2\na,b\n,\na,c\n",
            None,
            r"line 3: no label in 'l1', 'l2'\. Label the row or take it out\.$",
        ),
        (
            "kind,blurb\na,b\na," + "x " * 150 + "\na,b\n",
            None,
            "line 3, column 'blurb': .*--text-col",
        ),
        ("l1,l2\n", None, "no rows"),
        (",l1,l2\n0,a,b\n", None, r"column 1 has no name \(the columns are \['', 'l1', 'l2'\]\)"),
        ("Text,l1\nhello,a\n", None, "no column 'text'.*Did you mean 'Text'.*--text-column"),
        ("l1|l2\na|b\n", None, r"If '\|' separates its columns"),
        ("animal > dog\nanimal > cat\n", None, "the first line, 'animal > dog', looks like a path"),
        ("child,parent,text\na,b,x\n", None, "taxonomy, 'text' makes it a table of texts"),
        ("Phones,Smart\nPhones,Old\n", None, "'Phones' is the name of a column and, in line 2"),
        (
            "id,l\n" + "".join(f"{i},a\n" for i in range(30)),
            None,
            "every row has its own 'id'.*--label-columns",
        ),
    ],
)
def test_what_is_no_table_of_labels_is_explained(content, columns, message, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=message):
        read_tree(table, label_columns=columns)


def test_what_is_no_source_of_labels_is_explained(tmp_path):
    (tmp_path / "ring.csv").write_text("child,parent\na,b\nb,a\n")
    with pytest.raises(TaxonomyError, match="Cycle"):
        read_tree(tmp_path / "ring.csv")
    (tmp_path / "blank.csv").write_text("\nchild,parent\nb,a\n")
    with pytest.raises(TaxonomyError, match="line 1: the first line must name the columns"):
        read_tree(tmp_path / "blank.csv")
    (tmp_path / "labels.txt").write_text("a > b\n")
    with pytest.raises(DataError, match=r"Taxonomies end in .*\.yaml.*, tables in .*\.jsonl"):
        read_tree(tmp_path / "labels.txt")
    (tmp_path / "t.csv").write_text("l1,l2\na,b\n")
    with pytest.raises(OptionError, match="give each once"):
        read_tree(tmp_path / "t.csv", label_columns=["l1", "l1"])
    with pytest.raises(OptionError, match="at least one label column"):
        read_tree(tmp_path / "t.csv", label_columns=[])
    with pytest.raises(TaxonomyError, match=r"missing\.json: cannot be read: No such file"):
        read_tree(tmp_path / "missing.json")
    with pytest.raises(DataError, match=r"u\.csv: no such file\. Did you mean 't\.csv'"):
        read_tree(tmp_path / "u.csv")
    TREE.write(tmp_path / "tree.json")
    for options in {"text_column": "a"}, {"label_columns": ["a"]}, {"path_separator": "/"}:
        with pytest.raises(
            OptionError, match=f"--{next(iter(options)).replace('_', '-')}: .*tree.json is"
        ):
            read_tree(tmp_path / "tree.json", **options)


def test_texts_are_counted_at_every_node_of_their_paths():
    """Against a loop over the paths themselves."""
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
    assert found.notes == ("912 texts; 130 labels on 3 levels (9 + 45 + 76).",)


def test_pairs_of_nodes_and_what_is_above_them_in_a_dag():
    dag = Taxonomy.from_edges([("a", None), ("b", None), ("c", "a"), ("c", "b"), ("d", "c")])
    ends = np.array([dag.index("d"), -1, dag.index("a")])
    row, node = dag.at_or_above(ends)
    found = {(int(i), dag.name(int(n))) for i, n in zip(row, node, strict=True)}
    assert found == {(0, "d"), (0, "c"), (0, "a"), (0, "b"), (2, "a")}
    assert len(row) == len(found)


def test_one_split_of_many_may_stand_alone(tmp_path):
    """Without train and all the first table is looked at for ids."""
    rows = "".join(f"x,{i},a\n" for i in range(30))
    (tmp_path / "test.csv").write_text("text,id,l\n" + rows)
    with pytest.raises(DataError, match="every row has its own 'id'"):
        read_tree(tmp_path)


def test_what_is_told_of_the_labels(tmp_path):
    table = tmp_path / "two.jsonl"
    rows = (
        {"text": "x", "labels": [["a", "b"], ["a", "c"]]},
        {"text": "y", "labels": [["a", "b"]]},
    )
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_tree(table)
    at = {name: found.counts[node] for node, name in enumerate(found.taxonomy.names)}
    assert at == {"a": 2, "b": 2, "c": 1}  # a text of two paths counts once where they meet
    many = "3 labels on 2 levels (1 + 2)"
    assert found.notes == (f"2 texts; {many}. Leaves with a single text: 1 of 2 (a > c).",)
    table = tmp_path / "t.csv"
    table.write_text("text,l1,l2\nhello,a,b\nhello,a,b\nhello,a,mis\x1b[31m\n")
    found = read_tree(table)
    assert found.advice == ("Levels: l1 > l2 (--label-columns names others).",)
    assert found.notes == (f"3 texts; {many}. Leaves with a single text: 1 of 2 (a > mis[31m).",)
    table.write_text("category\na/b\na/c\nd/e\n")
    (line,) = read_tree(table).advice
    assert "If '/' separates levels, give it as --path-separator; if labels of one text" in line
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("text,l\nhello,a\nhello,a\n")
    (folder / "t.taxonomy").write_text("root\ta\tb\n")
    assert read_tree(folder).notes == ("2 texts; 2 labels on 1 level. Labels without a text: 1.",)
