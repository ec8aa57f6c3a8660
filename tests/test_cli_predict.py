"""``hyperlm predict``: texts on the command line, and from table to table."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from cli_words import Command
from typer.testing import CliRunner

import hyperlm
from hyperlm import classifier as classifier_module
from hyperlm.cli import app
from hyperlm.data import FORMATS, read_rows, write_rows

pytest_plugins = ["cli_fixtures"]

ADDED = [
    "path", "probability", "predicted_l1", "probability_l1", "predicted_l2", "probability_l2",
    "predicted_l3", "probability_l3", "top", "empty_text",
]  # fmt: skip


def test_predict_answers_texts_on_the_command_line(command: Command, command_run: Path) -> None:
    words = ["--text", "owl0 animal1 bird2", "--text", " ", "--top-k", 2]
    document = json.loads(command("predict", command_run, *words, "--json").stdout)
    expected = hyperlm.load(command_run).predict(["owl0 animal1 bird2", " "], top_k=2)
    assert [answer["path"] for answer in document] == [" > ".join(e.path) for e in expected]
    assert [answer["empty_text"] for answer in document] == [False, True]
    assert document[0]["probability_l3"] == expected[0].probabilities[2]
    assert len(document[0]["top"]) == 2
    said = command("predict", command_run, *words).stdout
    assert " > ".join(expected[0].top[1].path) in said
    assert "empty text" in said


def test_a_threshold_shortens_paths(command: Command, command_run: Path) -> None:
    words = ["predict", command_run, "--text", "owl0 animal1 bird2", "--threshold", 1]
    (answer,) = json.loads(command(*words, "--json").stdout)
    assert (answer["path"], answer["probability"], answer["predicted_l1"]) == ("", None, None)
    assert "no label is sure enough" in command(*words).stdout
    assert command("predict", command_run, "--text", "x", "--threshold", 2).exit_code == 1


@pytest.mark.parametrize("suffix", [*FORMATS, ".csv.gz", ".jsonl.gz", ".parquet.gz"])
def test_predict_reads_and_writes_every_format(
    command: Command, command_run: Path, tmp_path: Path, suffix: str
) -> None:
    texts = ["owl0 animal1", "", "sage1 plant2 herb0", 'a "quoted", comma', "\n\u2028 line"]
    rows = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    write_rows(tmp_path / f"in{suffix}", rows)
    words = ["--input", tmp_path / f"in{suffix}", "--output", tmp_path / f"out{suffix}"]
    result = command("predict", command_run, *words)
    assert result.exit_code == 0, result.stderr
    assert "5 texts labelled" in result.stderr
    assert "1 of them empty" in result.stderr
    written = list(read_rows(tmp_path / f"out{suffix}"))
    assert [{key: row[key] for key in ("id", "text")} for row in written] == rows
    expected = hyperlm.load(command_run).predict(texts)
    for row, answer in zip(written, expected, strict=True):
        assert list(row) == ["id", "text", *ADDED]
        assert row["path"] == " > ".join(answer.path)
        assert float(row["probability"]) == answer.probabilities[-1]
        top = json.loads(row["top"]) if isinstance(row["top"], str) else row["top"]
        assert [tuple(other["path"]) for other in top] == [a.path for a in answer.top]
        assert str(row["empty_text"]) == str(answer.empty)


def test_a_table_of_excel_is_given_back_as_one(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id;text\n7;owl0, animal1\n8;sage1\n", encoding="utf-8-sig")
    command("predict", command_run, "--input", source, "--output", target)
    lines = target.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("\ufeffid;text;path;probability;")
    assert [row["text"] for row in read_rows(target)] == ["owl0, animal1", "sage1"]


def test_a_table_tells_where_the_threshold_ended_the_answer(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    texts = ["owl0 animal1 bird2", "sage1 plant2 herb0", "word3 word4", ""]
    write_rows(source, [{"text": text} for text in texts])
    words = ["predict", command_run, "--input", source, "--output", target]
    (sure,) = {
        min(answer.probabilities[-1] for answer in hyperlm.load(command_run).predict(texts[:2]))
    }
    command(*words, "--threshold", sure - 1e-6)
    rows = list(read_rows(target))
    assert [row["stopped"] for row in rows] == [
        row["path"] != " > ".join(row["top"][0]["path"]) for row in rows
    ]
    assert {row["stopped"] for row in rows} == {True, False}
    command(*words)
    assert all("stopped" not in row for row in read_rows(target))


def test_formats_can_change_on_the_way(command: Command, command_run: Path, tmp_path: Path) -> None:
    rows = [{"text": "owl0", "tags": ["a", "b"]}, {"text": "sage1"}]
    write_rows(tmp_path / "in.jsonl", rows)
    for suffix in (".jsonl", ".csv", ".parquet"):
        target = tmp_path / f"out{suffix}"
        result = command("predict", command_run, "-i", tmp_path / "in.jsonl", "-o", target)
        assert result.exit_code == 0, result.stderr
        assert len(list(read_rows(target))) == 2
    assert [row.get("tags") for row in read_rows(tmp_path / "out.jsonl")] == [["a", "b"], None]


def test_parquet_probabilities_are_numbers_though_none_is_reached(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.csv", [{"text": "owl0"}, {"text": "pike1"}])
    words = ["-i", tmp_path / "in.csv", "-o", tmp_path / "out.parquet", "--threshold", 1]
    assert command("predict", command_run, *words).exit_code == 0
    schema = pyarrow.parquet.read_schema(tmp_path / "out.parquet")
    assert {str(schema.field(f"probability_l{level}").type) for level in (1, 2, 3)} == {"double"}
    assert str(schema.field("predicted_l3").type) == "string"


def test_predict_holds_no_more_than_a_window(
    command: Command, command_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    result = command("predict", command_run, "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert result.exit_code == 0
    assert max(ahead) == 4
    assert len(list(read_rows(tmp_path / "out.csv"))) == 40


def test_a_column_is_never_replaced(command: Command, command_run: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.csv", [{"text": "owl0", "path": "mine"}])
    words = ["predict", command_run, "-i", tmp_path / "in.csv", "-o", tmp_path / "out.csv"]
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
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.jsonl", [{"text": "owl0"}, {"text": "pike1", "top": 1}])
    result = command(
        "predict", command_run, "-i", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl"
    )
    assert result.exit_code == 1
    assert "in.jsonl, line 2: the table has a column 'top'" in result.stderr


def test_predict_does_not_write_over_its_input(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.csv", [{"text": "owl0"}])
    result = command("predict", command_run, "-i", tmp_path / "in.csv", "-o", tmp_path / "in.csv")
    assert result.exit_code == 1
    assert "would replace --input" in result.stderr


def test_predict_compressed_input_is_the_plain_one(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"body\nowl0 animal1\n"))
    words = ["-i", tmp_path / "in.csv.gz", "-o", tmp_path / "out.jsonl", "--text-column", "body"]
    assert command("predict", command_run, *words).exit_code == 0
    assert len(list(read_rows(tmp_path / "out.jsonl"))) == 1


def test_texts_come_from_standard_input(command_run: Path) -> None:
    words = ["predict", str(command_run), "--text", "-", "--json"]
    given = "\ufeffowl0 animal0\r\nfish1\u2028bird2\x0c\n\nlast"  # signs that end no line
    result = CliRunner().invoke(app, words, input=given)
    assert result.exit_code == 0, result.stderr
    said = [answer["text"] for answer in json.loads(result.stdout)]
    assert said == ["owl0 animal0", "fish1\u2028bird2\x0c", "", "last"]
    result = CliRunner().invoke(app, words, input=b"caf\xe9\n")
    assert result.exit_code == 1
    assert "standard input: byte 3 is not UTF-8" in result.stderr


def test_lines_with_keys_of_their_own_fit_a_table(
    command: Command, command_run: Path, tmp_path: Path
) -> None:
    lines = [{"text": "owl0"}, {"text": "wren1", "source": "web"}, {"id": 7, "text": "sage1"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["predict", command_run, "--input", tmp_path / "in.jsonl"]
    result = command(*words, "--output", tmp_path / "out.csv")
    assert result.exit_code == 0, result.stderr
    rows = list(read_rows(tmp_path / "out.csv"))
    assert [row["source"] for row in rows] == ["", "web", ""]
    assert [row["id"] for row in rows] == ["", "", "7"]
    (tmp_path / "in.jsonl").write_text('{"text": "owl0"}\n{"text": "wren1", "path": "x"}\n')
    result = command(*words, "--output", tmp_path / "clash.csv")
    assert result.exit_code == 1
    assert "--prefix" in result.stderr


def test_a_text_that_is_not_utf_8_is_refused(command: Command, command_run: Path) -> None:
    """Python hands over such bytes of a command line as lone surrogates."""
    result = command(
        "predict", command_run, "--text", b"caf\xe9".decode("utf-8", "surrogateescape")
    )
    assert result.exit_code == 1
    assert "UTF-8" in result.stderr


def test_an_empty_text_is_never_sure(command: Command, command_run: Path, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text('text\n""\nowl0\n')
    words = ["predict", command_run, "--input", table, "--output", tmp_path / "a.jsonl"]
    assert command(*words, "--threshold", "0.0").exit_code == 0
    empty, other = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert (empty["path"], empty["stopped"], empty["empty_text"]) == ("", True, True)
    assert other["path"]
    assert not other["stopped"]
