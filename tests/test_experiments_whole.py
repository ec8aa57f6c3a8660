"""Experiments on whole models: part of a data set, one trial, and what the report says of them."""

import numpy as np
import pytest
from experiment_data import pictures
from hdlm_models import save_causal
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.data import load_data
from hyperlm.errors import DataError, OptionError
from hyperlm.experiments import answers, report
from hyperlm.experiments.features import FrozenData
from hyperlm.experiments.results import ResultsFile
from hyperlm.experiments.trials import Trial, run_trials
from hyperlm.experiments.whole import part_of, train_and_measure
from hyperlm.metrics import evaluate_predictions


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return str(save_causal("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def data(demo_like, llama):
    return FrozenData(str(demo_like), backbone=llama, max_length=24)


def trial(data, answer, layers="1,2,3", seed=0):
    options = {
        "answer": answer, "backbone": data.backbone, "layers": layers, "lora": 2, "epochs": 1,
        "learning_rate": 1e-3, "batch_size": 8, "max_length": 24,
    }  # fmt: skip
    settings = {"options": options, "texts": 16, "words": 6, "answered": 10}
    return Trial("answers", settings, seed)


def test_trials_are_made_once_and_kept(tmp_path):
    made = []

    def work(trial):
        made.append(trial)
        return {"value": trial.settings["x"] * 2, "seconds": 3.5}

    trials = [Trial("doubling", {"x": x}, seed) for x in (1, 2) for seed in (0, 1)]
    source, labels = {"name": "numbers"}, {"experiment": "sums"}
    path = tmp_path / "results.jsonl"
    first = run_trials(trials, work, ResultsFile(path), source=source, labels=labels)
    again = run_trials(trials, work, ResultsFile(path), source=source, labels=labels)
    assert made == trials
    assert [r.to_json() for r in again] == [r.to_json() for r in first]
    assert [r.figures["value"] for r in again] == [2, 2, 4, 4]
    assert {r.seconds for r in again} == {3.5}
    with pytest.raises(TypeError, match="doubling"):
        _ = again[0].head
    with pytest.raises(DataError, match="method, settings and seed"):
        Trial.from_json({"method": "doubling", "x": 1})


def test_a_part_has_the_texts_of_its_seed_and_always_the_same_test(demo_like):
    bundle = load_data(demo_like)
    parts = [part_of(bundle, texts=12, words=3, answered=7, seed=seed) for seed in (0, 0, 1)]
    drawn = [part.split("train").lines for part in parts]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({part.split("test").texts for part in parts}) == 1
    assert (len(drawn[0]), len(parts[0].split("test")), parts[0].val) == (12, 7, None)
    whole = dict(zip(bundle.split("train").lines, bundle.split("train").texts, strict=True))
    for line, text in zip(drawn[0], parts[0].split("train").texts, strict=True):
        assert text == " ".join(whole[line].split()[:3])
    assert part_of(bundle, texts=None, words=None, answered=None, seed=0).train == bundle.train


@pytest.mark.filterwarnings("ignore:.* texts were longer than the model takes")
@pytest.mark.parametrize("answer", ["text", "points"])
def test_a_trial_measures_the_model_it_trained(data, answer):
    figures = train_and_measure(data.bundle, trial(data, answer))
    assert figures["layers"] == [1, 2, 3]
    assert 0 < figures["trained"] < figures["parameters"]
    assert figures["milliseconds"] > 0
    assert figures["seconds"] > 0
    part = part_of(data.bundle, texts=16, words=6, answered=10, seed=0)
    distance = figures["test"]["answers"]["distance"]
    assert np.mean(distance) == pytest.approx(figures["test"]["mean_tree_distance"])
    perfect = evaluate_predictions(
        data.taxonomy, part.gold("test"), np.array([int(g[0]) for g in part.gold("test")])
    )
    assert perfect["n"] == figures["test"]["n"] == 10
    again = train_and_measure(data.bundle, trial(data, answer))
    assert again["test"] == figures["test"]


@pytest.mark.filterwarnings("ignore:.* texts were longer than the model takes")
def test_the_command_runs_arms_and_the_report_repeats_it(data, demo_like, tmp_path):
    path = tmp_path / "results.jsonl"
    told = ["--set", "layers=1,2,3", "--set", "rank=2", "--set", "epochs=1", "--set", "texts=16"]
    told += ["--set", "words=6", "--set", "answered=10", "--arm", "flat", "--arm", "points"]
    common = ["experiment", "answers", "--data", str(demo_like), "--backbone", data.backbone]
    command = [*common, "--max-length", "24", "--seeds", "2", "-o", str(path), *told]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    results = ResultsFile(path)
    arms = answers.arms_of(results, results.records[0].data["name"])
    assert {arm: len(records) for arm, records in arms.items()} == {"flat": 2, "points": 2}
    assert [r.figures["layers"] for r in arms["flat"]] == [[3, 3, 3]] * 2
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "--set layers=1,2,3 --set rank=2" in text
    assert "| points (1,2,3) | 2 |" in text
    assert pictures(tmp_path / "results.md") == {"answers"}


def test_settings_an_experiment_does_not_have_are_refused(tmp_path):
    for given, message in (
        ("colour=red", "layers=20,25,30"),
        ("texts=many", "whole number"),
        ("rate=fast", "is a number"),
    ):
        command = ["experiment", "answers", "--data", "demo", "-o", str(tmp_path / "r.jsonl")]
        done = CliRunner().invoke(app, [*command, "--set", given])
        assert done.exit_code == 1
        assert message in done.output
    for name, arm, message in (
        ("answers", "voice", "flat; hdlm; points; joined"),
        ("compare-geometries", "linear, names", "poincare; lorentz; euclidean; linear"),
        ("starts", "nowhere", "choose from random; tree"),
        ("ablate", "poincare", "--arm: ablate has no arms to choose from."),
        ("peers", "tfidf", "name its systems with --set systems=A,B"),
        ("report", "poincare", "a report tells of all"),
    ):
        command = ["experiment", name, "--data", "demo", "-o", str(tmp_path / "r.jsonl")]
        done = CliRunner().invoke(app, [*command, "--arm", arm])
        assert done.exit_code == 1
        assert message in " ".join(done.output.split())
    assert not (tmp_path / "r.jsonl").exists()


def test_unknown_arms_are_an_option_error(data, tmp_path):
    with pytest.raises(OptionError, match="choose from flat"):
        answers.run(data, ResultsFile(tmp_path / "r.jsonl"), arms=("flat", "loud"))
