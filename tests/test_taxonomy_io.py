"""Files and graphs: what is written reads back equal, and what cannot be read says where."""

import gzip
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import networkx as nx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.errors import OutputError, TaxonomyError
from hyperlm.taxonomy import Taxonomy

ODD = (
    "root",
    "_root",
    "a > b",
    "a",
    "a > a > b",
    "b",
    " b ",
    'say "x", y',
    "no",
    "2001",
    "~",
    "null",
    "-",
    "- x",
    "a: b # c",
    "{a}",
    "*a",
    "%",
    "Æ±\u2028\x85\ufeff\x00\U0001f600",
    "x\\n",
    "long " * 400,
    "Company (Business)",
)
BREAKS = ("tab\there", "line\nbreak", "carriage\rreturn", "\rx\r", "end\r\n ends")


@st.composite
def trees(draw, names="abcd", inner_terminals=False):
    path = st.lists(st.sampled_from(names), min_size=1, max_size=4)
    t = Taxonomy.from_paths(draw(st.lists(path, min_size=1, max_size=10)))
    return t if inner_terminals else t.with_terminals([])


@st.composite
def dags(draw, inner_terminals=False):
    count = draw(st.integers(1, 10))
    edges = []
    for child in range(1, count + 1):
        parents = draw(st.lists(st.integers(0, child - 1), min_size=1, max_size=3, unique=True))
        edges += [(f"n{child}", f"n{parent}") for parent in parents]
    terminals = draw(st.lists(st.sampled_from(edges), max_size=2)) if inner_terminals else []
    return Taxonomy.from_edges(
        draw(st.permutations(edges)), root="n0", terminals=[child for child, _ in terminals]
    )


ANY = st.one_of(trees(inner_terminals=True), trees(ODD + BREAKS, True), dags(True))
ANY_TREE = st.one_of(trees(), trees(ODD + BREAKS))


def round_trip(t, suffix):
    with TemporaryDirectory() as folder:
        path = Path(folder, f"labels{suffix}")
        t.write(path)
        assert [p.name for p in Path(folder).iterdir()] == [path.name]
        return Taxonomy.read(path)


def round_trip_or_reason(t, suffix):
    """Why the format cannot hold the taxonomy, or "" once it has come back equal."""
    try:
        twin = round_trip(t, suffix)
    except TaxonomyError as error:
        return str(error)
    assert twin == t
    return ""


@settings(deadline=None, max_examples=50)
@given(ANY, st.sampled_from([".json", ".json.gz"]))
def test_json_holds_every_taxonomy(t, suffix):
    assert round_trip(t, suffix) == t


@settings(deadline=None, max_examples=50)
@given(ANY_TREE, st.sampled_from([".yaml", ".yml", ".yaml.gz"]))
def test_nested_yaml_holds_every_tree(t, suffix):
    assert round_trip(t, suffix) == t


@settings(deadline=None, max_examples=100)
@given(ANY_TREE, st.sampled_from([".csv", ".tsv", ".csv.gz"]))
def test_edge_lists_hold_trees_unless_names_look_like_paths(t, suffix):
    reason = round_trip_or_reason(t, suffix)
    if any(x != x.strip() for x in t.names):
        assert "begins or ends with a blank" in reason
    else:
        assert not reason or ("would stand for" in reason and any(" > " in x for x in t.names))


@settings(deadline=None, max_examples=100)
@given(st.one_of(trees(), trees(ODD)))
def test_taxonomy_lines_hold_trees_unless_names_look_like_paths(t):
    reason = round_trip_or_reason(t, ".taxonomy")
    if any(x != x.strip() for x in t.names):
        assert "begins or ends with a blank" in reason
    else:
        assert not reason or ("would stand for" in reason and any(" > " in x for x in t.names))


@settings(deadline=None, max_examples=50)
@given(dags(), st.sampled_from([".csv", ".tsv", ".csv.gz"]))
def test_edge_lists_hold_dags(t, suffix):
    assert round_trip(t, suffix) == t


@settings(deadline=None, max_examples=50)
@given(dags())
def test_taxonomy_lines_hold_dags_unless_the_order_of_parents_is_lost(t):
    reason = round_trip_or_reason(t, ".taxonomy")
    assert not reason or ("loses the order" in reason and not t.is_tree)


@settings(deadline=None, max_examples=50)
@given(ANY)
def test_networkx_round_trip(t):
    graph = t.to_networkx()
    top = {(-1, n) for n in t.levels[0].tolist()}
    assert set(graph.edges) == top | {(p, c) for c, p in t.edges.tolist()}
    assert Taxonomy.from_networkx(graph) == t


@settings(deadline=None, max_examples=50)
@given(ANY_TREE)
def test_nested_yaml_means_the_same_to_another_reader(t):
    def nested(node):
        return {t.name(n): nested(n) for n in t.children(node).tolist()}

    with TemporaryDirectory() as folder:
        t.write(Path(folder, "t.yaml"))
        text = Path(folder, "t.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == nested(-1)


def test_both_yaml_parsers_read_the_same(monkeypatch, tmp_path):
    t = Taxonomy.from_paths([("no", "2001"), ("x y", "long " * 400, "z"), ("ß",)])
    t.write(tmp_path / "t.yaml")
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert Taxonomy.read(tmp_path / "t.yaml") == t


def test_yaml_nested_deeper_than_the_stack(tmp_path):
    deep = Taxonomy.from_paths([[f"n{i}" for i in range(sys.getrecursionlimit() + 100)]])
    deep.write(tmp_path / "t.yaml")
    assert Taxonomy.read(tmp_path / "t.yaml") == deep


# -- reading what others wrote -------------------------------------------------------------------


def read(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Taxonomy.read(path)


def leaf_paths(t):
    return [t.path(n) for n in t.leaves]


def test_tab_separated_taxonomy_lines(tmp_path):
    lines = "Root\tA\tB\r\nA\tA1\tA2 (Zoo)\t\n\nB\tB1\nB1\tB11"
    t = read(tmp_path, "labels.taxonomy", lines)
    assert t.names == ("A", "B", "A1", "A2 (Zoo)", "B1", "B11")
    assert leaf_paths(t) == [("A", "A1"), ("A", "A2 (Zoo)"), ("B", "B1", "B11")]
    assert t.title == "labels"


def test_taxonomy_lines_may_come_in_any_order_and_repeat_a_parent(tmp_path):
    t = read(tmp_path, "t.taxonomy", "A\tA1\nB\nRoot\tB\tA\nA\tA2\n")
    assert t.names == ("B", "A", "A1", "A2")


def test_a_csv_with_semicolons_is_read_as_excel_writes_it(tmp_path):
    rows = "child;parent\r\nA;Root\r\nB, or not;A\r\nC;Root\r\n"
    t = read(tmp_path, "t.csv", "\ufeff" + rows)
    assert [t.path(node) for node in range(len(t))] == [("A",), ("C",), ("A", "B, or not")]
    commas = read(tmp_path, "u.csv", 'child,parent\n"a;b",Root\n')
    assert commas.name(0) == "a;b"


def test_edge_list_columns_are_found_by_name(tmp_path):
    text = "Parent,weight, child\nRoot,1,A\nRoot,1,B\n\nA,2,A1\n,3,Root\n"
    t = read(tmp_path, "t.csv", "\ufeff" + text)
    assert t.names == ("A", "B", "A1")
    assert read(tmp_path, "t.tsv", text.replace(",", "\t")) == t


def test_edge_list_whose_names_are_whole_paths(tmp_path):
    t = read(tmp_path, "t.csv", "child,parent\na,R\na > b,a\nc,R\nc > b,c\nc > b > d,c > b\n")
    assert leaf_paths(t) == [("a", "b"), ("c", "b", "d")]


def test_nested_yaml_with_lists_nulls_and_single_names(tmp_path):
    text = """
    # comment
    Sports:
      - Tennis
      - Football: [Men, Women]
        Golf:
    no: 2001
    Empty: {}
    None: ~
    """
    t = read(tmp_path, "t.yml", text)
    assert leaf_paths(t) == [
        ("Empty",),
        ("None",),
        ("Sports", "Tennis"),
        ("Sports", "Golf"),
        ("no", "2001"),
        ("Sports", "Football", "Men"),
        ("Sports", "Football", "Women"),
    ]


def test_networkx_graph_of_names():
    graph = nx.DiGraph([("R", "a"), ("R", "b"), ("a", "c"), ("b", "c")])
    graph.nodes["a"]["terminal"] = True
    t = Taxonomy.from_networkx(graph)
    assert t == Taxonomy.from_edges(
        [("a", "R"), ("b", "R"), ("c", "a"), ("c", "b")], terminals=["a"]
    )
    ontology = nx.MultiDiGraph([(0, 1), (0, 1), (0, 2)])
    nx.set_node_attributes(ontology, {0: "top", 1: "one"}, "name")
    assert Taxonomy.from_networkx(ontology).names == ("one", "2")


def test_titles(tmp_path):
    t = Taxonomy.from_paths([("a",), ("b",)], name="My labels")
    t.write(tmp_path / "x.json")
    t.write(tmp_path / "x.csv.gz")
    assert Taxonomy.read(tmp_path / "x.json").title == "My labels"
    assert Taxonomy.read(str(tmp_path / "x.csv.gz")).title == "x"
    t.write(tmp_path / "x.2.1.csv.gz")
    assert Taxonomy.read(tmp_path / "x.2.1.csv.gz").title == "x.2.1"
    assert Taxonomy.from_networkx(t.to_networkx()).title == "My labels"


# -- refusals --------------------------------------------------------------------------------------

BROKEN = {
    "no header": ("t.csv", "A,Root\nB,Root\n", "t.csv: line 1: .*'child' and 'parent'.*'A,Root'"),
    "empty csv": ("t.csv", "", "file is empty"),
    "only a header": ("t.csv", "child,parent\n", "at least one node"),
    "short row": ("t.csv", 'child,parent\n"A\nA",R\nB\n', "line 4: 1 cells where 2"),
    "long row": ("t.tsv", "child\tparent\nA\tR\tx\n", "line 2: 3 cells where 2"),
    "no child": ("t.csv", "child,parent\nA,R\n ,R\n", "line 3: the child's name is empty"),
    "open quote": ("t.csv", 'child,parent\nA,R\n"B,R\n', "line 3: malformed"),
    "stray quote": ("t.csv", 'child,parent\n"A"b,R\n', "line 2: malformed"),
    "cycle in a file": ("t.csv", "child,parent\nA,B\nB,A\n", "t.csv: Cycle"),
    "gap in a line": ("t.taxonomy", "Root\tA\nA\t\tB\n", "line 2: name 2 of 3 is empty"),
    "no parent": ("t.taxonomy", "Root\tA\n\tB\n", "line 2: name 1 of 2 is empty"),
    "latin 1": ("t.csv", b"child,parent\nA,R\n\xe4,R\n", "line 3: byte 0xe4 at offset 17"),
    "not gzip": ("t.json.gz", "{}", "not a whole gzip file"),
    "half gzip": ("t.json.gz", gzip.compress(b'{"names": ["a"]}')[:-9], "not a whole gzip file"),
    "bad json": ("t.json", '{"names":\n oops}', "line 2, column 2: not JSON"),
    "deep json": ("t.json", "[" * 100_000, "too deeply"),
    "other json": ("t.json", '{"A": {"B": {}}}', "keys 'names'.*got 'A'"),
    "json list": ("t.json", "[1]", "keys 'names'"),
    "json names": ("t.json", '{"names": ["a", 3], "edges": []}', "node 1: .* got int 3"),
    "json edges": ("t.json", '{"names": ["a"], "edges": "x"}', "edges must be integers"),
    "bad yaml": ("t.yaml", "A:\n  - B\n C: D\n", "line 3: not YAML"),
    "control character": ("t.yaml", "A: \x01\n", "not YAML"),
    "twice in yaml": ("t.yaml", "A:\n  B:\n  B:\n", "line 3: 'B' occurs twice below 'A'"),
    "twice at the top": ("t.yaml", "A:\nA:\n", "line 2: 'A' occurs twice below 'the root'"),
    "twice in a list": ("t.yaml", "A:\n- B\n- B: C\n", "line 3: 'B' occurs twice"),
    "yaml alias": ("t.yaml", "A: &x [B]\nC: *x\n", "line 2: .x is an alias"),
    "empty yaml": ("t.yaml", "# nothing\n", "at least one node"),
    "yaml text": ("t.yaml", "nonsense", "expected names with children, got 'nonsense'"),
    "empty yaml name": ("t.yaml", 'A:\n  "": B\n', "line 2: a name is empty"),
    "empty yaml leaf": ("t.yaml", 'A: " "\n', "line 1: a name is empty"),
    "null in a list": ("t.yaml", "A:\n- B\n-\n", "line 3: a name is empty"),
    "list in a list": ("t.yaml", "A:\n- [B]\n", "line 2: a list directly in a list"),
    "mapping as a name": ("t.yaml", "? {A: B}\n: C\n", "line 1: a name must be text"),
    "two documents": ("t.yaml", "A: B\n---\nC: D\n", "line 2: a second document"),
    "unknown suffix": ("t.xml", "", "t.xml: .*one of .json, .csv"),
    "no suffix": ("t.gz", "", "one of .json"),
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN.values(), ids=BROKEN)
def test_refuses_to_read(tmp_path, name, content, message):
    with pytest.raises(TaxonomyError, match=message) as caught:
        read(tmp_path, name, content)
    assert name in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TaxonomyError, match=r"absent\.json: cannot be read: No such file"):
        Taxonomy.read(tmp_path / "absent.json")


DAG = Taxonomy.from_edges([("c", "a"), ("c", "b")])
INNER = Taxonomy.from_paths([("a",), ("a", "b")])
TABBED = Taxonomy.from_paths([("a\tb",)])
LOOKALIKE = Taxonomy.from_paths([("a", "x"), ("a > x",), ("x",)])


@pytest.mark.parametrize(
    ("taxonomy", "name", "message"),
    [
        (DAG, "t.yaml", "nested YAML holds trees.*write .json or .csv"),
        (INNER, "t.yaml", "1 inner nodes, the first 'a'.*write .json"),
        (INNER, "t.csv", "1 inner nodes, the first 'a'.*write .json"),
        (INNER, "t.taxonomy", "1 inner nodes, the first 'a'.*write .json"),
        (TABBED, "t.taxonomy", r"'a\\tb' holds a tab.*write .json"),
        (LOOKALIKE, "t.csv", "'a > x' would stand for 2 nodes.*write .json"),
        (DAG, "t.xls", "one of .json"),
    ],
)
def test_refuses_to_write_what_would_read_back_different(tmp_path, taxonomy, name, message):
    with pytest.raises(TaxonomyError, match=message):
        taxonomy.write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    DAG.write(path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OutputError, match=r"t\.json: cannot be written: No space left"):
        INNER.write(path)
    assert Taxonomy.read(path) == DAG
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        DAG.write(tmp_path / "no" / "t.json")


def test_equal_taxonomies_make_equal_files(tmp_path):
    for name in ("a.json.gz", "b.json.gz"):
        DAG.write(tmp_path / name)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert json.loads(gzip.decompress((tmp_path / "a.json.gz").read_bytes())) == DAG.to_dict()
