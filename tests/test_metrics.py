"""Metrics against an example worked by hand."""

import numpy as np
import pytest

from hyperlm.errors import DataError, OptionError
from hyperlm.metrics import (
    evaluate_predictions,
    expected_calibration_error,
    form_paths,
    level_scores,
    tree_distances,
)
from hyperlm.taxonomy import Taxonomy

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


def test_answers_must_be_members_of_their_level() -> None:
    # c is no terminal: nothing may stay there; b is not on level 3 unless the path has ended there.
    answers = [[A, C, C], [A, B, -1], [A, C, -1], [-1, B, B], [A, A, B], [B, B, B]]
    assert form_paths(RAGGED, answers).tolist() == [False, True, False, False, False, False]


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
