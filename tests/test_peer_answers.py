"""Answers of peers are measured as they are given: level by level, path or not."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from hyperlm.experiments.measure import unbits
from hyperlm.experiments.peer_methods import answered, end_nodes
from hyperlm.metrics import evaluate_predictions
from hyperlm.taxonomy import Taxonomy

TREE = Taxonomy.from_paths(
    [("a", "x", "p"), ("a", "x", "q"), ("a", "y", "r"), ("b", "x", "p"), ("b", "z", "s")]
)
RAGGED = Taxonomy.from_paths([("a", "x", "p"), ("a", "y"), ("b",)])
ANSWERS = st.lists(
    st.tuples(*(st.sampled_from(range(part.start, part.stop)) for part in TREE.level_slices)),
    min_size=1,
    max_size=20,
)
SLOW = settings(max_examples=25, deadline=None)


def gold_of(count, seed=0, taxonomy=TREE):
    ends = np.random.default_rng(seed).choice(taxonomy.terminals, count)
    return [np.array([end]) for end in ends]


@SLOW
@given(ANSWERS, st.integers(0, 5))
def test_levels_are_flat_scores_of_what_was_answered_there(rows, seed):
    answers, gold = np.array(rows), gold_of(len(rows), seed)
    wanted = TREE.path_matrix[[int(ends[0]) for ends in gold]]
    document = answered(TREE, gold, answers, few=np.zeros(len(rows), dtype=bool))
    for level, scores in enumerate(document["levels"]):
        true, said = wanted[:, level], answers[:, level]
        assert scores["accuracy"] == pytest.approx(accuracy_score(true, said))
        macro = f1_score(true, said, labels=np.unique(true), average="macro", zero_division=0)
        assert scores["macro_f1"] == pytest.approx(macro)
        hit = unbits(document["answers"]["right"][level], len(rows))
        np.testing.assert_array_equal(hit, true == said)
    assert document["path_accuracy"] == pytest.approx((answers == wanted).all(1).mean())


@SLOW
@given(ANSWERS)
def test_an_answer_is_a_path_where_every_node_is_the_child_of_the_one_above(rows):
    answers = np.array(rows)
    paths = [all(TREE.parent[b] == a for a, b in itertools.pairwise(row)) for row in rows]
    document = answered(TREE, gold_of(len(rows)), answers, few=np.ones(len(rows), dtype=bool))
    assert document["path_consistency"] == pytest.approx(np.mean(paths))
    np.testing.assert_array_equal(unbits(document["answers"]["consistent"], len(rows)), paths)
    assert document["few"]["accuracy"] == document["path_accuracy"]


@SLOW
@given(ANSWERS)
def test_mistakes_are_as_far_as_the_deepest_answer(rows):
    graph = nx.Graph([(-1, int(n)) for n in TREE.levels[0]] + TREE.edges.tolist())
    gold = gold_of(len(rows))
    far = [
        nx.shortest_path_length(graph, row[-1], int(e[0]))
        for row, e in zip(rows, gold, strict=True)
    ]
    document = answered(TREE, gold, np.array(rows), few=np.zeros(len(rows), dtype=bool))
    assert document["answers"]["distance"] == far
    assert document["mean_tree_distance"] == pytest.approx(np.mean(far))
    wrong = [edges for edges in far if edges]
    expected = np.mean(wrong) if wrong else None
    assert document["mistake_severity"] == pytest.approx(expected)


@pytest.mark.parametrize("taxonomy", [TREE, RAGGED], ids=["even", "ragged"])
def test_answers_that_are_paths_are_measured_as_paths_are(taxonomy):
    gold, said = gold_of(60, 1, taxonomy), gold_of(60, 2, taxonomy)
    ends = np.concatenate(said)
    found = answered(taxonomy, gold, taxonomy.path_matrix[ends], few=np.zeros(60, dtype=bool))
    wanted = evaluate_predictions(taxonomy, gold, ends)
    for key in ("path_accuracy", "path_consistency", "mistake_severity", "p_f1", "c_macro_f1"):
        assert found[key] == pytest.approx(wanted[key]), key
    assert found["hierarchical"] == pytest.approx(wanted["hierarchical"])
    assert found["levels"] == wanted["levels"]
    assert found["raw_consistency"] == 1.0


def test_the_end_of_an_answer_is_its_deepest_node():
    rows = np.array([[0, 3, 7], [1, -1, -1], [-1, -1, -1], [-1, 4, -1], [0, -1, 6]])
    assert end_nodes(rows).tolist() == [7, 1, -1, 4, 6]
