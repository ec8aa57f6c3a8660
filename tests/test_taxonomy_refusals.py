"""What no taxonomy can be made of, and questions without an answer."""

import itertools

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.errors import HyperlmError, TaxonomyError
from hyperlm.taxonomy import Taxonomy


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 5))
def test_a_cycle_is_named_node_by_node(length, tail):
    ring = [(f"r{(i + 1) % length}", f"r{i}") for i in range(length)]
    below = [(f"t{i}", f"t{i - 1}" if i else "r0") for i in range(tail)]
    with pytest.raises(TaxonomyError, match="Cycle") as caught:
        Taxonomy.from_edges([*below, ("r0", "R"), *ring])
    shown = str(caught.value).split(": ", 1)[1].split(". ")[0].split(" -> ")
    assert sorted(shown[:-1]) == sorted(f"r{i}" for i in range(length))
    assert shown[0] == shown[-1]
    assert all((b, a) in ring for a, b in itertools.pairwise(shown))  # parent -> child


def test_a_long_cycle_is_shown_in_part():
    ring = [(f"r{(i + 1) % 50}", f"r{i}") for i in range(50)]
    with pytest.raises(TaxonomyError, match="50 nodes"):
        Taxonomy.from_edges(ring)


T = Taxonomy
REFUSED = {
    "unreachable": (
        lambda: T.from_edges([("a", "R"), ("c", "b")], root="R"),
        "'b' cannot be reached",
    ),
    "rooted root": (
        lambda: T.from_edges([("R", "a"), ("a", "b")], root="R"),
        "'R' has the parent 'a'",
    ),
    "unknown root": (lambda: T.from_edges([("a", "Root")], root="root"), "no 'root'. Did.*'Root'"),
    "unknown terminal": (lambda: T.from_edges([("ab", "R")], terminals=["abb"]), "terminal.*'ab'"),
    "terminal root": (lambda: T.from_edges([("a", "R")], terminals=["R"]), "root 'R' cannot be"),
    "two parents": (
        lambda: T.from_edges([("c", "a"), ("c", "b")], tree=True),
        "'c' has the parents 'a' and 'b'",
    ),
    "empty child": (
        lambda: T.from_edges([("a", "R"), ("", "R")]),
        "edge 1, child: the name is empty",
    ),
    "empty parent": (lambda: T.from_edges([("a", " ")]), "edge 0, parent: the name is empty"),
    "no name": (lambda: T.from_edges([("a", 5)]), "edge 0, parent: .* got int 5"),
    "not a pair": (lambda: T.from_edges([("a", "b"), ("a", "b", "c")]), "edge 1 is"),
    "string for a pair": (lambda: T.from_edges(["ab"]), "edge 0 is 'ab'"),
    "number for a pair": (lambda: T.from_edges([7]), "edge 0 is 7"),
    "no edges": (lambda: T.from_edges([]), "at least one node"),
    "root alone": (lambda: T.from_edges([("R", None)]), "at least one node"),
    "no paths": (lambda: T.from_paths([]), "at least one node"),
    "empty path": (lambda: T.from_paths([("a",), ()]), "path 1 is empty"),
    "empty name": (lambda: T.from_paths([("a",), ("a", "\t")]), "path 1: the name is empty"),
    "missing name": (lambda: T.from_paths([("a", None)]), "path 0: .* NoneType"),
    "string for a path": (lambda: T.from_paths(["abc"]), "path 0 is the string 'abc'"),
    "no path": (lambda: T.from_paths([None]), "path 0 is None"),
    "list for a name": (lambda: T.from_paths([[["a"]]]), "path 0 is"),
    "half a character": (lambda: T.from_paths([["a\ud800"]]), "not valid Unicode"),
    "equal siblings": (lambda: T(["a", "b", "b"], [(1, 0), (2, 0)]), "below 'a' have the name 'b'"),
    "equal tops": (lambda: T(["a", "a"], []), "at the top have the name 'a'"),
    "equal in a DAG": (
        lambda: T(["a", "b", "c", "c", "d"], [(2, 0), (3, 1), (4, 2), (4, 3)]),
        "'c'; in a DAG every name is one node",
    ),
    "edge out of range": (lambda: T(["a", "b"], [(1, 2)]), "edges hold numbers from 1 to 2"),
    "negative terminal": (lambda: T(["a", "b"], [], [-1]), "terminals hold numbers from -1"),
    "float edges": (lambda: T(["a", "b"], [(1.0, 0.0)]), "edges must be integers, got float64"),
    "ragged edges": (lambda: T(["a", "b"], [(1, 0), (1,)]), "equal length"),
    "flat edges": (lambda: T(["a", "b"], [1, 0]), r"shape \(E, 2\)"),
    "no dict": (lambda: T.from_dict([1]), r"keys 'names'.*got \[1\]"),
    "another dict": (lambda: T.from_dict({"labels": []}), "got 'labels'"),
    "names no list": (lambda: T.from_dict({"names": "abc", "edges": []}), "list of str"),
    "null edges": (lambda: T.from_dict({"names": ["a"], "edges": None}), "must be integers"),
    "undirected": (lambda: T.from_networkx(nx.path_graph(3)), "undirected"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses(build, message):
    with pytest.raises(TaxonomyError, match=message):
        build()


LABELS = Taxonomy.from_paths([("Maths", "Basics"), ("Physics", "Basics"), ("Physics", "Optics")])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.index("Basics"), "2 nodes: 'Maths > Basics', 'Physics > Basics'"),
        (lambda t: t.index("Optic"), "no 'Optic'. Did you mean 'Optics'"),
        (lambda t: t.index("?"), "Known: 'Maths', 'Physics', 'Basics', 'Optics'"),
        (lambda t: t.index(("Maths", "Optics")), "below 'Maths': there is no 'Optics'"),
        (lambda t: t.index(("Optics",)), "below 'the root'"),
        (lambda t: t.index("Physics > Optik"), "Did you mean 'Optics'"),
        (lambda t: t.index(()), "empty path"),
        (lambda t: t.index(("Maths", 3)), "no 3"),
        (lambda t: t.name(-1), "root .* not allowed"),
        (lambda t: t.name(5), "0 to 4"),
        (lambda t: t.children(-2), "-1 is the root"),
        (lambda t: t.lca(0, [1, 5]), "5 is no node"),
        (lambda t: t.distance(0.5, 1), "a must be integers"),
    ],
)
def test_questions_without_an_answer(ask, message):
    with pytest.raises(TaxonomyError, match=message):
        ask(LABELS)


def test_index_takes_names_paths_and_written_paths():
    assert LABELS.index("Optics") == 4
    assert LABELS.index(("Physics", "Basics")) == 3
    assert LABELS.index("Physics > Basics") == 3
    odd = Taxonomy.from_paths([("a > b",), ("a", "b")])
    assert odd.index("a > b") == 0  # a name comes before a path


def test_a_taxonomy_error_is_a_value_error():
    with pytest.raises(HyperlmError):
        Taxonomy.from_paths([])
    with pytest.raises(ValueError, match="at least one node"):
        Taxonomy.from_paths([])
