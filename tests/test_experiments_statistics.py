"""Intervals, tests, verdicts and sets with a promise, against scipy and counts by hand."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from experiment_data import BASE, TREE, features, head_of, record
from scipy import stats

from hyperlm.calibration import fit_temperature
from hyperlm.errors import OptionError
from hyperlm.experiments import (
    arms,
    calibration,
    compare_geometries,
    conformal,
)
from hyperlm.experiments.features import Split
from hyperlm.experiments.markdown import figure, gathered, picture
from hyperlm.experiments.measure import measure, node_logits
from hyperlm.experiments.quantities import quantities
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.statistics import (
    Difference,
    compare,
    holm,
    mean_interval,
    over_sets,
    verdict,
    verdicts,
)

# -- statistics ---------------------------------------------------------------------------------


def test_intervals_and_paired_tests_are_those_of_scipy():
    random = np.random.default_rng(0)
    a, b = random.normal(1.0, 1.0, 6), random.normal(0.5, 1.0, 6)
    at = mean_interval(a)
    low, high = stats.t.interval(0.95, 5, loc=a.mean(), scale=stats.sem(a))
    assert (at.low, at.high) == pytest.approx((low, high))
    texts_a, texts_b = random.random((6, 50)), random.random((6, 50))
    got = compare(a, b, first_texts=texts_a, second_texts=texts_b)
    assert got.p_seeds == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert got.p_texts == pytest.approx(stats.ttest_rel(texts_a.mean(0), texts_b.mean(0)).pvalue)
    assert got.over_seeds.mean == pytest.approx((a - b).mean())


def test_one_seed_has_no_interval_and_equal_arms_no_difference():
    assert math.isnan(mean_interval([1.0]).half)
    assert verdict(compare([1.0], [2.0]), first="A", second="B").startswith("no verdict")
    same = compare([1.0, 2.0], [1.0, 2.0])
    assert same.p_seeds == 1.0
    assert verdict(same, first="A", second="B") == "no difference found"


def test_repeating_what_draws_nothing_is_no_evidence():
    """Equal runs under five seeds are one run; only the texts can then decide."""
    same, other = [0.8] * 5, [0.7] * 5
    alone = compare(same, other)
    assert np.isnan(alone.p_seeds)
    words = verdict(alone, first="A", second="B")
    assert words == "no verdict: nothing is drawn"
    texts = np.array([[1, 0] * 200 + [1]]).repeat(5, 0)
    over_texts = compare(same, other, first_texts=texts, second_texts=1 - texts)
    assert verdict(over_texts, first="A", second="B") == "no difference found"
    clear = compare(same, other, first_texts=np.ones((5, 40)), second_texts=texts[:, :40])
    assert verdict(clear, first="A", second="B") == "A is better"
    # A mean of equal numbers may miss them by a rounding, and so have a deviation.
    rounded = [3.3870967741935485] * 5
    assert np.std(rounded) > 0
    assert np.isnan(compare(rounded, [3.45] * 5).p_seeds)
    assert not np.isnan(compare(same, [0.7, 0.71, 0.7, 0.7, 0.7]).p_seeds)


def test_holm_on_a_worked_example():
    # 3 * .01, then 2 * .02 and 1 * .04 kept from falling below it.
    assert holm([0.04, math.nan, 0.01, 0.02]) == pytest.approx(
        [0.04, math.nan, 0.03, 0.04], nan_ok=True
    )
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_mean_over_sets_is_tested_as_scipy_tests_two_samples():
    """That the mean of x plus that of y is zero is Welch's test of x against -y."""
    random = np.random.default_rng(0)
    x, y = random.normal(0.3, 1, 5), random.normal(0.8, 3, 4)
    by_text = random.normal(0.2, 1, 40), random.normal(0.1, 2, 300)
    got = over_sets([(x, by_text[0]), (y, by_text[1])])
    welch = stats.ttest_ind(x, -y, equal_var=False)
    assert got.p_seeds == pytest.approx(welch.pvalue)
    low, high = welch.confidence_interval(0.95)
    assert (2 * got.over_seeds.low, 2 * got.over_seeds.high) == pytest.approx((low, high))
    assert got.over_seeds.mean == pytest.approx((x.mean() + y.mean()) / 2)
    of_texts = stats.ttest_ind(by_text[0], -by_text[1], equal_var=False)
    assert got.p_texts == pytest.approx(of_texts.pvalue)
    assert got.drawn == got.over_seeds.count == 9
    # One set alone is the test of that set; a figure that is no mean over texts has none of these.
    alone = over_sets([(x, None)])
    assert alone.p_seeds == pytest.approx(stats.ttest_1samp(x, 0).pvalue)
    assert alone.over_seeds.half == pytest.approx(mean_interval(x).half)
    assert alone.p_texts is over_sets([(x, by_text[0]), (y, None)]).p_texts is None


def test_sets_without_spread_are_no_certainty():
    # The same two texts in every seed, up to the rounding of a mean: signs alone, as for one set.
    rounded = [0.2857142857142918, 0.2857142857142776, 0.2857142857142918]
    for spread in (rounded, [0.3] * 3):
        assert over_sets([(spread, None)] * 2).p_seeds == 2 * 0.5**6
        assert over_sets([(spread, None)] * 2).over_seeds.half == 0
    assert over_sets([([0.0, 0.0], None)] * 2).p_seeds == 1.0
    with pytest.raises(OptionError, match="two seeds of each set"):
        over_sets([([1.0, 2.0], None), ([1.0], None)])


def test_few_texts_of_several_sets_are_tested_by_all_their_signs():
    """Two of 400 on each of two sets, all one way: one sign pattern in eight says as much."""
    drew = [1.0, 1.1, 0.9]
    moved = np.zeros(400)
    moved[:2] = 1
    got = over_sets([(drew, moved), (drew, moved)])
    assert got.p_texts == 2 / 16
    # A text of a small set weighs more: 1/2 against 1/400, of which no two cancel it.
    light = np.array([1.0, 0.0])
    assert over_sets([(drew, light), (drew, -moved)]).p_texts == 1.0
    assert over_sets([(drew, np.zeros(5)), (drew, np.zeros(9))]).p_texts == 1.0
    assert math.isnan(over_sets([(drew, [1.0]), (drew, moved)]).p_texts)


@pytest.mark.parametrize(("spreads", "seeds"), [((1, 1, 1, 1), 5), ((0.1, 0.1, 3), 3)])
def test_of_sets_without_a_difference_one_in_twenty_shows_one(spreads, seeds):
    random = np.random.default_rng(0)
    found = [
        over_sets([(random.normal(0, spread, seeds), None) for spread in spreads]).p_seeds
        for _ in range(2000)
    ]
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.065


def test_verdicts_of_one_question_are_adjusted_together():
    one = Difference(mean_interval([1.0, 1.1, 0.9]), 0.03, None, 3)
    pairs = [("A", "B"), ("C", "B")]
    assert verdicts([one], pairs[:1]) == ["A is better on these texts"]
    assert verdicts([one, one], pairs) == ["no difference found"] * 2
    sure = replace(one, p_seeds=0.001)
    assert (
        verdicts([sure, one], pairs, higher_is_better=False) == ["B is better on these texts"] * 2
    )


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_verdicts_name_the_better_arm_for_both_signs(higher, sign):
    ahead = Difference(mean_interval(np.array([1.0, 1.1, 0.9]) * sign), 0.01, 0.02, 3)
    winner = "A" if (sign > 0) == higher else "B"
    say = {"first": "A", "second": "B", "higher_is_better": higher}
    assert verdict(ahead, **say) == f"{winner} is better"
    assert verdict(ahead, **say, p_seeds=0.06) == "no difference found"
    few = verdict(ahead, **say, p_texts=0.2)
    assert few == f"{winner} is ahead over seeds, but the texts are too few to say so"
    unknown = replace(ahead, p_texts=None)
    assert verdict(unknown, **say) == f"{winner} is better on these texts"
    for texts in (None, 0.01):
        two = Difference(mean_interval([1.0, 1.01]), 0.01, texts, 2)
        assert verdict(two, **say) == "no verdict: two seeds alone"
    assert verdict(replace(two, p_seeds=math.nan, drawn=1), **say).endswith(" is better")


@pytest.mark.parametrize("count", [1, 5, 11, 12, 13, 40])
def test_answers_right_or_wrong_are_tested_exactly(count):
    """Of one run each, as McNemar's test, however many texts agree."""
    ours, theirs = np.zeros((2, 1, 400))
    ours[0, :count] = 1
    theirs[0, count : count + 3] = 1
    got = compare([0.0], [0.0], first_texts=ours, second_texts=theirs)
    assert got.p_texts == pytest.approx(stats.binomtest(count, count + 3).pvalue)


def test_few_texts_that_differ_are_tested_by_all_their_signs():
    random = np.random.default_rng(3)
    moved = random.normal(0.4, 1.0, 9)
    apart = np.concatenate([moved, np.zeros(90)])[None]
    got = compare([0.0], [0.0], first_texts=apart, second_texts=np.zeros((1, 99)))
    exact = stats.permutation_test((moved,), np.sum, permutation_type="samples")
    assert got.p_texts == pytest.approx(exact.pvalue)
    assert compare([0.0], [0.0], first_texts=apart * 0, second_texts=apart * 0).p_texts == 1.0


def test_differences_without_spread_are_no_certainty():
    """One text more in each of three seeds; a t-test would divide by nothing."""
    assert compare([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]).p_seeds == 0.25


def test_copies_of_a_run_count_once():
    a, b = [0.5, 0.8, 0.8, 0.8, 0.8], [0.4] * 5
    got = compare(a, b, own=[True, True, False, False, False])
    assert (got.drawn, got.over_seeds.count) == (2, 5)
    assert got.p_seeds == pytest.approx(stats.ttest_rel(a[:2], b[:2]).pvalue)
    alone = compare(a[1:], b[1:], own=[True, False, False, False])
    assert verdict(alone, first="A", second="B") == "no verdict: nothing is drawn"


def test_equal_verdicts_share_a_sentence():
    up = Difference(mean_interval([2.0, 2.2]), 0.01, None, 2)
    flat = Difference(mean_interval([-0.1, 0.1]), 0.9, None, 2)
    found = [(4, up, "A is better"), (8, up, "A is better"), (64, flat, "no difference found")]
    accuracy = quantities(2)[0]
    assert gathered(found, accuracy) == (
        "A is better at d = 4 (+2.1), 8 (+2.1); no difference found at d = 64 (0.0)."
    )


def test_pictures_have_names_that_a_link_can_hold(tmp_path):
    image = picture(tmp_path, "starts", "user/my set (1)")
    assert image == tmp_path / "starts-user_my_set_1_.png"
    assert figure(image, "of [a] set") == "![of a set](images/starts-user_my_set_1_.png)"
    assert picture(tmp_path, "starts", "d_b.v2") == tmp_path / "starts-d_b.v2.png"


def test_the_best_rates_are_those_of_the_best_run_on_val():
    tried = [
        replace(one, run=replace(one.run, node_lr=rate))
        for rate, path in ((1e-3, 0.5), (1e-2, 0.8), (1e-1, 0.8))
        if (one := record(3, path=path))
    ]
    assert arms.best(tried) == tried[1].run  # of equals the first


def test_of_several_measured_rates_each_seed_reports_those_best_on_val(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    for rate, paths in ((1e-3, (0.4, 0.8)), (1e-2, (0.6, 0.7)), (1e-1, (0.9, 0.9))):
        for (seed, path), stage in itertools.product(enumerate(paths), ("tune", "measure")):
            one = record(seed, stage=stage, path=path)
            # The best of all was tried, but never measured.
            if rate < 0.1 or stage == "tune":
                results.append([replace(one, run=replace(one.run, node_lr=rate))])
    (found,) = compare_geometries.arms_of(results, "made up").values()
    assert [(r.run.node_lr, r.run.seed) for r in found] == [(1e-2, 0), (1e-3, 1)]


def test_dimensions_of_one_question_are_adjusted_together():
    found = {}
    for dim in (4, 8):
        for arm, plus in (("poincare", 0.1), ("linear", 0.0)):
            found[arm, dim] = [
                record(s, arm=arm, dim=dim, path=0.5 + plus + 0.001 * s * (1 + plus))
                for s in range(4)
            ]
    path = next(kind for kind in quantities(2) if kind.name == "path")
    # The texts of these records are alike, whatever the figure says.
    answers = compare_geometries.question(found, path, "poincare", "linear")
    assert [dim for dim, _, _ in answers] == [4, 8]
    assert all(d.over_seeds.mean == pytest.approx(10, abs=0.1) for _, d, _ in answers)
    assert {words for _, _, words in answers} == {
        "poincare is ahead over seeds, but the texts are too few to say so"
    }


# -- sets with a promise ------------------------------------------------------------------------


def test_scores_and_sets_on_a_worked_example():
    posterior = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    assert conformal.gold_scores(posterior, [0, 1]) == pytest.approx([0.5, 0.8])
    assert conformal.set_sizes(posterior, 0.75).tolist() == [2, 1]
    assert conformal.set_sizes(posterior, 0.0).tolist() == [1, 1]
    assert conformal.set_sizes(posterior, math.inf).tolist() == [3, 3]


def test_the_limit_is_the_quantile_that_leaves_room_for_the_new_text():
    scores = np.arange(1, 20) / 20  # 19 texts: the new one is the 20th
    assert conformal.quantile(scores, 0.9) == pytest.approx(18 / 20)
    assert conformal.quantile(scores[:5], 0.9) == math.inf
    with pytest.raises(OptionError, match="coverage"):
        conformal.quantile(scores, 1.0)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_promise_is_kept_however_wrong_the_probabilities_are(temperature):
    """Labels drawn from one distribution, probabilities flattened or sharpened: still covered."""
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(600, len(TREE.terminals)))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([random.choice(len(row), p=row) for row in true])
    wrong = np.exp(logits * temperature)
    wrong /= wrong.sum(1, keepdims=True)
    gold = [np.array([TREE.terminals[label]]) for label in labels]
    found = conformal.check_coverage(wrong, gold, TREE, coverage=0.9, repeats=50)
    assert 0.89 <= found["coverage"] <= 0.93  # kept, and not by sets of everything
    assert 1 <= found["size"] <= len(TREE.terminals)
    assert found["texts"] == 600
    assert 0 <= found["depth"] <= 1


def test_the_answer_for_a_set_is_its_lowest_common_ancestor():
    column = {TREE.name(int(node)): at for at, node in enumerate(TREE.terminals)}
    shared = [
        conformal._shared(TREE, np.array([column[name] for name in names]))
        for names in (("x",), ("x", "y"), ("x", "y", "z"), ("c", "c"))
    ]
    assert shared == [1.0, 0.5, 0.0, 1.0]


def test_calibration_figures_are_those_of_a_hand_count():
    x, ends = features(TREE)
    split = Split(x, [np.array([int(end)]) for end in ends], ends)
    logits = node_logits(head_of(BASE, TREE), x)
    figures = calibration.calibration_figures(
        {"val": logits, "test": logits}, TREE, {"val": split, "test": split}, "level"
    )
    trained, fitted = figures["trained"], figures["fitted"]
    accuracy = measure(logits, TREE, split, loss="level", few=np.zeros(len(x), bool))
    assert trained["ece"] == pytest.approx(accuracy["ece"], abs=1e-6)
    assert figures["temperature"] == fit_temperature(logits, split.gold, TREE)
    assert fitted["nll"] < trained["nll"]
    for state in (trained, fitted):
        whole = state["selective"][0]
        found = [whole[key] for key in ("threshold", "answered", "whole", "depth")]
        assert found == [0, 1, 1, 1]
        assert whole["accuracy"] == pytest.approx(accuracy["path_accuracy"])
        given = [step["depth"] for step in state["selective"]]
        assert given == sorted(given, reverse=True)
    for level, found in enumerate(trained["levels"]):
        counts, sure, hits = np.array(found["reliability"]).T
        gap = float((counts * np.abs(sure - hits)).sum() / counts.sum())
        if level == 0:  # deeper, texts whose gold path has ended are asked here and not there
            assert gap == pytest.approx(accuracy["levels"][level]["ece"], abs=1e-6)
        assert gap == pytest.approx(found["ece"], abs=1e-6)
