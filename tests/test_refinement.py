"""DAGs in the construction: which parent counts, and what a short descent on distances improves."""

import networkx as nx
import numpy as np
import pytest
import torch

from hyperlm.errors import OptionError
from hyperlm.manifolds import (
    ancestor_retrieval,
    distortion,
    mean_average_precision,
    polar,
    refine,
    sarkar,
)
from hyperlm.manifolds.construct import spanning_parents
from hyperlm.taxonomy import Taxonomy


def random_dag(levels=5, widest=3, second=0.15, seed=0):
    """Levels of growing width; a share of the nodes has a second parent on any level above."""
    generator = np.random.default_rng(seed)
    last = above = ["a", "b", "c"]
    edges = [(name, None) for name in last]
    for level in range(1, levels):
        names = [f"{level}.{i}" for i in range(len(last) * widest)]
        for name in names:
            edges.append((name, last[generator.integers(len(last))]))
            if generator.random() < second:
                edges.append((name, above[generator.integers(len(above))]))
        last, above = names, above + names
    return Taxonomy.from_edges(edges)


@pytest.fixture(scope="module")
def dag():
    return random_dag()


def test_the_spanning_tree_keeps_the_fewest_edges_from_the_root(dag):
    assert not dag.is_tree
    parent = spanning_parents(dag)
    steps = nx.single_source_shortest_path_length(dag.to_networkx(), -1)
    hops = np.zeros(len(dag), dtype=int)
    for node in range(len(dag)):
        assert parent[node] == -1 or parent[node] in dag.parents(node)
        hops[node] = 1 + (hops[parent[node]] if parent[node] >= 0 else 0)
        assert hops[node] == steps[node]
    # It is not the one the taxonomy itself follows, whose paths are the longest.
    assert (parent != dag.parent).any()


def test_of_parents_equally_near_the_root_the_one_with_more_below_counts():
    edges = [("a", None), ("b", None), ("b1", "b"), ("b2", "b"), ("x", "a"), ("x", "b")]
    dag = Taxonomy.from_edges(edges)
    assert dag.name(dag.parent[dag.index("x")]) == "a"  # first named
    assert dag.name(spanning_parents(dag)[dag.index("x")]) == "b"


def test_in_a_tree_the_spanning_tree_is_the_tree():
    tree = random_dag(second=0)
    assert tree.is_tree
    np.testing.assert_array_equal(spanning_parents(tree), tree.parent)


@pytest.mark.parametrize("c", [1.0, 4.0])
def test_edges_of_the_spanning_tree_have_length_tau(dag, c):
    tau = 2.0 / c**0.5
    u = sarkar(dag, 4, tau, c=c)
    parent = torch.from_numpy(spanning_parents(dag))
    below = parent >= 0
    length = polar.dist(u[below], u[parent[below]], c)
    torch.testing.assert_close(length, torch.full_like(length, tau))
    torch.testing.assert_close(u[~below].norm(dim=1), torch.full_like(u[~below, 0], tau))


def test_refinement_lowers_distortion_and_costs_neither_neighbours_nor_ancestors(dag):
    start = sarkar(dag, 5, 2.0)
    before = start.clone()
    refined = refine(dag, start, steps=100)
    assert torch.equal(start, before)
    for seed in (1, 2):  # other pairs and nodes than those trained on
        assert distortion(dag, refined, seed=seed) < 0.96 * distortion(dag, start, seed=seed)
    neighbours = mean_average_precision(dag, start, nodes=400)
    assert mean_average_precision(dag, refined, nodes=400) > neighbours - 2e-3
    ancestors = ancestor_retrieval(dag, start, nodes=400)
    assert ancestor_retrieval(dag, refined, nodes=400) > ancestors


def test_no_point_goes_much_farther_than_the_reach(dag):
    start = sarkar(dag, 3, 3.5)  # radius about 20, where a turned momentum once threw points out
    refined = refine(dag, start, reach=0.2, steps=40)
    assert float(polar.dist(start, refined).max()) < 2 * 0.2 * 3.5


def test_refinement_scales_with_curvature_and_repeats_with_its_seed(dag):
    start = sarkar(dag, 3, 1.5)
    refined = refine(dag, start, steps=10, seed=3)
    assert torch.equal(refined, refine(dag, start, steps=10, seed=3))
    assert not torch.equal(refined, refine(dag, start, steps=10, seed=4))
    # The optimiser's own eps is no length, so agreement is not to the last digit.
    torch.testing.assert_close(
        2 * refine(dag, start / 2, c=4.0, steps=10, seed=3), refined, rtol=1e-4, atol=1e-4
    )


def test_wrong_arguments_are_explained(dag):
    with pytest.raises(OptionError, match="one row per node"):
        refine(dag, torch.zeros(2, 3))
    with pytest.raises(OptionError, match="both be positive"):
        refine(dag, sarkar(dag, 3, 1.0), reach=0)
    one = Taxonomy(["only"], [])
    assert torch.equal(refine(one, torch.ones(1, 2)), torch.ones(1, 2, dtype=torch.float64))
