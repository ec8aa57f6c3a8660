"""Metrics against scikit-learn, hiclass, hiereval and networkx on random taxonomies."""

from random import Random

import hiclass.metrics
import hiereval
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from hyperlm import decoding
from hyperlm.metrics import (
    constrained_f1,
    evaluate_predictions,
    expected_calibration_error,
    form_paths,
    hierarchical_scores,
    level_scores,
    path_accuracy,
    path_f1,
    tree_distances,
)
from hyperlm.taxonomy import Taxonomy

law = settings(deadline=None)  # the first call of a library may take long


@st.composite
def taxonomies(draw: st.DrawFn, *, tree: bool = False) -> Taxonomy:
    size = draw(st.integers(1, 9))
    edges = [
        (child, parent)
        for child in range(1, size)
        for parent in draw(
            st.lists(st.integers(0, child - 1), max_size=1 if tree else 3, unique=True)
        )
    ]
    ends = draw(st.lists(st.integers(0, size - 1), max_size=4))
    return Taxonomy([f"n{i}" for i in range(size)], edges, ends)


@st.composite
def labelled(
    draw: st.DrawFn, *, tree: bool = False, most: int = 3, root: bool = True
) -> tuple[Taxonomy, list[list[int]], list[int]]:
    """A taxonomy, gold nodes per text and one prediction per text."""
    t = draw(taxonomies(tree=tree))
    node = st.integers(0, len(t) - 1)
    gold = st.lists(node, min_size=1, max_size=most, unique=True)
    texts = draw(st.lists(st.tuples(gold, st.integers(-int(root), len(t) - 1)), min_size=1))
    return t, [g for g, _ in texts], [p for _, p in texts]


def closure(t: Taxonomy, nodes: list[int]) -> set[int]:
    return {u for n in nodes if n >= 0 for u in [n, *t.ancestors(n).tolist()]}


def indicator(t: Taxonomy, sets: list[set[int]]) -> np.ndarray:
    return np.array([[int(u in s) for u in range(len(t))] for s in sets])


def sklearn_f1(gold: np.ndarray, predicted: np.ndarray, average: str) -> float | None:
    """F1 of indicator matrices; macro over the columns with gold labels."""
    if average == "macro":
        seen = gold.any(0)
        gold, predicted = gold[:, seen], predicted[:, seen]
    if not gold.any() and not predicted.any():
        return None
    if gold.shape[1] == 1:  # scikit-learn reads one column as a binary problem
        return float(f1_score(gold[:, 0], predicted[:, 0], zero_division=0))
    return float(f1_score(gold, predicted, average=average, zero_division=0))


def padded(t: Taxonomy, node: int, fill: str) -> list[str]:
    path = [str(u) for u in t.path_nodes(node)]
    return path + [fill] * (t.num_levels - len(path))


@law
@given(labelled())
def test_levels_and_constrained_f1_agree_with_sklearn(
    case: tuple[Taxonomy, list[list[int]], list[int]],
) -> None:
    t, gold, predicted = case
    true = indicator(t, [closure(t, g) for g in gold])
    said = indicator(t, [closure(t, [p]) for p in predicted])
    for scores, nodes in zip(level_scores(t, gold, predicted), t.level_slices, strict=True):
        has_gold = true[:, nodes].any(1)
        right = (true & said)[has_gold, nodes].any(1)
        assert scores["accuracy"] == (pytest.approx(right.mean()) if len(right) else None)
        for average in ("micro", "macro"):
            expected = sklearn_f1(true[:, nodes], said[:, nodes], average)
            assert scores[f"{average}_f1"] == (expected and pytest.approx(expected))
    found = constrained_f1(t, gold, [sorted(closure(t, [p])) for p in predicted])
    assert found["micro"] == pytest.approx(sklearn_f1(true, said, "micro"))
    assert found["macro"] == pytest.approx(sklearn_f1(true, said, "macro"))


@law
@given(labelled(most=1, root=False))
def test_one_gold_node_per_text_is_flat_classification(
    case: tuple[Taxonomy, list[list[int]], list[int]],
) -> None:
    t, gold, predicted = case
    flat = Taxonomy([f"n{i}" for i in range(len(t))], [])
    golds = [g[0] for g in gold]
    (scores,) = level_scores(flat, golds, predicted)
    assert scores["accuracy"] == pytest.approx(accuracy_score(golds, predicted))
    assert scores["micro_f1"] == pytest.approx(scores["accuracy"])
    macro = f1_score(golds, predicted, labels=sorted(set(golds)), average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(macro)


@law
@given(labelled(root=False))
def test_hierarchical_scores_agree_with_hiclass(
    case: tuple[Taxonomy, list[list[int]], list[int]],
) -> None:
    t, gold, predicted = case
    width = len(t)

    def row(nodes: list[int]) -> list[str]:
        names = [str(u) for u in sorted(closure(t, nodes))]
        return names + [""] * (width - len(names))

    true, said = [row(g) for g in gold], [row([p]) for p in predicted]
    found = hierarchical_scores(t, gold, predicted)
    assert found["precision"] == pytest.approx(hiclass.metrics.precision(true, said))
    assert found["recall"] == pytest.approx(hiclass.metrics.recall(true, said))
    if found["f1"]:  # hiclass warns at zero
        assert found["f1"] == pytest.approx(hiclass.metrics.f1(true, said))


@law
@given(labelled(tree=True, most=1))
def test_one_gold_path_in_a_tree_agrees_with_hiereval(
    case: tuple[Taxonomy, list[list[int]], list[int]],
) -> None:
    t, gold, predicted = case
    true = [padded(t, g[0], hiereval.UNK) for g in gold]
    said = [padded(t, p, hiereval.UNK) for p in predicted]
    found = evaluate_predictions(t, gold, predicted)
    prf = hiereval.hierarchical_prf(true, said)
    ours = [found["hierarchical"][name] or 0.0 for name in ("precision", "recall", "f1")]
    assert ours == pytest.approx([prf.precision, prf.recall, prf.f1])
    assert found["path_accuracy"] == pytest.approx(hiereval.full_path_accuracy(true, said))
    distance = hiereval.mean_taxonomic_distance(true, said)
    assert found["mean_tree_distance"] == pytest.approx(distance)
    for ours, theirs in zip(found["levels"], hiereval.per_level_scores(true, said), strict=True):
        if theirs.n_valid:
            assert ours["accuracy"] == pytest.approx(theirs.accuracy)
        else:
            assert ours["accuracy"] is None


@law
@given(labelled())
def test_distances_agree_with_networkx(
    case: tuple[Taxonomy, list[list[int]], list[int]],
) -> None:
    t, gold, predicted = case
    up = nx.DiGraph([*t.edges.tolist(), *((int(u), -1) for u in t.levels[0])])
    hops = dict(nx.all_pairs_shortest_path_length(up))

    def distance(a: int, b: int) -> int:
        return min(hops[a][u] + hops[b][u] for u in hops[a].keys() & hops[b].keys())

    expected = [min(distance(p, g) for g in gs) for gs, p in zip(gold, predicted, strict=True)]
    assert tree_distances(t, gold, predicted).tolist() == expected


@law
@given(labelled(), st.randoms(use_true_random=False))
def test_constrained_answers_hang_together(
    case: tuple[Taxonomy, list[list[int]], list[int]], random: Random
) -> None:
    t, gold, _ = case
    answers = [[u for u in range(len(t)) if random.random() < 0.6] or [-1] for _ in gold]

    def kept(nodes: list[int]) -> set[int]:
        graph = nx.DiGraph((p, u) for u in nodes for p in t.parents(u).tolist() or [-1])
        graph.add_node(-1)
        return nx.descendants(graph.subgraph([*nodes, -1]), -1)

    true = indicator(t, [closure(t, g) for g in gold])
    said = indicator(t, [kept([u for u in row if u >= 0]) for row in answers])
    found = constrained_f1(t, gold, answers)
    assert found["micro"] == pytest.approx(sklearn_f1(true, said, "micro"))
    assert found["macro"] == pytest.approx(sklearn_f1(true, said, "macro"))


@law
@given(taxonomies(), st.integers(0, 10_000))
def test_raw_consistency_is_that_of_decoding(t: Taxonomy, seed: int) -> None:
    logits = torch.randn(16, len(t), generator=torch.Generator().manual_seed(seed))
    answers = decoding.level_answers(logits, t).numpy()
    assert form_paths(t, answers).tolist() == decoding.raw_consistent(logits, t).tolist()
    paths = decoding.decode(logits, t).path_nodes
    ended = torch.where(paths < 0, -1, paths).numpy()
    if t.is_tree:  # in a DAG the columns of a path are not its levels
        assert form_paths(t, ended).all()


@law
@given(labelled(most=1, root=False))
def test_perfect_predictions_score_one(
    case: tuple[Taxonomy, list[list[int]], list[int]],
) -> None:
    t, _, nodes = case
    result = evaluate_predictions(t, nodes, nodes, leaf_confidence=np.ones(len(nodes)))
    for level in result["levels"]:
        assert {level["accuracy"], level["micro_f1"], level["macro_f1"]} in ({1.0}, {None})
    assert set(result["hierarchical"].values()) == {1.0}
    for name in ("path_accuracy", "c_micro_f1", "c_macro_f1", "p_f1"):
        assert result[name] == 1.0
    assert result["mean_tree_distance"] == 0.0
    assert result["mistake_severity"] is None
    assert result["ece"] == 0.0


@law
@given(labelled())
def test_all_scores_stay_in_range_and_forms_of_labels_are_equal(
    case: tuple[Taxonomy, list[list[int]], list[int]],
) -> None:
    t, gold, predicted = case
    result = evaluate_predictions(t, gold, predicted)
    table = np.full((len(gold), 3), -1)
    for row, nodes in enumerate(gold):
        table[row, : len(nodes)] = nodes
    assert evaluate_predictions(t, table, np.array(predicted)) == result
    assert result["path_accuracy"] == path_accuracy(t, gold, predicted)
    assert result["p_f1"] == path_f1(t, gold, predicted)
    assert result["hierarchical"] == hierarchical_scores(t, gold, [[p] for p in predicted])
    scores = [result["path_accuracy"], result["p_f1"], *result["hierarchical"].values()]
    scores += [result["c_micro_f1"], result["c_macro_f1"]]
    assert all(score is None or 0 <= score <= 1 for score in scores)
    assert result["mean_tree_distance"] <= 2 * t.num_levels


@law
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1, width=32)), min_size=1), st.integers(1, 20)
)
def test_calibration_error_is_the_weighted_gap_of_the_bins(
    texts: list[tuple[bool, float]], bins: int
) -> None:
    total = 0.0
    for m in range(bins):
        low = -1.0 if m == 0 else m
        inside = [(hit, p) for hit, p in texts if low < p * bins <= m + 1]
        if inside:
            accuracy = sum(hit for hit, _ in inside) / len(inside)
            confidence = sum(p for _, p in inside) / len(inside)
            total += len(inside) / len(texts) * abs(accuracy - confidence)
    hits, confidences = zip(*texts, strict=True)
    found = expected_calibration_error(hits, confidences, bins=bins)
    assert found == pytest.approx(total)
