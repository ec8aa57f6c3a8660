"""Metrics against a hand-worked example, scikit-learn, hiclass, hiereval and networkx."""

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
from hyperlm.errors import DataError, OptionError
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

# a, e, f on level 1; b, c (below a) and g (below f) on level 2; d (below c) on level 3.
# A path may end at a, b, d, e and g.
RAGGED = Taxonomy.from_paths([("a",), ("a", "b"), ("a", "c", "d"), ("e",), ("f", "g")])
A, B, C, D, E, F, G = (RAGGED.index(name) for name in "abcdefg")

GOLD = [[D], [B], [E], [B, G], [D], [A]]
PREDICTED = [D, D, G, G, A, -1]  # the last two stop early, the very last at the root
CONFIDENCE = [0.9, 0.9, 0.5, 0.9, 0.3, 0.1]
ANSWERS = [[A, C, D], [A, B, D], [F, G, G], [E, G, G], [A, A, A], [E, C, D]]

# Augmented by ancestors:
#   text   gold        predicted   both
#   0      a c d       a c d       a c d
#   1      a b         a c d       a
#   2      e           f g
#   3      a b f g     f g         f g
#   4      a c d       a           a
#   5      a
#   sum    14          11          7


class TestHandWorkedExample:
    result = evaluate_predictions(
        RAGGED,
        GOLD,
        PREDICTED,
        leaf_confidence=CONFIDENCE,
        raw_consistent=[True, False, True, False, True, False],
        level_names=["area", "field", "topic"],
    )

    def test_document(self) -> None:
        assert list(self.result) == [
            *("n", "levels", "path_accuracy", "hierarchical", "c_micro_f1", "c_macro_f1", "p_f1"),
            *("raw_consistency", "path_consistency", "mean_tree_distance", "mistake_severity"),
            "ece",
        ]
        assert self.result["n"] == 6
        for value in (self.result["path_accuracy"], self.result["levels"][0]["macro_f1"]):
            assert type(value) is float  # no numpy scalar: json must take it

    def test_levels(self) -> None:
        # Level 1. Accuracy: texts 0, 1, 3, 4 of 6. Gold pairs 7 (text 3 has a and f), predicted 5,
        # both 4. F1 of a: 3 of 5 gold and 3 predicted; e: never predicted; f: 1 of 1 and 2.
        # Level 2. Texts 0, 1, 3, 4 have gold nodes, 0 and 3 are right. Gold pairs 5, predicted 4
        # (text 2 too), both 2. b: never predicted; c: 1 of 2 and 2; g: 1 of 1 and 2.
        # Level 3. Texts 0 and 4 have d, 0 and 1 predict it.
        expected = [
            ("area", 4 / 6, 2 * 4 / 12, (6 / 8 + 0 + 2 / 3) / 3),
            ("field", 2 / 4, 2 * 2 / 9, (0 + 2 / 4 + 2 / 3) / 3),
            ("topic", 1 / 2, 2 * 1 / 4, 2 * 1 / 4),
        ]
        for level, (name, *scores) in zip(self.result["levels"], expected, strict=True):
            assert level["name"] == name
            found = [level["accuracy"], level["micro_f1"], level["macro_f1"]]
            assert found == pytest.approx(scores)

    def test_sets_and_paths(self) -> None:
        hierarchical = {"precision": 7 / 11, "recall": 7 / 14, "f1": 14 / 25}
        assert self.result["hierarchical"] == pytest.approx(hierarchical)
        # Consistent predictions lose nothing to the constraint; macro over a b c d e f g.
        assert self.result["c_micro_f1"] == pytest.approx(14 / 25)
        by_node = [3 / 4, 0, 1 / 2, 1 / 2, 0, 2 / 3, 2 / 3]
        assert self.result["c_macro_f1"] == pytest.approx(sum(by_node) / 7)
        # Texts 0 and 3 end at a gold node. 7 gold paths, 5 predicted (the root is none), 2 both.
        assert self.result["path_accuracy"] == pytest.approx(2 / 6)
        assert self.result["p_f1"] == pytest.approx(4 / 12)

    def test_distances(self) -> None:
        # d-b: up 2 to a, down 1. g-e: up 2 to the root, down 1. a-d: down 2. root-a: down 1.
        assert tree_distances(RAGGED, GOLD, PREDICTED).tolist() == [0, 3, 3, 0, 2, 1]
        assert self.result["mean_tree_distance"] == pytest.approx(9 / 6)
        assert self.result["mistake_severity"] == pytest.approx(9 / 4)

    def test_calibration(self) -> None:
        # 15 bins: 0.9 three times, 2 right: gap |2 - 2.7|; then 0.5, 0.3 and 0.1 alone and wrong.
        assert self.result["ece"] == pytest.approx((0.7 + 0.5 + 0.3 + 0.1) / 6)

    def test_consistency(self) -> None:
        assert self.result["raw_consistency"] == 0.5
        assert self.result["path_consistency"] == 1.0

    def test_independent_answers_per_level(self) -> None:
        # Text 1 loses d (c is missing), 3 loses g, 5 loses c and d. Left: 3 + 2 + 2 + 1 + 1 + 1 =
        # 10 predicted, 3 + 2 + 0 + 0 + 1 + 0 = 6 of them gold.
        # a: 3 of 5 gold and 3 predicted; b, c, d: 1 of 2 gold and 1; e, f, g: none right.
        result = evaluate_predictions(RAGGED, GOLD, PREDICTED, level_predictions=ANSWERS)
        assert result["c_micro_f1"] == pytest.approx(2 * 6 / 24)
        assert result["c_macro_f1"] == pytest.approx((3 / 4 + 3 * 2 / 3) / 7)
        assert result["raw_consistency"] == 0.5
        assert form_paths(RAGGED, ANSWERS).tolist() == [True, False, True, False, True, False]
        for name in ("hierarchical", "p_f1", "path_accuracy"):
            assert result[name] == self.result[name]
        assert result["levels"][0]["name"] == "L1"
        # As they are: texts 0, 1, 4 of 6 are right on level 1, 0, 1, 3 of 4 on level 2, and of 0
        # and 4 on level 3 text 0.
        raw = level_scores(RAGGED, GOLD, ANSWERS, augment=False)
        assert [level["accuracy"] for level in raw] == pytest.approx([3 / 6, 3 / 4, 1 / 2])


def test_what_is_not_given_or_undefined_is_none() -> None:
    right = evaluate_predictions(RAGGED, [E], [E])
    assert right["raw_consistency"] is None
    assert right["ece"] is None
    assert right["mistake_severity"] is None
    assert right["levels"][1] == {
        "name": "L2",
        "accuracy": None,
        "micro_f1": None,
        "macro_f1": None,
    }
    # A prediction where there is no gold node is false, but no class to average over.
    below = evaluate_predictions(RAGGED, [E], [G])["levels"][1]
    assert below == {"name": "L2", "accuracy": None, "micro_f1": 0.0, "macro_f1": None}
    root = evaluate_predictions(RAGGED, [E], [-1])
    assert root["hierarchical"] == {"precision": None, "recall": 0.0, "f1": 0.0}
    nothing = evaluate_predictions(RAGGED, [], [])
    assert nothing.pop("n") == 0
    assert nothing.pop("hierarchical") == {"precision": None, "recall": None, "f1": None}
    assert all(level["accuracy"] is None for level in nothing.pop("levels"))
    assert set(nothing.values()) == {None}


# -- random taxonomies and labels -------------------------------------------------------------


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


def test_answers_must_be_members_of_their_level() -> None:
    # c is no terminal: nothing may stay there; b is not on level 3 unless the path has ended there.
    answers = [[A, C, C], [A, B, -1], [A, C, -1], [-1, B, B], [A, A, B], [B, B, B]]
    assert form_paths(RAGGED, answers).tolist() == [False, True, False, False, False, False]


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


def test_calibration_of_a_calibrated_and_of_a_cocksure_model() -> None:
    assert expected_calibration_error([1, 1, 1, 0], [0.75] * 4) == pytest.approx(0)
    assert expected_calibration_error([0, 0], [1.0, 1.0]) == pytest.approx(1)
    assert expected_calibration_error([], []) is None


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"row 1 holds 7.*0 to 6"):
        evaluate_predictions(RAGGED, [[A], [B, 7]], [A, A])
    with pytest.raises(DataError, match=r"predicted: row 0 holds -2"):
        evaluate_predictions(RAGGED, [[A]], [-2])
    with pytest.raises(DataError, match=r"1 texts have no gold node, the first is row 1"):
        evaluate_predictions(RAGGED, [[A], []], [A, A])
    with pytest.raises(DataError, match=r"no gold node"):
        tree_distances(RAGGED, [-1], [A])
    with pytest.raises(DataError, match=r"Got 2 rows where 1 were expected|Got 1 rows where 2"):
        evaluate_predictions(RAGGED, [[A], [B]], [A])
    with pytest.raises(DataError, match="Got 2 rows"):
        evaluate_predictions(RAGGED, [A], [A], raw_consistent=[True, False])
    with pytest.raises(DataError, match="Got 2 rows"):
        evaluate_predictions(RAGGED, [A], [A], level_predictions=[[A, A, A], [A, A, A]])
    with pytest.raises(DataError, match=r"\(n, 3\)"):
        form_paths(RAGGED, [[A, B]])
    with pytest.raises(DataError, match="one node per text"):
        evaluate_predictions(RAGGED, [A], [[A, B]])
    with pytest.raises(DataError, match="integer node numbers"):
        evaluate_predictions(RAGGED, [A], [0.5])
    with pytest.raises(DataError, match=r"shape \(1, 1, 1\)"):
        level_scores(RAGGED, np.zeros((1, 1, 1), dtype=int), [A])
    with pytest.raises(OptionError, match="2 level names for 3 levels"):
        evaluate_predictions(RAGGED, [A], [A], level_names=["x", "y"])
    for confidence in (np.nan, 1.1, -0.1):
        with pytest.raises(DataError, match=r"outside \[0, 1\], the first in row 0"):
            evaluate_predictions(RAGGED, [A], [A], leaf_confidence=[confidence])
    with pytest.raises(OptionError, match="bins is 0"):
        expected_calibration_error([True], [1.0], bins=0)
