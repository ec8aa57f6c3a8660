"""The command: its options agree with the library, its output is for people or for programs.

Commands run inside this process, which is quicker than a fresh interpreter each; what depends on a
fresh one (the speed of ``--help``) gets it.
"""

import gzip
import importlib
import inspect
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from transformers.utils import logging
from typer.testing import CliRunner, Result

import hyperlm
from hyperlm import classifier as classifier_module
from hyperlm.cli import app
from hyperlm.cli.train import default_output, train
from hyperlm.data import FORMATS, read_rows, write_rows
from hyperlm.errors import DataError, OutputError
from hyperlm.options import TrainingOptions
from hyperlm.progress import TrainingProgress
from hyperlm.taxonomy import Taxonomy

KEYS = {
    "n", "levels", "path_accuracy", "hierarchical", "c_micro_f1", "c_macro_f1", "p_f1",
    "raw_consistency", "path_consistency", "mean_tree_distance", "mistake_severity", "ece",
    "texts_per_second",
}  # fmt: skip
ADDED = [
    "path", "probability", "predicted_l1", "probability_l1", "predicted_l2", "probability_l2",
    "predicted_l3", "probability_l3", "top", "empty_text",
]  # fmt: skip

# By this way, since the package exports a function of the same name.
TRAIN = importlib.import_module("hyperlm.cli.train")

Command = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def _library_verbosity() -> Iterator[None]:
    """The command silences transformers; other tests may listen to it."""
    before = logging.get_verbosity()
    yield
    logging.set_verbosity(before)
    logging.enable_progress_bar()


@pytest.fixture
def command() -> Command:
    def run(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


@pytest.fixture(scope="module")
def settings(tiny_backbone: Path, demo_like: Path) -> list[str]:
    words = f"--data {demo_like} --backbone {tiny_backbone} --dim 4 --epochs 2 --batch-size 16"
    return [*words.split(), "--learning-rate", "3e-3", "--head-learning-rate", "3e-2"]


@pytest.fixture(scope="module")
def trained(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """One run made by the command, and what the command said."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = CliRunner().invoke(app, ["train", *settings, "--output", str(folder)])
    assert result.exit_code == 0, result.stderr
    return folder, result


@pytest.fixture(scope="module")
def run(trained: tuple[Path, Result]) -> Path:
    return trained[0]


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
    monkeypatch.setattr(TRAIN, "_run", lambda options, *rest: seen.append(options))
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


# -- train -------------------------------------------------------------------------------------


def test_training_tells_people_what_they_need(trained: tuple[Path, Result]) -> None:
    folder, result = trained
    for part in ("128 train, 32 val, 32 test", "2 l1, 4 l2, 8 l3", "Poincaré", "path accuracy"):
        assert part in result.stdout
    # Paths are whole even where a terminal is narrow, so that they can be copied.
    for line in (f"in {folder}, a", f"hyperlm predict {folder} --text", f"evaluate {folder}"):
        assert line in result.stdout
    assert "training:" in result.stderr
    for chatter in ("Loading weights", "model shards", "of type"):
        assert chatter not in result.stderr


def test_json_is_all_there_is_on_standard_output(
    command: Command, settings: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    result = command("train", *settings, "--epochs", 1, "--output", folder, "--json")
    document = json.loads(result.stdout)
    assert document["run"] == str(folder)
    assert set(document["val"]) == set(document["test"]) == KEYS
    assert json.loads((folder / "metrics.json").read_text()) == {
        "val": document["val"], "test": document["test"]
    }  # fmt: skip
    assert "texts " in result.stderr
    quiet = command("train", *settings, "--output", folder, "--overwrite", "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_ctrl_c_says_how_to_go_on(
    command: Command, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Any, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_step_end", interrupt)
        result = command("train", *settings, "--output", folder)
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


# -- evaluate ----------------------------------------------------------------------------------


def test_evaluate_prints_the_document_of_the_library(
    command: Command, run: Path, demo_like: Path
) -> None:
    result = command("evaluate", run, "--data", demo_like, "--json")
    document = json.loads(result.stdout)
    assert set(document) == KEYS
    stored = json.loads((run / "metrics.json").read_text())
    for part in (document, stored["test"]):
        part.pop("texts_per_second")
    assert document == stored["test"]


def test_evaluate_takes_a_file_a_split_or_what_the_run_was_trained_on(
    command: Command, run: Path, demo_like: Path
) -> None:
    def texts(*words: object) -> int:
        return json.loads(command("evaluate", run, *words, "--json").stdout)["n"]

    assert texts() == texts("--data", demo_like / "test.csv") == 32
    assert texts("--split", "train") == texts("--data", demo_like, "--split", "train") == 128
    table = command("evaluate", run, "--split", "val").stdout
    assert "l3 accuracy" in table
    assert "texts a second" in table


def test_evaluate_names_other_columns(command: Command, run: Path, tmp_path: Path) -> None:
    rows = [{"id": 1, "body": "owl0 animal0 bird2", "label": "animal/bird/owl"}] * 3
    write_rows(tmp_path / "x.csv", rows)
    words = ["--text-column", "body", "--label-columns", "label", "--path-separator", "/"]
    result = command("evaluate", run, "--data", tmp_path / "x.csv", *words, "--json")
    assert json.loads(result.stdout)["n"] == 3


def test_evaluate_takes_the_columns_of_the_training_data(
    command: Command, run: Path, demo_like: Path, tmp_path: Path
) -> None:
    """Other columns are no levels: a table that predict wrote can be measured."""
    command("predict", run, "--input", demo_like / "test.csv", "--output", tmp_path / "out.csv")
    result = command("evaluate", run, "--data", tmp_path / "out.csv", "--json")
    assert json.loads(result.stdout)["n"] == 32


def test_a_table_that_was_divided_is_divided_again(
    command: Command, settings: list[str], demo_like: Path, tmp_path: Path
) -> None:
    table = tmp_path / "all.csv"
    table.write_text((demo_like / "train.csv").read_text())
    words = [*settings, "--epochs", 1, "--val-fraction", 0.25, "--seed", 3]
    words += ["--data", table, "--output", tmp_path / "run", "--json"]
    stored = json.loads(command("train", *words).stdout)["test"]
    for data in ([], ["--data", table]):
        result = command("evaluate", tmp_path / "run", *data, "--json")
        document = json.loads(result.stdout)
        # Not the texts the model has learnt from.
        assert document["n"] == 32
        assert document["levels"] == stored["levels"]
        assert "cut from all.csv" in result.stderr


# -- predict -----------------------------------------------------------------------------------


def test_predict_answers_texts_on_the_command_line(command: Command, run: Path) -> None:
    words = ["--text", "owl0 animal1 bird2", "--text", " ", "--top-k", 2]
    document = json.loads(command("predict", run, *words, "--json").stdout)
    expected = hyperlm.load(run).predict(["owl0 animal1 bird2", " "], top_k=2)
    assert [answer["path"] for answer in document] == [" > ".join(e.path) for e in expected]
    assert [answer["empty_text"] for answer in document] == [False, True]
    assert document[0]["probability_l3"] == expected[0].probabilities[2]
    assert len(document[0]["top"]) == 2
    said = command("predict", run, *words).stdout
    assert " > ".join(expected[0].top[1].path) in said
    assert "empty text" in said


def test_a_threshold_shortens_paths(command: Command, run: Path) -> None:
    words = ["predict", run, "--text", "owl0 animal1 bird2", "--threshold", 1]
    (answer,) = json.loads(command(*words, "--json").stdout)
    assert (answer["path"], answer["probability"], answer["predicted_l1"]) == ("", None, None)
    assert "no label is sure enough" in command(*words).stdout
    assert command("predict", run, "--text", "x", "--threshold", 2).exit_code == 1


@pytest.mark.parametrize("suffix", [*FORMATS, ".csv.gz", ".jsonl.gz", ".parquet.gz"])
def test_predict_reads_and_writes_every_format(
    command: Command, run: Path, tmp_path: Path, suffix: str
) -> None:
    texts = ["owl0 animal1", "", "sage1 plant2 herb0", 'a "quoted", comma', "\n\u2028 line"]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    write_rows(tmp_path / f"in{suffix}", rows)
    words = ["--input", tmp_path / f"in{suffix}", "--output", tmp_path / f"out{suffix}"]
    result = command("predict", run, *words)
    assert result.exit_code == 0, result.stderr
    assert "5 texts labelled" in result.stderr
    assert "1 of them empty" in result.stderr
    written = list(read_rows(tmp_path / f"out{suffix}"))
    assert [{key: row[key] for key in ("id", "text")} for row in written] == rows
    expected = hyperlm.load(run).predict(texts)
    for row, answer in zip(written, expected, strict=True):
        assert list(row) == ["id", "text", *ADDED]
        assert row["path"] == " > ".join(answer.path)
        assert float(row["probability"]) == answer.probabilities[-1]
        top = json.loads(row["top"]) if isinstance(row["top"], str) else row["top"]
        assert [tuple(other["path"]) for other in top] == [a.path for a in answer.top]
        assert str(row["empty_text"]) == str(answer.empty)


def test_formats_can_change_on_the_way(command: Command, run: Path, tmp_path: Path) -> None:
    rows = [{"text": "owl0", "tags": ["a", "b"]}, {"text": "sage1"}]
    write_rows(tmp_path / "in.jsonl", rows)
    for suffix in (".jsonl", ".csv", ".parquet"):
        target = tmp_path / f"out{suffix}"
        result = command("predict", run, "-i", tmp_path / "in.jsonl", "-o", target)
        assert result.exit_code == 0, result.stderr
        assert len(list(read_rows(target))) == 2
    assert [row.get("tags") for row in read_rows(tmp_path / "out.jsonl")] == [["a", "b"], None]


def test_parquet_probabilities_are_numbers_though_none_is_reached(
    command: Command, run: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.csv", [{"text": "owl0"}, {"text": "pike1"}])
    words = ["-i", tmp_path / "in.csv", "-o", tmp_path / "out.parquet", "--threshold", 1]
    assert command("predict", run, *words).exit_code == 0
    schema = pyarrow.parquet.read_schema(tmp_path / "out.parquet")
    assert {str(schema.field(f"probability_l{level}").type) for level in (1, 2, 3)} == {"double"}
    assert str(schema.field("predicted_l3").type) == "string"


def test_predict_holds_no_more_than_a_window(
    command: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_module, "_WINDOW", 4)
    write_rows(tmp_path / "in.csv", [{"text": f"word{n % 9}"} for n in range(40)])
    ahead = [0]

    def answered(original: Any) -> Any:
        def window(self: Any, texts: list[str], *rest: Any) -> Any:
            ahead.append(len(texts))
            return original(self, texts, *rest)

        return window

    kind = classifier_module.Classifier
    monkeypatch.setattr(kind, "_predict_window", answered(kind._predict_window))
    result = command("predict", run, "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert result.exit_code == 0
    assert max(ahead) == 4
    assert len(list(read_rows(tmp_path / "out.csv"))) == 40


def test_a_column_is_never_replaced(command: Command, run: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.csv", [{"text": "owl0", "path": "mine"}])
    words = ["predict", run, "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv"]
    result = command(*words)
    assert result.exit_code == 1
    assert "has a column 'path' already" in result.stderr
    assert "--prefix" in result.stderr
    assert not (tmp_path / "out.csv").exists()
    assert command(*words, "--prefix", "hyperlm_").exit_code == 0
    (row,) = read_rows(tmp_path / "out.csv")
    assert row["path"] == "mine"
    assert row["hyperlm_path"].count(" > ") == 2


def test_a_column_that_turns_up_late_is_not_replaced_either(
    command: Command, run: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.jsonl", [{"text": "owl0"}, {"text": "pike1", "top": 1}])
    result = command("predict", run, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert "in.jsonl, line 2: the table has a column 'top'" in result.stderr


def test_predict_does_not_write_over_its_input(command: Command, run: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.csv", [{"text": "owl0"}])
    result = command("predict", run, "-i", tmp_path / "in.csv", "-o", tmp_path / "in.csv")
    assert result.exit_code == 1
    assert "would replace --input" in result.stderr


def test_predict_compressed_input_is_the_plain_one(
    command: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"body\nowl0 animal1\n"))
    words = ["-i", tmp_path / "in.csv.gz", "-o", tmp_path / "out.jsonl", "--text-column", "body"]
    assert command("predict", run, *words).exit_code == 0
    assert len(list(read_rows(tmp_path / "out.jsonl"))) == 1


# -- info and visualize --------------------------------------------------------------------------


def test_info_describes_a_run(command: Command, run: Path) -> None:
    facts = json.loads(command("info", run, "--json").stdout)
    assert (facts["geometry"], facts["dim"], facts["curvature"]) == ("poincare", 4, -1.0)
    assert [level["nodes"] for level in facts["levels"]] == [2, 4, 8]
    model = hyperlm.load(run).model
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["taxonomy"] == model.taxonomy.fingerprint
    assert facts["results"]["test"]["n"] == 32
    said = command("info", run).stdout
    for part in ("poincare, 4 dimensions, curvature -1", "14 in a tree", "path accuracy"):
        assert part in said


def test_info_describes_an_unfinished_run(command: Command, run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "run.json").read_text()) | {"status": "training"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "not finished (no checkpoint yet)" in command("info", tmp_path).stdout
    assert json.loads(command("info", tmp_path, "--json").stdout)["status"] == "training"


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_visualize_draws_runs_and_taxonomies(
    command: Command, run: Path, tmp_path: Path, suffix: str, start: bytes
) -> None:
    Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)]).write(tmp_path / "tree.json")
    for source in (run, tmp_path / "tree.json"):
        target = tmp_path / f"figure{suffix}"
        target.unlink(missing_ok=True)
        result = command("visualize", source, "--output", target)
        assert result.exit_code == 0, result.stderr
        assert target.read_bytes().startswith(start)


def test_visualize_refuses_other_formats(command: Command, run: Path, tmp_path: Path) -> None:
    result = command("visualize", run, "--output", tmp_path / "x.docx")
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
    def fail(*args: Any) -> None:
        raise error

    monkeypatch.setattr(TRAIN, "_run", fail)
    result = command("train")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) <= 2
    debug = command("train", "--debug")
    assert debug.exit_code == 1
    assert "Traceback" in debug.stderr


def test_ctrl_c_anywhere_is_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TRAIN, "_run", stop)
    assert command("train").exit_code == 130
