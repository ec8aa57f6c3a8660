"""Experiments: heads trained together are heads trained alone, results survive a kill, words fit.

Features are synthetic: a random centre per class and a little noise.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import DataError, OptionError, OutputError
from hyperlm.experiments import (
    ablate,
    arms,
    calibration,
    compare_geometries,
    conformal,
    report,
    starts,
)
from hyperlm.experiments.features import FrozenData, Split
from hyperlm.experiments.fitting import fit_alone, fit_together, schedule, training_rows
from hyperlm.experiments.markdown import gathered
from hyperlm.experiments.measure import bits, measure, node_logits, unbits
from hyperlm.experiments.quantities import quantities
from hyperlm.experiments.results import Record, ResultsFile
from hyperlm.experiments.runner import run_all
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.stacked import StackedHeads
from hyperlm.experiments.statistics import Difference, compare, holm, mean_interval, verdict
from hyperlm.heads import build_head
from hyperlm.lm.batches import targets_of
from hyperlm.taxonomy import Taxonomy

WIDTH = 12
TREE = Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z"), ("b", "w"), ("c",)])
DAG = Taxonomy.from_edges([("x", "a"), ("x", "b"), ("y", "a"), ("z", "b"), ("w", "b")])


def features(taxonomy, count=40, taps=2, seed=0):
    """Features ``(n, taps, WIDTH)`` and the end nodes of the texts."""
    random = np.random.default_rng(seed)
    ends = random.choice(taxonomy.terminals, count)
    centres = random.normal(size=(len(taxonomy), taps, WIDTH))
    noisy = centres[ends] + 0.3 * random.normal(size=(count, taps, WIDTH))
    return torch.tensor(noisy, dtype=torch.float32), torch.tensor(ends)


def head_of(run, taxonomy):
    taps = [min(level, 1) for level in range(taxonomy.num_levels)]
    return build_head(hidden_size=WIDTH, taxonomy=taxonomy, tap_of_level=taps, **run.head_options())


# -- training together --------------------------------------------------------------------------

BASE = HeadRun(dim=4, epochs=4, batch_size=16, head_lr=1e-2)
SHAPES = {
    "poincare": replace(BASE, curvature=1.0),
    "poincare, c = 4": replace(BASE, curvature=4.0, init="tree"),
    "poincare, native": replace(BASE, coordinates="native", curvature=0.25),
    "lorentz": replace(BASE, geometry="lorentz", coordinates="native"),
    "euclidean": replace(BASE, geometry="euclidean", max_radius=0.6),
    "linear": replace(BASE, head="linear"),
    "path loss": replace(BASE, loss="path"),
    "leaf loss, no dropout": replace(BASE, loss="leaf", dropout=0.0),
    "half of the texts": replace(BASE, train_share=0.5),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("taxonomy", [TREE, DAG], ids=["tree", "DAG"])
def test_heads_trained_together_are_heads_trained_alone(name, taxonomy):
    shape = SHAPES[name]
    runs = [
        replace(shape, seed=3),
        replace(shape, seed=4, head_lr=3e-3),
        replace(shape, seed=4, node_lr=0.1),
    ]
    x, ends = features(taxonomy)
    together, alone = ([head_of(run, taxonomy) for run in runs] for _ in range(2))
    fit_together(together, x, ends, runs)
    for head, run in zip(alone, runs, strict=True):
        fit_alone(head, x, ends, run)
    start = node_logits(head_of(runs[0], taxonomy), x)
    for one, other in zip(together, alone, strict=True):
        got, wanted = node_logits(one, x), node_logits(other, x)
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
    assert float((node_logits(together[0], x) - start).abs().max()) > 0.1, "nothing was learnt"


def test_several_gold_paths_train_together_as_alone():
    x, ends = features(TREE)
    gold = [np.array(sorted({int(end), int(TREE.terminals[0])})) for end in ends]
    targets = targets_of(gold, TREE)
    assert targets.shape == (len(x), len(TREE))
    runs = [replace(BASE, seed=seed) for seed in (0, 1)]
    together, alone = ([head_of(run, TREE) for run in runs] for _ in range(2))
    fit_together(together, x, targets, runs)
    for one, other, run in zip(together, alone, runs, strict=True):
        fit_alone(other, x, targets, run)
        torch.testing.assert_close(node_logits(one, x), node_logits(other, x), rtol=1e-3, atol=1e-3)


def test_the_company_of_a_run_does_not_matter():
    x, ends = features(TREE)
    runs = [replace(BASE, seed=seed, head_lr=rate) for seed, rate in ((0, 1e-2), (1, 3e-3), (2, 1))]
    heads = [head_of(run, TREE) for run in runs]
    fit_together(heads, x, ends, runs)
    single = head_of(runs[1], TREE)
    fit_together([single], x, ends, runs[1:2])
    torch.testing.assert_close(
        node_logits(heads[1], x), node_logits(single, x), rtol=1e-4, atol=1e-4
    )


def test_the_rate_of_the_nodes_is_that_of_points_or_of_node_weights():
    x, ends = features(TREE)
    for shape in (SHAPES["poincare"], SHAPES["linear"]):
        run = replace(shape, node_lr=1e-12)
        head, name = head_of(run, TREE), "points" if shape.head == "points" else "weight"
        before = {key: value.clone() for key, value in head.state_dict().items()}
        fit_together([head], x, ends, [run])
        after = head.state_dict()
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
        assert not torch.allclose(after["bias"], before["bias"], atol=1e-3)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (replace(BASE, dim=8), "different shapes"),
        (replace(BASE, geometry="euclidean"), "different shapes"),
        (replace(BASE, cone_weight=1.0), "cone loss"),
        (replace(BASE, learn_curvature=True), "learned curvature"),
    ],
)
def test_what_does_not_fit_together_is_refused(other, match):
    assert other.stackable == ("different" in match)
    with pytest.raises(OptionError, match=match):
        StackedHeads([head_of(BASE, TREE), head_of(other, TREE)])


def test_runs_that_cannot_share_steps_train_alone():
    x, ends = features(TREE)
    for change in ({"cone_weight": 0.5, "text_cone_weight": 0.1}, {"learn_curvature": True}):
        run = replace(BASE, **change)
        head = head_of(run, TREE)
        fit_alone(head, x, ends, run)
        first = node_logits(head, x)
        again = head_of(run, TREE)
        fit_alone(again, x, ends, run)
        assert torch.equal(first, node_logits(again, x))
        assert float((first.argmax(1) >= 0).float().mean()) == 1.0


def test_learning_rates_rise_and_fall():
    factors = [schedule(step, 100, 0.1) for step in range(100)]
    assert factors[0] == 0
    assert max(factors) == factors[10] == 1
    assert factors[99] == pytest.approx(1 / 90)
    assert np.all(np.diff(factors[10:]) < 0)


def test_a_share_of_the_texts_is_drawn_by_the_seed():
    run = replace(BASE, train_share=0.25)
    rows = training_rows(40, run)
    assert len(rows) == len(set(rows.tolist())) == 10
    assert rows.tolist() == training_rows(40, run).tolist()
    assert rows.tolist() != training_rows(40, replace(run, seed=1)).tolist()
    assert training_rows(40, BASE).tolist() == list(range(40))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="no points"):
        HeadRun(head="linear", init="tree")
    with pytest.raises(OptionError, match="train_share"):
        HeadRun(train_share=0.0)
    with pytest.raises(OptionError, match="head_lr"):
        HeadRun(head_lr=0)


# -- figures ------------------------------------------------------------------------------------


def document(taxonomy=TREE, seed=0):
    x, ends = features(taxonomy, seed=seed)
    head = head_of(BASE, taxonomy)
    split = Split(x, [np.array([int(end)]) for end in ends], ends)
    few = np.arange(len(x)) % 3 == 0
    return measure(node_logits(head, x), taxonomy, split, loss="level", few=few)


def test_what_each_text_contributes_averages_to_the_figure():
    for taxonomy in (TREE, DAG):
        figures = document(taxonomy)
        for quantity in quantities(taxonomy.num_levels):
            of_texts = quantity.by_text(figures)
            if of_texts is None:
                continue
            if quantity.texts[0] == "right" and quantity.texts[1] < taxonomy.num_levels:
                # Texts whose path ends higher up have no gold node on the level.
                level = taxonomy.level_slices[quantity.texts[1]]
                ends = features(taxonomy)[1].numpy()
                of_texts = of_texts[ends >= level.start]
            assert of_texts.mean() == pytest.approx(quantity.of(figures)), quantity.name


def test_bits_come_back():
    values = np.random.default_rng(0).random(37) > 0.5
    assert unbits(bits(values), 37).tolist() == values.tolist()


def test_few_and_calibration_stand_in_the_document():
    figures = document()
    assert figures["few"]["texts"] == 14
    assert all(0 <= level["ece"] <= 1 for level in figures["levels"])
    json.dumps(figures)


# -- the results file ---------------------------------------------------------------------------


def record(seed=0, arm="poincare", dim=4, path=0.5, **labels):
    figures = document(seed=seed)
    figures["path_accuracy"] = path
    return Record(
        run=replace(arms.GEOMETRIES.get(arm, HeadRun()), seed=seed, dim=dim),
        data={"name": "made up", "files": {}},
        labels={"experiment": "compare-geometries", "arm": arm, "stage": "measure", **labels},
        figures={"val": figures, "test": figures, "geometry": {}, "train_texts": 40},
        seconds=1.5,
        context={"together": 1, "machine": "a computer", "hyperlm": "0", "at": "2026-01-01T00"},
    )


def test_records_come_back_and_are_found(tmp_path):
    path = tmp_path / "results.jsonl"
    first, second = record(0), record(1)
    ResultsFile(path).append([first])
    ResultsFile(path).append([second])
    read = ResultsFile(path)
    assert [r.to_json() for r in read.records] == [first.to_json(), second.to_json()]
    assert read.find(first.data, first.run, first.labels) == first
    assert read.find(first.data, first.run, {"experiment": "another"}) is None
    assert read.find({"name": "other"}, first.run) is None
    assert read.find(first.data, replace(first.run, head_lr=1.0)) is None
    assert read.of(arm="poincare") == [first, second]


@pytest.mark.parametrize("keep", [1, 200, -1])
def test_a_torn_last_line_is_left_out_and_replaced(tmp_path, keep):
    path = tmp_path / "results.jsonl"
    ResultsFile(path).append([record(0), record(1)])
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    path.write_bytes(whole[: second + keep] if keep > 0 else whole[:keep])
    torn = ResultsFile(path)
    assert [r.run.seed for r in torn.records] == [0]
    torn.append([record(1)])
    assert path.read_bytes() == whole
    assert len(ResultsFile(path)) == 2


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="line 1"):
        ResultsFile(path)
    ResultsFile(tmp_path / "new.jsonl").append([record()])
    line = json.loads((tmp_path / "new.jsonl").read_text())
    line["run"]["from_the_future"] = 1
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="from_the_future"):
        ResultsFile(path)
    with pytest.raises(OutputError, match="no folder"):
        ResultsFile(tmp_path / "missing" / "results.jsonl")


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
    assert verdict(over_texts, first="A", second="B").endswith("too few to say so")
    assert not np.isnan(compare(same, [0.7, 0.71, 0.7, 0.7, 0.7]).p_seeds)


def test_holm_on_a_worked_example():
    # 3 * .01, then 2 * .02 and 1 * .04 kept from falling below it.
    assert holm([0.04, math.nan, 0.01, 0.02]) == pytest.approx(
        [0.04, math.nan, 0.03, 0.04], nan_ok=True
    )
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("sign", [1, -1])
def test_verdicts_name_the_better_arm_for_both_signs(higher, sign):
    ahead = Difference(mean_interval(np.array([1.0, 1.1, 0.9]) * sign), 0.01, 0.02)
    winner = "A" if (sign > 0) == higher else "B"
    say = {"first": "A", "second": "B", "higher_is_better": higher}
    assert verdict(ahead, **say) == f"{winner} is better"
    assert verdict(ahead, **say, p_seeds=0.06) == "no difference found"
    few = verdict(ahead, **say, p_texts=0.2)
    assert few == f"{winner} is ahead over seeds, but the texts are too few to say so"
    unknown = Difference(ahead.over_seeds, 0.01, None)
    assert verdict(unknown, **say) == f"{winner} is better"


def test_equal_verdicts_share_a_sentence():
    up = Difference(mean_interval([2.0, 2.2]), 0.01, None)
    flat = Difference(mean_interval([-0.1, 0.1]), 0.9, None)
    found = [(4, up, "A is better"), (8, up, "A is better"), (64, flat, "no difference found")]
    accuracy = quantities(2)[0]
    assert gathered(found, accuracy) == (
        "A is better at d = 4 (+2.1), 8 (+2.1); no difference found at d = 64 (+0.0)."
    )


def test_the_best_rates_have_the_best_mean_on_val():
    tried = []
    for rate, figures in ((1e-3, (0.5, 0.9)), (1e-2, (0.8, 0.7)), (1e-1, (0.1, 0.1))):
        for seed, path in enumerate(figures):
            one = record(seed, path=path)
            tried.append(replace(one, run=replace(one.run, node_lr=rate)))
    found = arms.best(tried)
    assert (found.head_lr, found.node_lr) == (tried[0].run.head_lr, 1e-2)


def test_a_start_from_texts_may_be_left_as_it_is(data, tmp_path, monkeypatch):
    """It is one of the tries, and where val prefers it, it is what is measured."""
    monkeypatch.setattr(arms, "NEAR_RATES", ((10.0,), (10.0,)))  # ruins whatever it starts from
    arm = HeadRun(init="texts", temperature=20.0, dim=8, epochs=2)
    assert [run.epochs for run in arms.grid(arm)] == [0, 2]
    assert all(run.epochs for run in arms.grid(replace(arm, init="random")))
    results = ResultsFile(tmp_path / "results.jsonl")
    labels = {"experiment": "starts", "arm": "texts", "share": 1.0}
    measured = arms.tuned(arm, data, results, seeds=range(2), labels=labels)
    assert [record.head.epochs for record in measured] == [0, 0]
    tests = [record.figures["test"] for record in measured]
    assert tests[0] == tests[1]
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| texts (untrained) |" in text


def test_of_several_measured_rates_those_preferred_on_val_are_reported(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    for rate, path in ((1e-3, 0.4), (1e-2, 0.6), (1e-1, 0.9)):
        for seed, stage in ((100, "tune"), (0, "measure")):
            one = record(seed, stage=stage, path=path)
            # The best of all was tried, but never measured.
            if rate < 0.1 or stage == "tune":
                results.append([replace(one, run=replace(one.run, node_lr=rate))])
    (found,) = compare_geometries.arms_of(results, "made up").values()
    assert [(r.run.node_lr, r.run.seed) for r in found] == [(1e-2, 0)]


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
    whole = figures["selective"][0]
    assert (whole["threshold"], whole["answered"], whole["whole"], whole["depth"]) == (0, 1, 1, 1)
    accuracy = measure(logits, TREE, split, loss="level", few=np.zeros(len(x), bool))
    assert whole["accuracy"] == pytest.approx(accuracy["path_accuracy"])
    given = [step["depth"] for step in figures["selective"]]
    assert given == sorted(given, reverse=True)
    for level, bins in enumerate(figures["reliability"]):
        counts, sure, hits = np.array(bins).T
        gap = float((counts * np.abs(sure - hits)).sum() / counts.sum())
        if level == 0:  # deeper, texts whose gold path has ended are asked here and not there
            assert gap == pytest.approx(accuracy["levels"][level]["ece"], abs=1e-6)


# -- the whole way ------------------------------------------------------------------------------


@pytest.fixture
def data(tiny_backbone, demo_like):
    return FrozenData(str(demo_like), backbone=str(tiny_backbone), max_length=32)


def test_runs_are_made_once_and_taken_over(data, tmp_path, monkeypatch):
    results = ResultsFile(tmp_path / "results.jsonl")
    runs = [HeadRun(dim=4, epochs=2, seed=seed) for seed in range(2)]
    runs += [HeadRun(dim=4, epochs=2, joined=True, init="tree", cone_weight=0.1, layers="1,2,2")]
    made = run_all(runs, data, results, labels={"experiment": "one"})
    assert [r.run for r in made] == runs
    assert [r.context["together"] for r in made] == [2, 2, 1]
    monkeypatch.setattr(
        "hyperlm.experiments.runner._train", lambda *_: pytest.fail("trained again")
    )
    again = run_all(runs, data, ResultsFile(results.path), labels={"experiment": "one"})
    assert [r.to_json() for r in again] == [r.to_json() for r in made]
    other = run_all(runs[:1], data, ResultsFile(results.path), labels={"experiment": "two"})
    assert other[0].figures == made[0].figures
    assert other[0].context["taken_over"]


def test_names_start_needs_a_projection_per_tap(data):
    head = data.head(HeadRun(dim=4, init="names", layers="1,2,2"))
    assert head.node_tangents().norm(dim=1).mean().item() == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(OptionError, match="joined"):
        data.head(HeadRun(dim=4, init="names", joined=True))


def test_the_command_goes_on_where_it_stopped_and_reports(
    tiny_backbone, demo_like, tmp_path, monkeypatch
):
    monkeypatch.setattr(arms, "HEAD_RATES", (1e-3, 1e-2))
    monkeypatch.setattr(arms, "NODE_RATES", {"points": (1e-1,), "linear": (1e-2,)})

    def say(name, *more):
        words = ["experiment", name, "--data", str(demo_like), "--backbone", str(tiny_backbone)]
        words += ["-o", str(tmp_path / "results.jsonl"), "--json", "--max-length", "32"]
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    arguments = ("compare-geometries", "--dims", "2", "--seeds", "2")
    first = say(*arguments)
    assert first["new"] == first["runs"] == 4 * (2 * 2 + 2)  # two rates on two seeds, two seeds
    assert say(*arguments)["new"] == 0
    document = tmp_path / "docs" / "results.md"
    document.parent.mkdir()
    say("report", "--document", str(document))
    text = document.read_text(encoding="utf-8")
    assert "## Geometry against geometry" in text
    assert "| poincare less linear | d = 2 |" in text
    assert "| accuracy at level 3 | " in text
    assert len(list((document.parent / "images").glob("compare-geometries-demo_like*.png"))) == 1
    assert not list(document.parent.glob(".*"))


def test_the_report_tells_of_starts(tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    for start in starts.STARTS:
        for seed in range(2):
            results.append([record(seed, experiment="starts", arm=start, share=1.0)])
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "## Where a head starts" in text
    assert "Against random, paired:" in text
    assert "untrained" not in text
    assert "- everywhere else: no difference found." in text
    assert "Geometry against geometry" not in text


def test_single_changes_and_calibration_are_run_and_reported(data, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "_BASE", HeadRun(epochs=2))
    monkeypatch.setattr(arms, "TUNE_SEEDS", (100,))
    results = ResultsFile(tmp_path / "results.jsonl")
    changes = (ablate.BASE, "c = 4", "path loss")
    ablate.run(data, results, seeds=2, dims=(4,), changes=changes)
    # The same runs made for another purpose lack what calibration asks for.
    monkeypatch.setattr(arms, "HEAD_RATES", (1e-3,))
    monkeypatch.setattr(arms, "NODE_RATES", {"linear": (1e-2,)})
    few = replace(arms.GEOMETRIES["linear"], dim=4, head_lr=1e-3, node_lr=1e-2)
    run_all([replace(few, seed=seed) for seed in range(2)], data, results, labels={"a": "b"})
    calibration.run(data, results, seeds=2, dims=(4,), arms=("linear",))
    for records in calibration.arms_of(results, data.name).values():
        assert len(records) == 2
        assert all(record.figures["extra"]["conformal"]["repeats"] > 1 for record in records)
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "## One change at a time" in text
    assert "| c = 4 |" in text
    assert "## What probabilities are worth" in text
    assert "| linear, 0.9 |" in text


def test_wrong_words_are_explained(tmp_path):
    for words, said in (
        (["nonsense"], "compare-geometries"),
        (["starts", "--dims", "4,x"], "--dims"),
        (["report"], "no results yet"),
    ):
        done = CliRunner().invoke(app, ["experiment", *words, "-o", str(tmp_path / "r.jsonl")])
        assert done.exit_code == 1
        assert said in done.stderr
