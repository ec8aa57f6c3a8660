"""``hyperlm calibrate``: one number of a run changes, no answer does."""

import json
import shutil
from pathlib import Path

import pytest
from cli_words import Command

import hyperlm
from hyperlm.data import read_labelled

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def run(command_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(command_run, tmp_path / "run"))


def test_the_temperature_is_that_of_the_library_and_answers_stay(
    command: Command, run: Path, demo_like: Path
) -> None:
    before = hyperlm.load(run)
    texts = read_labelled(demo_like / "test.csv", taxonomy=before.taxonomy)
    answers = [answer.path for answer in before.predict(texts.texts)]
    old, measured = before.temperature, before.evaluate(texts)["ece"]
    result = command("calibrate", run, "--data", demo_like / "test.csv", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["n"] == 32
    assert document["before"] == {"temperature": old, "ece": measured}
    after = hyperlm.load(run)
    assert after.temperature == document["after"]["temperature"] == before.calibrate(texts) != old
    assert [answer.path for answer in after.predict(texts.texts)] == answers
    assert after.evaluate(texts)["ece"] == document["after"]["ece"]
    assert not list(run.glob(".*"))


def test_it_changes_nothing_else_in_the_folder(
    command: Command, run: Path, demo_like: Path
) -> None:
    def contents() -> dict[str, bytes]:
        files = sorted(path for path in run.rglob("*") if path.is_file())
        return {str(path): path.read_bytes() for path in files}

    before = contents()
    result = command("calibrate", run, "--data", demo_like, "--split", "test")
    assert "Fitted to 32 texts: temperature" in result.stdout
    after = contents()
    assert {path for path in before if before[path] != after[path]} == {str(run / "config.json")}
    configs = (json.loads(some[str(run / "config.json")]) for some in (before, after))
    old, new = configs
    changed = {key for key in old | new if old.get(key) != new.get(key)}
    assert changed == {"path_temperature", "calibrated_on"}


def test_info_tells_a_later_fit_from_that_of_training(
    command: Command, run: Path, demo_like: Path
) -> None:
    told = "of test.csv; the errors below are from before"
    temperature = json.loads(command("info", run, "--json").stdout)["path_temperature"]
    assert told not in " ".join(command("info", run).stdout.split())
    assert command("calibrate", run, "--data", demo_like / "test.csv").exit_code == 0
    assert told in " ".join(command("info", run).stdout.split())
    fit = json.loads(command("info", run, "--json").stdout)["calibrated_on"]
    assert fit.pop("trained") == pytest.approx(temperature)
    assert fit == {"data": "test.csv", "n": 32}
    # A second fit keeps it, and there is a way back.
    assert command("calibrate", run, "--data", demo_like / "val.csv").exit_code == 0
    result = command("calibrate", run, "--reset", "--json")
    assert json.loads(result.stdout) == {"temperature": pytest.approx(temperature)}
    told = json.loads(command("info", run, "--json").stdout)
    assert told["path_temperature"] == pytest.approx(temperature)
    assert told["calibrated_on"] is None
    for words in ([], ["--reset", "--data", demo_like / "val.csv"]):
        assert "--reset alone" in command("calibrate", run, *words).stderr


def test_an_export_of_before_is_named_with_its_command(
    command: Command, run: Path, demo_like: Path
) -> None:
    fit = ("calibrate", run, "--data", demo_like / "test.csv")
    assert "export" not in command(*fit).stderr
    (run / "onnx").mkdir()
    (run / "onnx" / "model.onnx").touch()
    again = f"hyperlm export {run} --output {run / 'onnx'} --overwrite"
    for words in (fit, ("calibrate", run, "--reset")):
        assert again in " ".join(command(*words).stderr.split())


def test_what_is_no_run_folder_is_refused(command: Command, tmp_path: Path) -> None:
    result = command("calibrate", tmp_path, "--data", "demo")
    assert result.exit_code == 1
    assert "no config.json" in result.stderr


def test_texts_that_the_model_has_learnt_are_refused(
    command: Command, run: Path, demo_like: Path
) -> None:
    before = (run / "config.json").read_bytes()
    for words in (["--data", demo_like / "train.csv"], ["--data", demo_like, "--split", "train"]):
        result = command("calibrate", run, *words)
        assert result.exit_code == 1
        assert "that the model has learnt" in result.stderr
    assert (run / "config.json").read_bytes() == before


def test_a_table_that_was_divided_gives_its_val_texts(
    command: Command, train_words: list[str], demo_like: Path, tmp_path: Path
) -> None:
    table = shutil.copy(demo_like / "train.csv", tmp_path / "mine.csv")
    words = ["--data", str(table), *train_words[2:], "--epochs", "1"]
    assert command("train", *words, "--output", tmp_path / "run").exit_code == 0
    result = command("calibrate", tmp_path / "run", "--data", table, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["n"] < 30  # a tenth of 128, at least one a label
    # What the run knows may be said again.
    told = ["--text-column", "text", "--label-columns", "l1,l2,l3"]
    again = command("calibrate", tmp_path / "run", "--data", table, *told, "--json")
    assert json.loads(again.stdout)["n"] == json.loads(result.stdout)["n"]
    told = ["--label-columns", "l1,l2"]
    result = command("calibrate", tmp_path / "run", "--data", table, *told)
    assert "that the model has learnt" in result.stderr


def test_a_handful_of_texts_is_said_to_tell_little(
    command: Command, run: Path, demo_like: Path, tmp_path: Path
) -> None:
    lines = (demo_like / "test.csv").read_text().splitlines(keepends=True)
    (tmp_path / "one.csv").write_text("".join(lines[:2]))
    result = command("calibrate", run, "--data", tmp_path / "one.csv")
    assert "1 text can hardly tell" in result.stderr
    assert "Fitted to 1 text:" in result.stdout
    assert "--reset" in result.stdout  # the way back
    assert "hardly" not in command("calibrate", run, "--data", demo_like / "test.csv").stderr
