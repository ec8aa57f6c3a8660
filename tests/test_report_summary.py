"""The page that begins the report: what it gathers is what the records say."""

from dataclasses import replace

import numpy as np
import pytest
from experiment_data import record

from hyperlm.experiments import report_summary, trees
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.settings import HeadRun
from hyperlm.taxonomy import Taxonomy


def told(records, tmp_path, name="results.jsonl"):
    results = ResultsFile(tmp_path / name)
    results.append(records)
    return "\n\n".join(report_summary.section(results, tmp_path))


def row(text, *cells):
    """The first row that begins with these cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return next(found for found in rows if found[: len(cells)] == list(cells))


def severe(arm, by, dim, seed):
    """A record whose mistakes are ``by`` edges worse, up to some noise of the seed."""
    found = record(seed, arm, dim)
    noise = 0.01 * seed + 0.002 * (seed - 1.5) * (by > 0)
    test = found.figures["test"] | {"mistake_severity": 3 + by + noise}
    return replace(found, figures=found.figures | {"test": test})


ARMS = (("poincare", 0.0), ("linear", 0.5))


@pytest.mark.parametrize("swap", [False, True])
def test_verdicts_are_counted_for_the_arm_that_is_better(tmp_path, swap):
    mild, harsh = ("linear", "poincare") if swap else ("poincare", "linear")
    records = [severe(mild, 0.0, dim, seed) for dim in (2, 8) for seed in range(4)]
    records += [severe(harsh, 0.5, 2, seed) for seed in range(4)]
    records += [severe(harsh, 0.0, 8, seed) for seed in range(4)]
    text = told(records, tmp_path)
    difference = "made up +0.50" if swap else "made up −0.50"
    score = "0 : 1" if swap else "1 : 0"
    # Severity cannot be tested over texts, and at d = 8 nothing differs.
    assert row(text, "severity †") == ["severity †", difference, "", score, "0", "2"]
    assert row(text, "path") == ["path", "", "", "0 : 0", "0", "2"]
    # Euclidean points were not measured: no table for them.
    assert "| poincare less linear |" in text
    assert "euclidean less" not in text
    assert "| poincare less euclidean | d" not in text


def test_accuracies_stand_by_dimension_and_start(tmp_path):
    records = [record(seed, "linear", dim, path=0.5) for dim in (8, 64) for seed in range(2)]
    records += [
        record(seed, "linear", 64, path=0.7, experiment="starts", share=1.0) for seed in range(2)
    ]
    untrained = HeadRun(head="linear", init="texts", epochs=0, dim=64)
    records[-2:] = [
        replace(
            found,
            run=replace(untrained, seed=found.run.seed),
            labels=found.labels | {"arm": "texts, linear"},
        )
        for found in records[-2:]
    ]
    text = told(records, tmp_path)
    random = row(text, "made up, random start")
    assert random[1:6] == ["64", "2", "-", "-", "50.0 ± 0.0"]  # no row for d = 8
    texts = row(text, "made up, start from texts")
    assert texts[1:] == ["64", "2", "-", "-", "70.0 untrained", "", "", ""]


def test_sets_that_one_experiment_alone_has_seen_stand_there_too(tmp_path):
    records = [record(seed, "linear", 64, path=0.5) for seed in range(2)]
    for seed in range(2):
        found = record(seed, "texts", 64, path=0.7, experiment="starts", share=1.0)
        records.append(replace(found, data=found.data | {"name": "longer"}))
    text = told(records, tmp_path)
    assert row(text, "longer, start from texts")[3] == "70.0 ± 0.0"
    with pytest.raises(StopIteration):
        row(text, "longer, random start")


def test_trees_stand_there_by_geometry_at_the_better_start(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "EPOCHS", 1)
    monkeypatch.setattr(trees, "GRID", ((0.1, 2.0),))
    results = ResultsFile(tmp_path / "results.jsonl")
    results.append([record(0)])
    tree = trees.Tree("small", Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z")]), {})
    trees.run(tree, results, seeds=2, dims=(2, 3))
    text = "\n\n".join(report_summary.section(results, tmp_path))
    measured = trees.arms_of(results, "small", "closure")
    for geometry in ("poincare", "euclidean"):
        means = [
            np.mean([100 * r.figures["test"]["map"] for r in measured[arm, 3]])
            for arm in (geometry, f"{geometry}, construction")
        ]
        assert row(text, f"small, {geometry}")[2].partition(" ")[0] == f"{max(means):.1f}"


def test_differences_in_accuracy_are_those_of_the_sections(tmp_path):
    records = []
    for seed in range(4):
        for arm, path in (("poincare", 0.5), ("linear", 0.4)):
            records.append(record(seed, arm, 64, path=path + 0.001 * seed * (arm == "linear")))
        for arm, path in (("random", 0.5), ("texts", 0.6), ("texts, linear", 0.65)):
            found = record(seed, arm, 64, path=path, experiment="starts", share=1.0)
            records.append(found)
    text = told(records, tmp_path)
    # The texts of these records are alike: no verdict, whatever the figure.
    assert row(text, "made up, random start")[-3:] == ["+9.8", "", ""]
    assert row(text, "made up, start from texts")[-3:] == ["−5.0", "", "+10.0"]


def test_what_allows_no_verdict_is_not_counted(tmp_path):
    # Two seeds alone are too few for what cannot be tested over texts; one is too few for all.
    records = [severe(arm, by, 2, seed) for seed in range(2) for arm, by in ARMS]
    assert row(told(records, tmp_path), "path")[-1] == "1"
    with pytest.raises(StopIteration):
        row(told(records, tmp_path), "severity †")
    single = [severe(arm, by, 2, 0) for arm, by in ARMS]
    assert "for : against" not in told(single, tmp_path, "single.jsonl")


def sure(arm, dim, before, after, seed, ends_alike=True):
    """A record of calibration with these errors of whole paths."""
    found = record(seed, arm, dim, experiment="calibration")
    bins = [[50, 0.3, 0.2], [150, 0.9, 0.92]]
    levels = [{"reliability": bins}, {"reliability": bins if ends_alike else bins[:1]}]
    extra = {"trained": {"ece": before}, "fitted": {"ece": after, "levels": levels}}
    return replace(found, figures=found.figures | {"trust": extra})


def test_calibration_stands_as_trained_and_fitted(tmp_path):
    records = [record(seed, arm) for arm in ("poincare", "linear") for seed in range(2)]
    records += [sure("poincare", 4, 0.2 + seed / 50, 0.05, seed) for seed in range(2)]
    # What exact probabilities of .3 and .9 would show on 50 and 150 texts.
    counts = np.random.default_rng(0).binomial([50, 150], [0.3, 0.9], (100_000, 2))
    drawn = 100 * np.abs(counts - [15, 135]).sum(1) / 200
    shown = f"({drawn.mean():.1f}, up to {np.quantile(drawn, 0.95):.1f})"
    one = told(records, tmp_path)
    assert row(one, "made up, 2 seeds") == ["made up, 2 seeds", f"21.0 to 5.0 {shown}"]
    # Two dimensions are two arms; with paths of several depths no level is that of the paths.
    records.append(sure("linear", 8, 0.3, 0.1, 0, ends_alike=False))
    text = told(records, tmp_path, "more.jsonl")
    header = ["ECE, as trained to fitted (by chance)", "poincare, d = 4", "linear, d = 8"]
    assert row(text, *header) == header
    found = row(text, "made up, 1 to 2 seeds")[1:]
    assert found == [f"21.0 to 5.0 {shown}", "30.0 to 10.0"]
    assert "as trained to fitted" not in told(records[:4], tmp_path, "none.jsonl")


def test_nothing_compared_is_nothing_said(tmp_path):
    assert told([record(experiment="starts", share=1.0)], tmp_path) == ""
