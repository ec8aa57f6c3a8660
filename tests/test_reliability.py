"""The figure of probabilities: bins and thresholds are those of a hand count."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_viz_figures import TREE, a_run, words

from hyperlm.errors import OptionError
from hyperlm.metrics import expected_calibration_error
from hyperlm.viz import reliability_figure, taxonomy_data
from hyperlm.viz.reliability import answers_kept, reliability_bins

answers = st.lists(
    st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), min_size=1
)


def columns(rows):
    sure, right = zip(*rows, strict=True)
    return np.array(sure), np.array(right, dtype=bool)


@given(answers)
def test_a_threshold_keeps_what_a_count_says(rows):
    sure, right = columns(rows)
    thresholds, kept, hold = answers_kept(sure, right)
    assert thresholds.tolist() == sorted(set(sure.tolist()), reverse=True)
    for least, share, good in zip(thresholds, kept, hold, strict=True):
        above = [r for p, r in rows if p >= least]
        assert share == pytest.approx(len(above) / len(rows))
        assert good == pytest.approx(sum(above) / len(above))
    assert kept[-1] == 1


@given(st.integers(1, 300), st.integers(0, 1000))
def test_bins_are_of_equal_size_and_hold_every_answer(count, seed):
    random = np.random.default_rng(seed)
    sure, right = random.random(count), random.random(count) < 0.5
    bins = np.array(reliability_bins(sure, right))
    sizes, means, shares, low, high = bins.T
    assert sizes.sum() == count
    assert sizes.max() - sizes.min() <= 1
    assert sizes.min() >= min(10, count)
    assert sizes @ means == pytest.approx(sure.sum())
    assert sizes @ shares == pytest.approx(right.sum())
    assert (np.diff(means) >= 0).all()
    assert ((low <= shares) & (shares <= high)).all()


def test_an_interval_is_that_of_wilson():
    # Wilson 1927 by hand: 8 of 10, z = 1.959964.
    ((_, _, share, low, high),) = reliability_bins(np.full(10, 0.7), np.arange(10) < 8)
    z = 1.959963984540054
    centre, half = (0.8 + z**2 / 20) / (1 + z**2 / 10), z / (1 + z**2 / 10)
    half *= np.sqrt(0.8 * 0.2 / 10 + z**2 / 400)
    assert (share, low, high) == pytest.approx((0.8, centre - half, centre + half))


def test_the_figure_counts_texts_with_gold_alone():
    run = a_run()
    random = np.random.default_rng(1)
    texts = replace(run.texts, probability=random.random(60), split="test")
    fig = reliability_figure(replace(run, texts=texts))
    known = texts.gold >= 0
    right = texts.gold[known] == texts.predicted[known]
    error = expected_calibration_error(right, texts.probability[known])
    said = words(fig)
    assert f"57 test texts: {right.mean():.1%} of whole paths hold" in said
    assert f"calibration error {error:.1%}." in said
    assert "fairer" not in said
    assert "fitted to val: --split test is fairer" in words(reliability_figure(run))
    left, both = fig.axes
    assert left.get_xlim() == left.get_ylim()
    marks = {text.get_text() for text in both.texts}
    assert marks
    assert marks <= {"0.5", "0.7", "0.8", "0.9", "0.95"}
    # The curve ends where everything is kept.
    x, y = both.lines[0].get_data()
    assert (x[-1], y[-1]) == pytest.approx((100, 100 * right.mean()))


def test_an_answer_may_be_any_of_several_gold_paths():
    run = a_run()
    texts = replace(run.texts, right=np.arange(60) % 4 > 0)
    known = texts.gold >= 0
    said = words(reliability_figure(replace(run, texts=texts)))
    assert f"{texts.right[known].mean():.1%} of whole paths hold" in said


def test_without_gold_there_is_nothing_to_see():
    with pytest.raises(OptionError, match="reliability needs texts with gold labels"):
        reliability_figure(taxonomy_data(TREE, title="Bare"))
