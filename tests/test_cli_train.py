"""``hyperlm train``: what it tells people and programs, and where runs go."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_words import KEYS, Command
from typer.testing import CliRunner, Result

from hyperlm.cli import app
from hyperlm.cli.output import show_json
from hyperlm.cli.train import default_output
from hyperlm.options import TrainingOptions
from hyperlm.progress import TrainingProgress

pytest_plugins = ["cli_fixtures"]


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({}, "runs/demo-poincare"),
        ({"data": "a/b/table.csv.gz", "geometry": "lorentz"}, "runs/table-lorentz"),
        ({"data": "owner/name", "head": "linear"}, "runs/name-linear"),
        ({"data": "v1.2/"}, "runs/v1.2-poincare"),
    ],
)
def test_the_default_output_says_what_it_is(options: dict[str, Any], folder: str) -> None:
    assert default_output(TrainingOptions(**options)) == Path(folder)


def test_training_tells_people_what_they_need(command_trained: tuple[Path, Result]) -> None:
    folder, result = command_trained
    for part in ("128 train, 32 val, 32 test", "2 l1, 4 l2, 8 l3", "Poincaré", "path accuracy"):
        assert part in result.stdout
    # Paths are whole even where a terminal is narrow, so that they can be copied.
    for line in (f"in {folder}, a", f"hyperlm predict {folder} --text", f"evaluate {folder}"):
        assert line in result.stdout
    assert "training:" in result.stderr
    assert "fill the" not in result.stderr  # no text is longer than what is read
    for chatter in ("Loading weights", "model shards", "of type"):
        assert chatter not in result.stderr


def test_help_shows_defaults_that_depend(monkeypatch: pytest.MonkeyPatch) -> None:
    """In square brackets, which rich would take for its own."""
    monkeypatch.setenv("COLUMNS", "200")
    for words, default in (
        (["train"], "[default: 256, or what the backbone can read]"),
        (["train"], "[default: runs/DATA-GEOMETRY]"),
        (["embed"], "[default: N/16, but 32 to 512]"),
        (["experiment"], "[default: all]"),
    ):
        assert default in CliRunner().invoke(app, [*words, "--help"]).stdout


def test_texts_that_are_cut_are_counted(
    command: Command, train_words: list[str], tmp_path: Path
) -> None:
    short = [*train_words, "--epochs", 1, "--max-length", 5]
    result = command("train", *short, "--output", tmp_path / "run")
    assert "Note: 128 of 128 training texts fill the 5 tokens read; a longer" in result.stderr


def test_json_is_all_there_is_on_standard_output(
    command: Command, train_words: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    result = command("train", *train_words, "--epochs", 1, "--output", folder, "--json")
    document = json.loads(result.stdout)
    assert document["run"] == str(folder)
    assert set(document["val"]) == set(document["test"]) == KEYS
    assert json.loads((folder / "metrics.json").read_text()) == {
        "val": document["val"], "test": document["test"]
    }  # fmt: skip
    assert "texts " in result.stderr
    quiet = command("train", *train_words, "--output", folder, "--overwrite", "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_ctrl_c_says_how_to_go_on(
    command: Command, train_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Any, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_step_end", interrupt)
        result = command("train", *train_words, "--output", folder)
    assert result.exit_code == 130
    assert f"hyperlm train --resume --output {folder}" in result.stderr
    refused = command("train", "--resume", "--output", folder, "--dim", 5)
    assert refused.exit_code == 1
    assert "--dim 5 (the run has 4)" in refused.stderr
    resumed = command("train", "--resume", "--output", folder, "--dim", 4)
    assert resumed.exit_code == 0, resumed.stderr
    again = command("train", "--resume", "--output", folder)
    assert again.exit_code == 0
    assert "finished already" in again.stderr


def test_a_tilde_in_the_output_is_the_home_folder_for_all_that_follows(
    command: Command, train_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells leave it alone behind an equals sign."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [*train_words, "--epochs", "1"]
    done = command("train", *words, "--output=~/run")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert "~" not in done.stdout
    assert command("train", "--output=~/run", "--resume", "--quiet").exit_code == 0


def test_a_document_is_in_ascii_where_the_pipe_cannot_say_more(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    show_json({"label": "東京"})
    assert json.loads(capsysbinary.readouterr().out) == {"label": "東京"}
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", narrow)
    show_json({"label": "東京"})
    narrow.flush()
    said = narrow.buffer.getvalue()  # type: ignore[attr-defined]
    assert said.isascii()
    assert json.loads(said) == {"label": "東京"}
