"""Laws of the taxonomy, with networkx as the oracle on random trees and DAGs."""

import copy
import itertools
import pickle

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.taxonomy import Taxonomy


@st.composite
def trees(draw, most=14):
    """Trees with names that repeat under different parents, and some inner terminals."""
    paths = draw(
        st.lists(
            st.lists(st.sampled_from("abcd"), min_size=1, max_size=5), min_size=1, max_size=most
        )
    )
    return Taxonomy.from_paths(paths)


@st.composite
def dags(draw, most=12):
    """DAGs below an explicit root, in a random order of edges and parents."""
    count = draw(st.integers(1, most))
    edges = []
    for child in range(1, count + 1):
        parents = draw(st.lists(st.integers(0, child - 1), min_size=1, max_size=3, unique=True))
        edges += [(f"n{child}", f"n{parent}") for parent in parents]
    inner = draw(st.lists(st.integers(1, count), max_size=2))
    return Taxonomy.from_edges(
        draw(st.permutations(edges)), root="n0", terminals=[f"n{n}" for n in inner]
    )


taxonomies = st.one_of(trees(), dags())


def as_graph(t):
    """The oracle's graph, made from ``edges`` and ``parent`` alone, with the root -1."""
    graph = nx.DiGraph()
    graph.add_node(-1)
    graph.add_edges_from((-1, n) for n in range(len(t)) if t.parent[n] == -1)
    graph.add_edges_from((parent, child) for child, parent in t.edges.tolist())
    return graph


# -- structure against networkx ----------------------------------------------------------------


@settings(deadline=None)
@given(taxonomies)
def test_ancestors_and_descendants_are_those_of_networkx(t):
    graph = as_graph(t)
    for n in range(len(t)):
        above = sorted(nx.ancestors(graph, n) - {-1})
        assert t.ancestors(n).tolist() == above
        row = t.ancestor_indices[t.ancestor_indptr[n] : t.ancestor_indptr[n + 1]]
        assert row.tolist() == above
        assert t.descendants(n).tolist() == sorted(nx.descendants(graph, n))
        assert sorted(t.parents(n)) == sorted(set(graph.pred[n]) - {-1})
        assert t.children(n).tolist() == sorted(graph.succ[n])
    assert t.children(-1).tolist() == sorted(graph.succ[-1])
    assert t.descendants(-1).tolist() == list(range(len(t)))
    assert t.ancestors(-1).tolist() == []
    assert t.leaves.tolist() == [n for n in range(len(t)) if not graph.succ[n]]
    assert t.is_tree == nx.is_arborescence(graph)


@settings(deadline=None)
@given(taxonomies)
def test_depth_is_the_longest_path_from_the_root(t):
    longest = {-1: 0}
    graph = as_graph(t)
    for n in nx.topological_sort(graph):
        if n != -1:
            longest[n] = 1 + max(longest[p] for p in graph.pred[n])
    assert t.depth.tolist() == [longest[n] for n in range(len(t))]
    assert t.num_levels == max(longest.values())


@settings(deadline=None)
@given(taxonomies)
def test_distance_is_the_shortest_way_up_and_down(t):
    graph = as_graph(t)
    up = dict(nx.all_pairs_shortest_path_length(graph.reverse()))
    nodes = np.arange(-1, len(t))
    found = t.distance(nodes[:, None], nodes)
    for a, b in itertools.product(nodes.tolist(), repeat=2):
        expected = min(up[a][x] + up[b][x] for x in up[a].keys() & up[b].keys())
        assert found[a + 1, b + 1] == expected == t.distance(a, b)
    if t.is_tree:
        undirected = dict(nx.all_pairs_shortest_path_length(graph.to_undirected()))
        assert all(
            found[a + 1, b + 1] == d for a, row in undirected.items() for b, d in row.items()
        )


@settings(deadline=None)
@given(taxonomies)
def test_lca_is_a_deepest_common_ancestor(t):
    graph = as_graph(t)
    nodes = np.arange(-1, len(t))
    found = t.lca(nodes[:, None], nodes)
    depth = np.append(t.depth, 0)
    for a, b in itertools.product(nodes.tolist(), repeat=2):
        common = (nx.ancestors(graph, a) | {a}) & (nx.ancestors(graph, b) | {b})
        lowest = {x for x in common if not (nx.descendants(graph, x) & common)}
        lca = int(found[a + 1, b + 1])
        assert lca in lowest
        assert lca == max((x for x in lowest), key=lambda x: (depth[x], x))
        if t.is_tree:
            assert lca == nx.lowest_common_ancestor(graph, a, b)


def test_pair_functions_work_in_pieces_of_any_size(monkeypatch):
    t = Taxonomy.from_edges([("b", "a"), ("c", "a"), ("d", "b"), ("d", "c"), ("x", "y")])
    nodes = np.arange(-1, len(t))
    whole = t.lca(nodes[:, None], nodes), t.distance(nodes[:, None], nodes)
    monkeypatch.setattr("hyperlm.taxonomy_graph._PAIRS_AT_ONCE", 5)
    np.testing.assert_array_equal(t.lca(nodes[:, None], nodes), whole[0])
    np.testing.assert_array_equal(t.distance(nodes[:, None], nodes), whole[1])
    assert t.lca([], []).shape == (0,)


def test_a_shortcut_makes_the_distance_shorter_than_the_depths_say():
    t = Taxonomy.from_edges([("b", "a"), ("c", "b"), ("d", "c"), ("d", "a"), ("z", "y")])
    a, d, z = t.index("a"), t.index("d"), t.index("z")
    assert t.depth[d] == 4
    assert t.distance(a, d) == 1
    assert t.distance(d, -1) == 2
    assert t.distance(d, z) == 4


# -- numbering ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(taxonomies)
def test_numbers_follow_depth_and_then_breadth(t):
    assert (np.diff(t.depth) >= 0).all()
    assert t.depth[0] == 1
    assert (t.depth[t.edges[:, 0]] > t.depth[t.edges[:, 1]]).all()
    inner = t.parent >= 0
    assert (t.depth[t.parent[inner]] == t.depth[inner] - 1).all()
    assert (t.depth[~inner] == 1).all()
    for level, nodes in zip(t.level_slices, t.levels, strict=True):
        assert (np.diff(t.parent[level]) >= 0).all()  # siblings lie together, as their parents do
        assert nodes.tolist() == list(range(level.start, level.stop))
        assert len(set(t.depth[nodes])) == 1
    assert np.concatenate(t.levels).tolist() == list(range(len(t)))
    assert len(t.levels) == t.num_levels
    for n in range(len(t)):
        parents = t.parents(n).tolist()
        assert (parents[0] if parents else -1) == t.parent[n]
        assert parents[1:] == sorted(parents[1:])


@settings(deadline=None)
@given(taxonomies)
def test_paths_follow_parent_and_lead_back_to_their_node(t):
    assert t.path_matrix.shape == (len(t), t.num_levels)
    for n in range(len(t)):
        nodes = t.path_nodes(n)
        assert len(nodes) == t.depth[n]
        assert nodes[-1] == n
        assert (t.parent[nodes] == np.append(-1, nodes[:-1])).all()
        assert t.path_matrix[n].tolist() == [*nodes, *[-1] * (t.num_levels - len(nodes))]
        assert t.path(n) == tuple(t.names[m] for m in nodes)
        assert t.index(t.path(n)) == t.index(list(t.path(n))) == n
        if len(nodes) > 1:
            assert t.index(" > ".join(t.path(n))) == n
    assert t.path(-1) == ()
    assert t.path_nodes(-1).tolist() == []


@settings(deadline=None)
@given(trees())
def test_terminals_are_the_leaves_and_what_was_given(t):
    assert np.isin(t.leaves, t.terminals).all()
    assert t.with_terminals([]).terminals.tolist() == t.leaves.tolist()
    everywhere = t.with_terminals(range(len(t)))
    assert everywhere.terminals.tolist() == list(range(len(t)))
    assert everywhere.edges.tolist() == t.edges.tolist()
    assert t.with_terminals(t.terminals) == t


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=9))
def test_from_paths_makes_one_node_of_every_prefix(paths):
    t = Taxonomy.from_paths(paths)
    prefixes = {tuple(p[: i + 1]) for p in paths for i in range(len(p))}
    assert {t.path(n) for n in range(len(t))} == prefixes
    assert len(t) == len(prefixes)
    ends = {tuple(p) for p in paths} | {t.path(n) for n in t.leaves}
    assert {t.path(n) for n in t.terminals} == ends


def test_siblings_keep_the_order_they_came_in():
    t = Taxonomy.from_paths([("z", "y"), ("a", "c"), ("z", "b"), ("a", "b")])
    assert t.names == ("z", "a", "y", "b", "c", "b")
    e = Taxonomy.from_edges([("y", "z"), ("c", "a"), ("b", "a"), ("z", "R"), ("a", "R")])
    assert e.names == ("z", "a", "y", "c", "b")


def test_the_main_parent_is_the_first_named_of_the_deepest():
    pairs = [("p", "R"), ("q", "R"), ("r", "R"), ("s", "r"), ("t", "r")]
    t = Taxonomy.from_edges([*pairs, ("c", "p"), ("c", "t"), ("c", "s"), ("c", "q")])
    names = [t.name(n) for n in t.parents(t.index("c"))]
    assert names == ["t", "p", "q", "s"]
    assert t.path(t.index("c")) == ("r", "t", "c")


def test_a_hundred_thousand_nodes():
    sizes = (10, 100, 1000, 10_000, 90_000)
    paths = [tuple(f"{i % size}" for size in sizes) for i in range(sizes[-1])]
    t = Taxonomy.from_paths(paths)
    assert len(t) == sum(sizes)
    assert [len(level) for level in t.levels] == list(sizes)
    assert len(t.ancestor_indices) == sum(i * size for i, size in enumerate(sizes))
    node = t.index(paths[81_234])
    assert t.ancestors(node).tolist() == t.path_matrix[node, :-1].tolist()
    assert t.path(node) == paths[81_234]
    leaf = int(t.leaves[-1])
    assert (
        t.ancestor_indices[t.ancestor_indptr[leaf] :].tolist() == t.path_nodes(leaf)[:-1].tolist()
    )


def test_a_long_chain_needs_no_recursion():
    t = Taxonomy.from_paths([[f"{i}" for i in range(3000)]])
    assert t.num_levels == 3000
    assert t.distance(0, 2999) == 2999
    assert t.descendants(0).tolist() == list(range(1, 3000))


# -- roots -------------------------------------------------------------------------------------


def test_a_single_source_is_the_root_and_several_are_top_nodes():
    one = Taxonomy.from_edges([("a", "R"), ("b", "R")])
    assert one.names == ("a", "b")
    several = Taxonomy.from_edges([("a", "R"), ("b", "S")])
    assert several.names == ("R", "S", "a", "b")
    declared = Taxonomy.from_edges([("a", "R"), ("S", None)])
    assert declared.names == ("S", "R", "a")
    assert declared.leaves.tolist() == [0, 2]


def test_an_edge_to_the_root_says_nothing_beside_another_parent():
    t = Taxonomy.from_edges([("a", "R"), ("b", "R"), ("b", "a")])
    assert t.is_tree
    assert t == Taxonomy.from_edges([("a", "R"), ("b", "a")])


# -- identity ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(taxonomies)
def test_copies_are_equal_and_stay_read_only(t):
    for twin in (pickle.loads(pickle.dumps(t)), copy.deepcopy(t), Taxonomy.from_dict(t.to_dict())):
        assert twin == t
        assert hash(twin) == hash(t)
        assert twin.fingerprint == t.fingerprint
        assert twin.names == t.names
        np.testing.assert_array_equal(twin.edges, t.edges)
        assert not twin.parent.flags.writeable


@settings(deadline=None)
@given(dags(), st.randoms())
def test_equal_taxonomies_need_not_list_repeated_edges(t, random):
    pairs = [(t.name(c), t.name(p)) for c, p in t.edges]
    pairs = [(t.name(n), None) for n in t.levels[0]] + pairs
    repeated = pairs + random.choices(pairs, k=3)
    terminals = [t.name(n) for n in t.terminals]
    top = [(t.name(n), "R") for n in t.levels[0]]
    assert Taxonomy.from_edges(top + repeated, root="R", terminals=terminals) == t


def test_the_fingerprint_sees_names_edges_and_terminals_but_not_the_title():
    t = Taxonomy.from_paths([("a", "b"), ("c",)], name="one")
    assert t.title == "one"
    assert t == Taxonomy.from_paths([("a", "b"), ("c",)], name="two")
    others = [[("a", "b"), ("d",)], [("a",), ("c", "b")], [("a", "b"), ("a",), ("c",)]]
    assert len({t, *map(Taxonomy.from_paths, others)}) == 4
    assert t != "a"
    assert "3 nodes" in repr(t)
    assert "tree" in repr(t)


@pytest.mark.parametrize(
    "attribute",
    [
        "parent",
        "depth",
        "edges",
        "terminals",
        "leaves",
        "path_matrix",
        "ancestor_indices",
        "ancestor_indptr",
    ],
)
def test_nothing_can_be_changed(attribute):
    t = Taxonomy.from_edges([("b", "a"), ("c", "b"), ("c", "a"), ("d", "e")])
    with pytest.raises(ValueError, match="read-only"):
        getattr(t, attribute)[...] = 7
    with pytest.raises(AttributeError, match="immutable"):
        setattr(t, attribute, None)
    with pytest.raises(AttributeError, match="immutable"):
        delattr(t, attribute)


def test_slices_and_levels_are_read_only_too():
    t = Taxonomy.from_edges([("b", "a"), ("c", "b"), ("c", "a"), ("d", "e")])
    for array in (*t.levels, t.children(0), t.children(-1), t.parents(3), t.ancestors(3)):
        assert not array.flags.writeable
