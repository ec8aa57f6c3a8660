"""The page that begins the report: what it gathers is what the records say."""

from dataclasses import replace

import pytest
from experiment_data import record

from hyperlm.experiments import report_summary
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.settings import HeadRun


def told(records, tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    results.append(records)
    return "\n\n".join(report_summary.section(results, tmp_path))


def row(text, *cells):
    """The first row that begins with these cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return next(found for found in rows if found[: len(cells)] == list(cells))


def severe(arm, by, dim, seed):
    """A record whose mistakes are ``by`` edges worse, up to some noise of the seed."""
    found = record(seed, arm, dim)
    test = found.figures["test"] | {"mistake_severity": 3 + by + 0.01 * (seed % 2)}
    return replace(found, figures=found.figures | {"test": test})


@pytest.mark.parametrize("swap", [False, True])
def test_verdicts_are_counted_for_the_arm_that_is_better(tmp_path, swap):
    mild, harsh = ("linear", "poincare") if swap else ("poincare", "linear")
    records = [severe(mild, 0.0, dim, seed) for dim in (2, 8) for seed in range(4)]
    records += [severe(harsh, 0.5, 2, seed) for seed in range(4)]
    records += [severe(harsh, 0.0, 8, seed) for seed in range(4)]
    text = told(records, tmp_path)
    difference = "made up +0.50" if swap else "made up −0.50"
    score = "0 : 1" if swap else "1 : 0"
    assert row(text, "severity") == ["severity", difference, "", score, "2"]
    assert row(text, "path") == ["path", "", "", "0 : 0", "2"]
    # Euclidean points were not measured: no table for them.
    assert "| poincare less linear |" in text
    assert "euclidean less" not in text
    assert "less euclidean" not in text


def test_accuracies_stand_by_dimension_and_start(tmp_path):
    records = [record(seed, "linear", dim, path=0.5) for dim in (8, 64) for seed in range(2)]
    records += [
        record(seed, "linear", 64, path=0.7, experiment="starts", share=1.0) for seed in range(2)
    ]
    untrained = HeadRun(head="linear", init="texts", epochs=0, dim=64)
    records[-2:] = [
        replace(found, run=untrained, labels=found.labels | {"arm": "texts, linear"})
        for found in records[-2:]
    ]
    text = told(records, tmp_path)
    random = row(text, "made up, random start")
    assert random[1:] == ["64", "2", "-", "-", "50.0 ± 0.0"]  # no row for d = 8
    texts = row(text, "made up, start from texts")
    assert texts[1:] == ["64", "2", "-", "-", "70.0 untrained"]


def test_nothing_compared_is_nothing_said(tmp_path):
    assert told([record(experiment="starts", share=1.0)], tmp_path) == ""
