"""Bad input, one by one, through the command: its own message, exit status 1, no traceback.

Wrong usage of the command itself (status 2) is in ``test_cli.py``.
"""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig
from transformers.utils import logging
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.data import read_rows
from hyperlm.lm import HierarchicalLM

GOOD = "text,l1,l2\nowl0 word1,animal,bird\noak1 word2,plant,tree\n"
Fails = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def _library_verbosity() -> Iterator[None]:
    """The command silences transformers; other tests may listen to it."""
    before = logging.get_verbosity()
    yield
    logging.set_verbosity(before)
    logging.enable_progress_bar()


def fails(*words: object) -> str:
    """The one or two lines on standard error of a command that ends with status 1."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 1, (result.stdout, result.stderr)
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Note: ")]
    assert lines[0].startswith("Error: ")
    assert len(lines) <= 2
    return "\n".join(lines)


@pytest.fixture
def train_fails(tiny_backbone: Path, tmp_path: Path) -> Fails:
    """Train on a table of this content, or with these options, and return what is said."""

    def attempt(content: str | bytes | None = None, *words: object, name: str = "table.csv") -> str:
        data: list[object] = []
        if content is not None:
            raw = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(raw)
            data = ["--data", tmp_path / name]
        output = tmp_path / "run"
        message = fails(
            "train", "--backbone", tiny_backbone, *data, *words, "--output", output, "--quiet"
        )
        assert not output.exists()  # nothing is left behind
        return message

    return attempt


@pytest.fixture(scope="module")
def run(tiny_backbone: Path, demo_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = ["--data", demo_like, "--backbone", tiny_backbone, "--dim", 2, "--epochs", 1]
    words = ["train", *words, "--output", folder, "--quiet"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return folder


# -- files ---------------------------------------------------------------------------------------


def test_a_missing_file(train_fails: Fails, demo_like: Path, run: Path, tmp_path: Path) -> None:
    assert "no such file. Did you mean 'train.csv'?" in train_fails(
        None, "--data", demo_like / "trian.csv"
    )
    assert "no such file" in fails("evaluate", run, "--data", tmp_path / "none.csv")
    words = ("--input", tmp_path / "none.csv", "--output", tmp_path / "out.csv")
    assert "no such file" in fails("predict", run, *words)
    assert "Named sets are demo, dbpedia, wos" in train_fails(None, "--data", "dmeo")


def test_an_empty_file(train_fails: Fails) -> None:
    assert "table.csv: the file is empty" in train_fails("")
    assert "no rows below it" in train_fails("text,l1\n")


def test_a_missing_column(train_fails: Fails, run: Path, tmp_path: Path) -> None:
    message = train_fails("body,l1\nowl,animal\n")
    assert "no column 'text'; the columns are ['body', 'l1']" in message
    assert "--text-column" in message
    assert "--label-columns" in train_fails(GOOD, "--label-columns", "l1,l3")
    words = ("--input", tmp_path / "table.csv", "--output", tmp_path / "out.csv")
    assert "no column 'body'" in fails("predict", run, *words, "--text-column", "body")


def test_bytes_that_are_not_utf_8(train_fails: Fails) -> None:
    message = train_fails(GOOD.encode() + "caf\xe9 word1,animal,bird\n".encode("latin-1"))
    assert "table.csv, line 4: byte 0xe9" in message
    assert "iconv" in message


def test_a_row_with_too_few_fields(train_fails: Fails) -> None:
    message = train_fails(GOOD + "wren2 word1,animal\n")
    assert "table.csv, line 4: 2 fields, but the header has 3" in message


# -- labels --------------------------------------------------------------------------------------


def test_one_class(train_fails: Fails) -> None:
    message = train_fails("text,l1\n" + "".join(f"word{n},animal\n" for n in range(6)))
    assert "have the one label 'animal'" in message
    assert "at least two classes" in message


def test_conflicting_parents(train_fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "tree.yaml").write_text("animal: [bird, fish]\nanimal: [bird]\n")
    message = train_fails(GOOD, "--taxonomy", tmp_path / "tree.yaml")
    assert "animal" in message


def test_a_cycle(train_fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "tree.csv").write_text("child,parent\nbird,animal\nanimal,bird\n")
    message = train_fails(GOOD, "--taxonomy", tmp_path / "tree.csv")
    assert "cycle" in message
    assert "'animal'" in message or "animal" in message


def test_labels_that_training_has_not_seen(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("text,l1,l2,l3\nx,animal,bird,owl\ny,animal,bird,owll\nz,rock,ore,tin\n")
    message = fails("evaluate", run, "--data", table)
    assert "2 of 3 texts have labels that are not in the taxonomy" in message
    assert "'animal > bird > owll' (line 3; near: 'owl')" in message


def test_empty_texts_are_answered_and_flagged(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,owl0\n2,\n3,   \n")
    words = ["--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv"]
    result = CliRunner().invoke(app, ["predict", str(run), *map(str, words)])
    assert result.exit_code == 0
    assert "2 of them empty" in result.stderr
    rows = list(read_rows(tmp_path / "out.csv"))
    assert [(row["id"], row["empty_text"]) for row in rows] == [
        ("1", "False"), ("2", "True"), ("3", "True")
    ]  # fmt: skip
    assert all(row["path"].count(" > ") == 2 for row in rows)


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--geometry", "flat"], "choose one of poincare, lorentz, euclidean"),
        (["--head", "tree"], "choose one of points, linear"),
        (["--loss", "mse"], "choose one of level, path, leaf"),
        (["--precision", "int8"], "choose one of auto, fp32, bf16, fp16"),
        (["--init", "zeros"], "choose one of auto, names, texts, tree, random"),
        (["--pooling", "max"], "choose one of auto, mean, last"),
        (["--layers", "3"], "layer 3 does not exist, the backbone has layers 1 to 2"),
        (["--layers", "two"], "Give 'auto' or layer numbers"),
        (["--dim", "1"], "at least 2 dimensions"),
        (["--curvature", "-1"], "c must be positive"),
        (["--epochs", "-1"], "--epochs -1: give 1 or more"),
        (["--freeze", "--lora", "4"], "exclude each other"),
        (["--lora", "0"], "the rank must be at least 1"),
        (["--merge"], "needs --lora"),
        (["--report-to", "nobody"], "--report-to 'nobody' is unknown"),
        (["--max-length", "4096"], "reads at most 128 tokens"),
        (["--backbone", "nobody/nothing"], "--backbone nobody/nothing: cannot be loaded"),
        (["--cone-weight", "1", "--head", "linear"], "--cone-weight needs --head points"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be(
    train_fails: Fails, demo_like: Path, words: list[str], said: str
) -> None:
    assert said in train_fails(None, "--data", demo_like, *words)


# -- folders -------------------------------------------------------------------------------------


def test_an_existing_output_folder(run: Path, demo_like: Path, tmp_path: Path) -> None:
    message = fails("train", "--data", demo_like, "--output", run)
    assert "--overwrite" in message
    assert "--resume" in message
    (tmp_path / "notes.txt").touch()
    message = fails("train", "--data", demo_like, "--output", tmp_path, "--overwrite")
    assert "replaces only folders of hyperlm runs" in message
    outer = shutil.copytree(run, tmp_path / "outer")
    shutil.copytree(run, outer / "inner")
    message = fails("train", "--data", demo_like, "--output", outer, "--overwrite")
    assert "would delete the run in" in message
    assert "a file is in the way" in fails("train", "--output", tmp_path / "notes.txt")


def test_a_damaged_model_folder(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    for content in ('{"val": 3', '{"val": 3}', "[]"):
        (folder / "metrics.json").write_text(content)
        assert "metrics.json: missing or damaged" in fails("info", folder)
        assert "metrics.json: missing or damaged" in fails("train", "--resume", "--output", folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "cannot be loaded" in fails("predict", folder, "--text", "x")
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in fails("evaluate", folder)
    (folder / "config.json").write_text('{"model_type": ')
    assert "damaged, it is not readable JSON" in fails("info", folder)
    (folder / "config.json").unlink()
    assert "has no config.json" in fails("visualize", folder)


def test_a_folder_without_its_tokens(run: Path, tmp_path: Path) -> None:
    """The library makes a tokenizer that knows no word of it, and says nothing."""
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "tokenizer.json").write_text('{"a": 1}')
    assert "tokenizer beside the model cannot be loaded" in fails("predict", folder, "--text", "x")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert "vocabulary is missing" in fails("evaluate", folder)


def test_a_foreign_model_folder(tmp_path: Path, run: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    message = fails("predict", tmp_path, "--text", "x")
    assert "a model of type 'bert', not of hyperlm" in message
    assert "no such folder" in fails("info", run / "none")


def test_a_damaged_record(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    assert "damaged" in fails("train", "--resume", "--output", tmp_path)
    record = json.loads((run / "run.json").read_text())
    record["options"]["warp"] = 9
    (tmp_path / "run.json").write_text(json.dumps(record))
    message = fails("train", "--resume", "--output", tmp_path)
    assert "options warp are unknown" in message


def test_no_disk_space_while_saving(
    train_fails: Fails, demo_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HierarchicalLM, "save_pretrained", full)
    message = train_fails(None, "--data", demo_like, "--dim", 2, "--epochs", 1)
    assert "no space left on the disk while saving" in message
    assert "MB" in message or "kB" in message
