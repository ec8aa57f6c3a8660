"""The command as a whole: options, help, wrong usage, errors, info, pictures."""

import importlib
import inspect
import json
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from cli_words import Command

import hyperlm
from hyperlm.cli.train import train
from hyperlm.errors import CurvatureWarning, DataError, OutputError
from hyperlm.options import TrainingOptions
from hyperlm.taxonomy import Taxonomy

pytest_plugins = ["cli_fixtures"]


# By this way, since the package exports a function of the same name.
TRAIN = importlib.import_module("hyperlm.cli.train")


# -- options -----------------------------------------------------------------------------------


def test_every_training_option_has_its_field_and_default() -> None:
    parameters = inspect.signature(train).parameters
    defaults = {field.name: field.default for field in fields(TrainingOptions)}
    assert {name: parameters[name].default for name in defaults} == defaults
    own = {"ctx", "output", "overwrite", "resume", "merge", "json", "quiet", "debug"}
    assert set(parameters) - set(defaults) == own


def test_what_a_run_says_it_was_started_with_parses_to_the_same_options(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingOptions] = []
    monkeypatch.setattr(TRAIN, "run_and_show", lambda options, *_, **__: seen.append(options))
    options = TrainingOptions(
        data="my data/x.csv",
        label_columns=("top", "sub"),
        layers="1,2",
        lora=4,
        learn_curvature=True,
        learning_rate=1e-5,
        seed=7,
        path_separator=" / ",
    )
    result = command(*shlex.split(options.command("out"))[1:])
    assert result.exit_code == 0, result.stderr
    assert seen == [options]


def test_help_comes_without_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from hyperlm.cli import app\n"
        "try:\n"
        "    app(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'numpy', 'geoopt', 'matplotlib', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    for words in (["--help"], ["train", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for panel in ("Data", "Model", "Geometry", "Training", "Output"):
        assert f"─ {panel} ─" in done.stdout


def test_the_version(command: Command) -> None:
    assert command("--version").stdout.strip() == f"hyperlm {hyperlm.__version__}"


# -- info and visualize --------------------------------------------------------------------------


def test_info_describes_a_run(command: Command, command_run: Path) -> None:
    facts = json.loads(command("info", command_run, "--json").stdout)
    assert (facts["geometry"], facts["dim"], facts["curvature"]) == ("poincare", 4, -1.0)
    assert [level["nodes"] for level in facts["levels"]] == [2, 4, 8]
    model = hyperlm.load(command_run).model
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["taxonomy"] == model.taxonomy.fingerprint
    assert facts["results"]["test"]["n"] == 32
    said = command("info", command_run).stdout
    assert facts["path_temperature"] == model.config.path_temperature
    heat = f"at temperature {model.config.path_temperature:g} (fitted)"
    for part in ("poincare, 4 dimensions, curvature -1", "14 in a tree", heat, "path accuracy"):
        assert part in said


def test_info_describes_an_unfinished_run(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    record = json.loads((command_run / "run.json").read_text()) | {"status": "training"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "not finished (no checkpoint yet)" in command("info", tmp_path).stdout
    assert json.loads(command("info", tmp_path, "--json").stdout)["status"] == "training"
    # Killed between its last file and its end.
    shutil.copytree(command_run, tmp_path, dirs_exist_ok=True)
    (tmp_path / "run.json").write_text(json.dumps(record))
    said = command("info", tmp_path).stdout
    assert "stopped as it finished; hyperlm train --resume completes it" in " ".join(said.split())
    assert "path accuracy" in said


def test_names_longer_than_files_can_have_are_explained(command: Command) -> None:
    for words in (["info", "x" * 300], ["train", "--data", "a text " * 50]):
        result = command(*words)
        assert result.exit_code == 1
        assert "Was a text given where a file" in result.stderr
        assert "report it" not in result.stderr


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_visualize_draws_runs_and_taxonomies(
    command: Command, command_run: Path, tmp_path: Path, suffix: str, start: bytes
) -> None:
    Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)]).write(tmp_path / "tree.json")
    for source in (command_run, tmp_path / "tree.json"):
        target = tmp_path / f"figure{suffix}"
        target.unlink(missing_ok=True)
        result = command("visualize", source, "--output", target)
        assert result.exit_code == 0, result.stderr
        assert target.read_bytes().startswith(start)


def test_visualize_refuses_other_formats(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    result = command("visualize", command_run, "--output", tmp_path / "x.docx")
    assert result.exit_code == 1
    assert ".png, .svg, .pdf" in result.stderr


# -- exit status ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--epochs", "many"],
        ["train", "--no-such-option"],
        ["train", "--overwrite", "--resume"],
        ["predict", "run"],
        ["predict", "run", "--text", "x", "--input", "y.csv"],
        ["predict", "run", "--input", "y.csv"],
        ["evaluate"],
        ["unheard-of"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(command: Command, words: list[str]) -> None:
    result = command(*words)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("error", [DataError("bad row"), OutputError("no space"), KeyError("bug")])
def test_errors_are_lines_and_tracebacks_only_with_debug(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(TRAIN, "run_and_show", fail)
    result = command("train")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) <= 2
    debug = command("train", "--debug")
    assert debug.exit_code == 1
    assert "Traceback" in debug.stderr


@pytest.mark.filterwarnings("default")
def test_own_warnings_are_lines_and_foreign_ones_go_the_usual_way(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: Any, **__: Any) -> None:
        warnings.warn("the data does not hold it.", CurvatureWarning, stacklevel=2)
        warnings.warn("changes soon.", DeprecationWarning, stacklevel=2)
        raise DataError("bad row")

    monkeypatch.setattr(TRAIN, "run_and_show", warn)
    before = warnings.showwarning
    with pytest.warns(DeprecationWarning, match="changes soon") as foreign:
        result = command("train")
    assert result.stderr.splitlines() == ["Warning: the data does not hold it.", "Error: bad row"]
    assert [str(warning.message) for warning in foreign] == ["changes soon."]
    assert warnings.showwarning is before


def test_ctrl_c_anywhere_is_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TRAIN, "run_and_show", stop)
    assert command("train").exit_code == 130
