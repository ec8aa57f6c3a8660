"""Measures of a construction: worked cases, an independent oracle, and ICD-10-CM itself."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import (
    ancestor_retrieval,
    distortion,
    fidelity,
    mean_average_precision,
    polar,
    sarkar,
)
from hyperlm.taxonomy import Taxonomy

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "bench_trees.py"


@pytest.fixture(scope="module")
def bench_trees():
    spec = importlib.util.spec_from_file_location("bench_trees", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DAG = Taxonomy.from_edges(
    [("a", None), ("b", None), ("c", "a"), ("d", "a"), ("d", "b"), ("e", "d"), ("f", "e"),
     ("g", "c"), ("h", "g"), ("h", "b")]
)  # fmt: skip


@pytest.mark.parametrize("c", [1.0, 4.0])
@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
def test_retrieval_matches_scikit_learn(c, weight):
    u = torch.randn(len(DAG), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scores = polar.pairwise_dist(u, u, c) + weight * (u.norm(dim=1) - u.norm(dim=1)[:, None])
    held_out = np.array([[DAG.index("f"), DAG.index("a")], [DAG.index("h"), DAG.index("b")]])
    for held in (None, held_out):
        expected = []
        for node in range(len(DAG)):
            above = set(DAG.ancestors(node).tolist())
            if held is None:
                wanted = above - set(DAG.parents(node).tolist())
            else:
                wanted = {a for n, a in held.tolist() if n == node}
            if not wanted:
                continue
            known = above - wanted | {node}
            rest = [n for n in range(len(DAG)) if n not in known]
            truth = [n in wanted for n in rest]
            expected.append(average_precision_score(truth, -scores[node, rest].numpy()))
        found = ancestor_retrieval(DAG, u, held, c=c, radius_weight=weight)
        assert found == pytest.approx(np.mean(expected))


def test_neighbours_match_scikit_learn():
    u = torch.randn(len(DAG), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    dist = polar.pairwise_dist(u, u, 0.25)
    expected = []
    for node in range(len(DAG)):
        near = {*DAG.parents(node).tolist(), *DAG.children(node).tolist()}
        rest = [n for n in range(len(DAG)) if n != node]
        if near:
            truth = [n in near for n in rest]
            expected.append(average_precision_score(truth, -dist[node, rest].numpy()))
    assert mean_average_precision(DAG, u, c=0.25) == pytest.approx(np.mean(expected))


def test_ties_count_against_the_ancestor():
    here = torch.ones(len(DAG), 2)
    assert ancestor_retrieval(DAG, here) < 0.6
    # On a ray from the origin the ancestors come first, whatever lies beyond.
    chain = Taxonomy(["a", "b", "c", "d"], [(1, 0), (2, 1), (3, 2)])
    ray = torch.zeros(4, 2, dtype=torch.float64)
    ray[:, 0] = torch.tensor([1.0, 2, 3, 4])
    assert ancestor_retrieval(chain, ray) == 1
    assert ancestor_retrieval(chain, ray.flip(0)) < 1


def test_what_has_no_ancestors_to_hold_out_is_explained():
    flat = Taxonomy(["a", "b"], [(1, 0)])
    with pytest.raises(OptionError, match="three levels"):
        ancestor_retrieval(flat, torch.zeros(2, 2))
    with pytest.raises(OptionError, match="1 held-out pairs are not in the transitive closure"):
        ancestor_retrieval(DAG, torch.zeros(len(DAG), 2), [[0, DAG.index("h")]])
    found = fidelity.report(flat, torch.eye(2))
    assert np.isnan(found["retrieval"])
    assert found["average_precision"] == 1


def test_report_has_the_single_measures_side_by_side():
    u = sarkar(DAG, 4, 2.0, c=4.0)
    found = fidelity.report(DAG, u, c=4.0)
    assert found == {
        "distortion": distortion(DAG, u, c=4.0),
        "average_precision": mean_average_precision(DAG, u, c=4.0),
        "retrieval": ancestor_retrieval(DAG, u, c=4.0),
        "retrieval_by_distance": ancestor_retrieval(DAG, u, c=4.0, radius_weight=0.0),
        "largest_radius": float(u.norm(dim=1).max()),
    }


def test_the_benchmark_prints_one_document(bench_trees, tmp_path, capsys):
    DAG.write(tmp_path / "dag.json")
    bench_trees.main([str(tmp_path / "dag.json"), "--dims", "3", "--taus", "1,2", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [(row["tau"], row["points"]) for row in rows] == [
        (1, "built"), (1, "refined"), (2, "built"), (2, "refined"),
    ]  # fmt: skip
    assert {"distortion", "average_precision", "retrieval"} <= set(rows[0])
    bench_trees.main([str(tmp_path / "dag.json"), "--dims", "3", "--taus", "1"])
    assert "refined" in capsys.readouterr().out


def test_icd_10_cm_is_reconstructed_as_published(bench_trees):
    """47,200 nodes: chapters, blocks, categories, subcategories; 7-character codes left out."""
    pytest.importorskip("simple_icd_10_cm", reason="ICD-10-CM is in the extra 'test'")
    tree = bench_trees.icd10cm()
    # The data are those of the package's release; later ones have a few hundred nodes more.
    assert 47_000 < len(tree) < 50_000
    assert tree.num_levels == 7
    for dim, tau, most in ((5, 3.0, 0.028), (10, 5.0, 0.008)):
        u = sarkar(tree, dim, tau)
        assert distortion(tree, u, pairs=100_000) <= most
        assert mean_average_precision(tree, u) >= 0.9995
    # The code inside the last block has the whole chain above it.
    assert [tree.name(n) for n in tree.path_nodes(tree.index("A00.0"))] == [
        "1", "block A00-A09", "A00", "A00.0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "measure", [mean_average_precision, ancestor_retrieval, distortion, fidelity.report]
)
def test_points_that_are_no_numbers_are_refused(measure):
    tree = Taxonomy.from_paths([("a", "b", "c"), ("a", "d", "e")])
    points = torch.randn(len(tree), 3)
    points[2, 1] = float("nan")
    with pytest.raises(OffManifoldError, match="points"):
        measure(tree, points)


def test_points_that_all_coincide_have_no_scale():
    tree = Taxonomy.from_paths([("a", "b"), ("a", "c")])
    with pytest.raises(OptionError, match="coincide"):
        distortion(tree, torch.zeros(3, 2))
