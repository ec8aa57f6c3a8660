"""``hyperlm evaluate``: the document of the library, for any table."""

import json
from pathlib import Path

import pytest
from cli_words import KEYS, Command

import hyperlm
from hyperlm.data import load_data, read_rows, write_rows

pytest_plugins = ["cli_fixtures"]


def test_evaluate_prints_the_document_of_the_library(
    command: Command, command_run: Path, demo_like: Path
) -> None:
    result = command("evaluate", command_run, "--data", demo_like, "--json")
    document = json.loads(result.stdout)
    assert set(document) == KEYS
    stored = json.loads((command_run / "metrics.json").read_text())
    for part in (document, stored["test"]):
        part.pop("texts_per_second")
    assert document == stored["test"]


def test_evaluate_takes_a_file_a_split_or_what_the_run_was_trained_on(
    command: Command, command_run: Path, demo_like: Path
) -> None:
    def texts(*words: object) -> int:
        return json.loads(command("evaluate", command_run, *words, "--json").stdout)["n"]

    assert texts() == texts("--data", demo_like / "test.csv") == 32
    assert texts("--split", "train") == texts("--data", demo_like, "--split", "train") == 128
    table = command("evaluate", command_run, "--split", "val").stdout
    assert "l3 accuracy" in table
    assert "texts a second" in table


def test_evaluate_names_other_columns(command: Command, command_run: Path, tmp_path: Path) -> None:
    rows = [{"id": 1, "body": "owl0 animal0 bird2", "label": "animal/bird/owl"}] * 3
    write_rows(tmp_path / "x.csv", rows)
    words = ["--text-column", "body", "--label-columns", "label", "--path-separator", "/"]
    result = command("evaluate", command_run, "--data", tmp_path / "x.csv", *words, "--json")
    assert json.loads(result.stdout)["n"] == 3


def test_evaluate_takes_the_columns_of_the_training_data(
    command: Command, command_run: Path, demo_like: Path, tmp_path: Path
) -> None:
    """Other columns are no levels: a table that predict wrote can be measured."""
    command(
        "predict", command_run, "--input", demo_like / "test.csv", "--output", tmp_path / "out.csv"
    )
    result = command("evaluate", command_run, "--data", tmp_path / "out.csv", "--json")
    assert json.loads(result.stdout)["n"] == 32
    # Also where they are written in capitals, as spreadsheets like them.
    header, _, rows = (tmp_path / "out.csv").read_text("utf-8").partition("\n")
    assert header.startswith("text,l1,l2,l3,path,")
    (tmp_path / "out.csv").write_text("Text,L1,L2 ,L3" + header[13:] + "\n" + rows, "utf-8")
    shouted = command("evaluate", command_run, "--data", tmp_path / "out.csv", "--json")
    figures = (json.loads(some.stdout) | {"texts_per_second": 0} for some in (result, shouted))
    assert next(figures) == next(figures)


def test_a_table_that_was_divided_is_divided_again(
    command: Command, train_words: list[str], demo_like: Path, tmp_path: Path
) -> None:
    table = tmp_path / "all.csv"
    table.write_text((demo_like / "train.csv").read_text())
    words = [*train_words, "--epochs", 1, "--val-fraction", 0.25, "--seed", 3]
    words += ["--data", table, "--output", tmp_path / "run", "--json"]
    stored = json.loads(command("train", *words).stdout)["test"]
    for data in ([], ["--data", table]):
        result = command("evaluate", tmp_path / "run", *data, "--json")
        document = json.loads(result.stdout)
        # Not the texts the model has learnt from.
        assert document["n"] == 32
        assert document["levels"] == stored["levels"]
        assert "run cut from all.csv" in result.stderr
    own = ["--label-columns", "l1,l2,l3", "--text-column", "text", "--path-separator", " > "]
    document = json.loads(command("evaluate", tmp_path / "run", *data, *own, "--json").stdout)
    assert document["n"] == 32
    other = command("evaluate", tmp_path / "run", *data, "--label-columns", "l1,l2", "--json")
    assert json.loads(other.stdout)["n"] == 128
    assert "the run has learnt most or all of these texts" in other.stderr
    # Some of them in a file of another name, and texts of which only the coarsest label is known.
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert all(len(row) == 4 for row in rows)
    part = tmp_path / "part.csv"
    part.write_text("".join(",".join(row) + "\n" for row in rows[:61]))
    said = command("evaluate", tmp_path / "run", "--data", part, "--json").stderr
    learnt = int(said.split("the run has learnt from ")[1].split(" of these 60 texts")[0])
    assert 20 < learnt < 45  # half of all
    part.write_text("text,l1\n" + "".join(f"new {row[0]},{row[1]}\n" for row in rows[1:9]))
    said = command("evaluate", tmp_path / "run", "--data", part, "--json").stderr
    assert "has learnt from" not in said
    assert "8 of these 8 texts have a label above those that the run answers with" in said
    # Of another table the same options are asked for, not guessed.
    (tmp_path / "other.csv").write_text("text,l1,l2,topic\nowl0,animal,bird,owl\n")
    result = command("evaluate", tmp_path / "run", "--data", tmp_path / "other.csv", *own)
    assert result.exit_code == 1
    assert "no column 'l3'" in result.stderr
    # Another table is another cut: nobody knows which of its texts the run has learnt from.
    lines = (demo_like / "train.csv").read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-3]))
    said = command("evaluate", tmp_path / "run", "--json").stderr
    assert "all.csv has changed" in said
    assert "may have been trained on some of them" in said
    assert "run cut from" not in said
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text((demo_like / name).read_text())
    words = [*train_words, "--epochs", 1, "--data", folder, "--output", tmp_path / "run2"]
    done = command("train", *words)
    assert done.exit_code == 0, done.stderr
    again = ["evaluate", tmp_path / "run2", "--split", "val", "--json"]
    own = command(*again)
    assert "val texts that the run cut from parts" in own.stderr
    # Named again, the folder is divided as it was; what is left of train is without val.
    named = command(*again, "--data", folder)
    assert json.loads(named.stdout)["n"] == json.loads(own.stdout)["n"] > 0
    for data in ([], ["--data", folder]):
        of_train = command("evaluate", tmp_path / "run2", "--split", "train", *data, "--json")
        assert json.loads(of_train.stdout)["n"] == 128 - json.loads(own.stdout)["n"]
    (folder / "train.csv").write_text("".join(lines[:-3]))
    assert "may have been trained on some of them" in command(*again).stderr


def test_a_named_set_that_was_divided_is_divided_again(
    command: Command,
    train_words: list[str],
    demo_like: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the form that WOS comes in: texts and labels in files of their own, no splits."""
    rows = [line.split(",") for line in (demo_like / "train.csv").read_text().splitlines()[1:]]
    numbers = [sorted({row[level] for row in rows}) for level in (1, 2)]
    for folder in (tmp_path / "sets" / "wos", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        (folder / "X.txt").write_text("".join(f"{row[0]}\n" for row in rows))
        for level in (1, 2):
            codes = (numbers[level - 1].index(row[level]) for row in rows)
            (folder / f"YL{level}.txt").write_text("".join(f"{code}\n" for code in codes))
    monkeypatch.setenv("HYPERLM_DATA", str(tmp_path / "sets"))
    run = tmp_path / "run"
    words = [*train_words[2:], "--epochs", 1, "--data", "wos", "--output", run, "--json"]
    stored = json.loads(command("train", *words).stdout)["test"]
    for data in ([], ["--data", "wos"], ["--data", tmp_path / "elsewhere"]):
        result = command("evaluate", run, *data, "--json")
        assert json.loads(result.stdout)["levels"] == stored["levels"], data
        assert "test texts that the run cut from" in result.stderr
    fitted = json.loads(command("calibrate", run, "--data", "wos", "--json").stdout)
    assert 0 < fitted["n"] < 32
    # Columns of its own make it another table, of which the run has learnt most.
    other = ["--data", "wos", "--label-columns", "l1"]
    assert "that the model has learnt" in command("calibrate", run, *other).stderr
    # Some of its texts, in a file of the user's.
    part = [
        f"{row[0]},YL1 {numbers[0].index(row[1])},YL2 {numbers[1].index(row[2])}\n"
        for row in rows[:60]
    ]
    (tmp_path / "part.csv").write_text("text,l1,l2\n" + "".join(part))
    said = command("evaluate", run, "--data", tmp_path / "part.csv", "--json").stderr
    assert "the run has learnt from " in said


def test_mistakes_become_a_table_with_the_surest_first(
    command: Command, command_run: Path, demo_like: Path, tmp_path: Path
) -> None:
    target = tmp_path / "wrong.jsonl"
    words = ["evaluate", command_run, "--data", demo_like / "test.csv", "--mistakes", target]
    result = command(*words, "--json")
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    document = json.loads(result.stdout)
    assert set(document) == KEYS
    assert rows
    assert len(rows) == round(32 * (1 - document["path_accuracy"]))
    assert f"{len(rows)} of 32 answers are wrong: {target}" in result.stderr
    sure = [row["probability"] for row in rows]
    assert sure == sorted(sure, reverse=True)
    assert sum(row["edges"] for row in rows) / 32 == pytest.approx(document["mean_tree_distance"])
    # What stands there is what the file says and what predict answers.
    texts = load_data(demo_like).split("test")
    model = hyperlm.load(command_run)
    for row in rows:
        at = texts.lines.index(row["line"])
        assert row["text"] == texts.texts[at]
        assert row["gold"] == " > ".join(texts.paths[at][0])
        answer = model.predict([row["text"]])[0]
        assert row["answer"] == " > ".join(answer.path) != row["gold"]
        assert row["probability"] == pytest.approx(answer.top[0].probability, rel=1e-4)
    table = tmp_path / "wrong.csv"
    command(*words[:-1], table)
    assert len(list(read_rows(table))) == len(rows)


def test_mistakes_keep_the_columns_of_their_texts(
    command: Command, command_run: Path, demo_like: Path, tmp_path: Path
) -> None:
    header, *lines = (demo_like / "test.csv").read_text().splitlines()
    source, target = tmp_path / "in.csv", tmp_path / "wrong.csv"
    rows = [f"T-{at};{line.replace(',', ';')}" for at, line in enumerate(lines)]
    source.write_text("\n".join(["Nr.;" + header.replace(",", ";"), *rows]), encoding="utf-8-sig")
    words = ["evaluate", command_run, "--data", source, "--mistakes", target]
    for _ in range(2):  # an earlier table is replaced, with these columns too
        assert (
            command(*words, "--text-column", "text", "--label-columns", "l1,l2,l3").exit_code == 0
        )
    found = list(read_rows(target))
    assert found
    assert list(found[0])[:7] == ["line", "text", "gold", "answer", "probability", "edges", "Nr."]
    for row in found:
        assert lines[int(row["Nr."].removeprefix("T-"))].startswith(row["text"])
        assert row["gold"] == " > ".join(row[name] for name in ("l1", "l2", "l3"))
    assert target.read_bytes().startswith(b"\xef\xbb\xbfline;text;")


def test_mistakes_replace_nothing_else(
    command: Command, command_run: Path, demo_like: Path, tmp_path: Path
) -> None:
    words = ["evaluate", command_run, "--data", demo_like / "test.csv", "--mistakes"]
    other = tmp_path / "mine.csv"
    other.write_bytes((demo_like / "test.csv").read_bytes())
    log = command_run / "train_log.jsonl"
    kept = other.read_bytes(), log.read_bytes()
    for target, said in (
        (other, "is no table of mistakes"),
        (log, "is no table of mistakes"),
        (tmp_path / "val.csv", "taken for the val split"),  # whether it is there or not
        (tmp_path / "Dev.tsv.gz", "taken for the val split"),
        (tmp_path / "no" / "x.csv", "there is no folder"),
        (tmp_path / "x.txt", ".txt"),
    ):
        result = command(*words, target)
        assert result.exit_code == 1
        assert said in result.stderr
    assert (other.read_bytes(), log.read_bytes()) == kept
    # An earlier one is replaced, also one that found nothing wrong.
    target = tmp_path / "wrong.csv"
    assert command(*words, target).exit_code == 0
    found = target.read_bytes()
    target.write_bytes(b"line,text,gold,answer,probability,edges\n")
    assert command(*words, target).exit_code == 0
    assert target.read_bytes() == found
