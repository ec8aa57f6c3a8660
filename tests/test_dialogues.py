"""Dialogues become labelled rows, and data sets."""

import gzip
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.data import load_data, read_labelled
from hyperlm.data.dialogues import holds_dialogues, turns
from hyperlm.data.table import Table, file_table
from hyperlm.errors import DataError

DIALOGUE = {
    "problem_type": "job crisis",
    "situation": "I may lose\nmy job.",
    "dialog": [
        {"speaker": "sys", "text": "Hello, how are you?", "strategy": "Question"},
        {"speaker": "usr", "text": "I am  afraid."},
        {"speaker": "usr", "text": "Very."},
        {"speaker": "sys", "text": "Of what?", "strategy": "Question"},
        {"speaker": "sys", "text": "Jobs come and go.", "strategy": "Information"},
        {"speaker": "guest", "text": "True."},
    ],
}


def dialogue_table(*rows):
    return Table("t.jsonl", tuple(enumerate(rows, start=1)), typed=True)


def write_dialogues(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    """A folder as ESConv comes: train, valid and test, a dialogue to a line."""
    folder = tmp_path_factory.mktemp("sets") / "esconv"
    folder.mkdir()
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        write_dialogues(folder / f"{split}.jsonl.gz", [DIALOGUE] * count)
    return folder


# --- from dialogues to rows ----------------------------------------------------------------------


def test_each_labelled_turn_is_an_example_with_what_came_before():
    rows = list(turns(dialogue_table(DIALOGUE)).rows)
    assert [number for number, _ in rows] == [1, 1, 1]
    first, second, third = (row for _, row in rows)
    assert first == {
        "problem_type": "job crisis",
        "situation": "I may lose\nmy job.",
        "text": "Situation: I may lose my job.",
        "strategy": "Question",
        "reply": "Hello, how are you?",
    }
    assert second["text"].splitlines() == [
        "Situation: I may lose my job.",
        "Supporter: Hello, how are you?",
        "Seeker: I am afraid.",
        "Seeker: Very.",
    ]
    # What a supporter says on top of it has the turn before in its context.
    assert third["text"] == second["text"] + "\nSupporter: Of what?"
    assert (third["strategy"], third["reply"]) == ("Information", "Jobs come and go.")


def test_a_dialogue_without_situation_and_with_other_speakers():
    row = {
        "dialog": [
            {"speaker": "A", "text": "Hm."},
            {"speaker": "B", "text": "Yes?", "strategy": "Question"},
        ]
    }
    ((_, example),) = turns(dialogue_table(row)).rows
    assert example == {"text": "A: Hm.", "strategy": "Question", "reply": "Yes?"}


def test_tables_of_texts_are_no_dialogues():
    assert holds_dialogues(DIALOGUE)
    assert not holds_dialogues({**DIALOGUE, "text": "x"})
    assert not holds_dialogues({"dialog": "Hello."})
    assert not holds_dialogues({"text": "x", "label": ["a"]})


@pytest.mark.parametrize(
    ("dialogue", "message"),
    [
        ("Hello.", "t.jsonl, line 2: 'dialog' is str"),
        (["Hello."], "line 2, turn 1: a turn is an object with 'speaker' and 'text'"),
        ([{"speaker": "usr", "text": "x"}, {"speaker": "sys"}], "line 2, turn 2"),
        ([{"speaker": 1, "text": "x"}], "line 2, turn 1"),
    ],
)
def test_broken_dialogues_are_named(dialogue, message):
    table = turns(dialogue_table(DIALOGUE, {"dialog": dialogue}))
    with pytest.raises(DataError, match=message):
        list(table.rows)


def test_dialogues_without_a_label_are_refused():
    table = turns(dialogue_table({"dialog": [{"speaker": "usr", "text": "x"}]}))
    with pytest.raises(DataError, match="no turn of these dialogues has a 'strategy'"):
        list(table.rows)


# --- data sets -----------------------------------------------------------------------------------


def test_a_folder_of_dialogues_is_a_data_set(dialogues):
    bundle = load_data(dialogues)
    assert bundle.has_replies
    assert bundle.level_names == ("strategy",)
    assert bundle.taxonomy.names == ("Information", "Question")
    assert [len(bundle.split(s)) for s in ("train", "val", "test")] == [12, 6, 6]
    assert bundle.test.replies[:3] == ("Hello, how are you?", "Of what?", "Jobs come and go.")
    assert bundle.test.place(3) == f"{dialogues / 'test.jsonl.gz'}, line 2"
    assert bundle.source["columns"] == {"text": "text", "labels": ["strategy"], "reply": "reply"}


def test_the_set_is_found_by_name(dialogues, monkeypatch):
    monkeypatch.setenv("HYPERLM_DATA", str(dialogues.parent))
    assert load_data("esconv").test == load_data(dialogues).test
    monkeypatch.delenv("HYPERLM_DATA")
    with pytest.raises(DataError, match="esconv: the set is not on this machine"):
        load_data("esconv")


def test_dialogues_can_be_labelled_otherwise(dialogues):
    two = load_data(dialogues, label_columns=["problem_type", "strategy"])
    assert two.level_names == ("problem_type", "strategy")
    assert two.train.paths[0] == (("job crisis", "Question"),)
    assert two.has_replies
    assert not load_data(dialogues, reply_column="none").has_replies
    # With a text of its own named, a dialogue is one row.
    whole = load_data(dialogues, text_column="situation", label_columns=["problem_type"])
    assert (len(whole.train), whole.has_replies) == (4, False)


def test_cuts_through_dialogues_are_told(dialogues, tmp_path):
    rows = [{**DIALOGUE, "situation": f"case {n}"} for n in range(20)]
    write_dialogues(tmp_path / "all.jsonl.gz", rows)
    bundle = load_data(tmp_path / "all.jsonl.gz")
    assert any("cut turn by turn" in warning for warning in bundle.source["warnings"])
    assert not any("turn" in warning for warning in load_data(dialogues).source["warnings"])
    # Replies stay with their texts through the cuts.
    for split in ("train", "val", "test"):
        texts = bundle.split(split)
        for text, reply, paths in zip(texts.texts, texts.replies, texts.paths, strict=True):
            assert (reply == "Jobs come and go.") == (paths == (("Information",),))
            assert reply not in text


def test_dialogues_for_a_saved_model(dialogues):
    taxonomy = load_data(dialogues).taxonomy
    test = load_data(dialogues).test
    plain = read_labelled(dialogues, taxonomy=taxonomy)
    assert plain == test
    other = read_labelled(
        dialogues, taxonomy=taxonomy, trained_on=("blurb", ["genre"], "said", None)
    )
    assert other == test
    file = read_labelled(dialogues / "test.jsonl.gz", taxonomy=taxonomy, reply_column="none")
    assert (file.texts, file.replies) == (test.texts, None)


@pytest.mark.skipif(
    not (Path(os.environ.get("HYPERLM_DATA", "")) / "esconv").is_dir(),
    reason="needs a folder esconv in HYPERLM_DATA",
)
def test_every_labelled_turn_of_esconv_is_there():
    folder = Path(os.environ["HYPERLM_DATA"]) / "esconv"
    bundle = load_data("esconv")
    for split, stem in (("train", "train"), ("val", "valid"), ("test", "test")):
        with gzip.open(folder / f"{stem}.jsonl.gz", "rt", encoding="utf-8") as file:
            spoken = [turn for line in file for turn in json.loads(line)["dialog"]]
        said = [(turn["strategy"],) for turn in spoken if turn["speaker"] == "sys"]
        assert [path for (path,) in bundle.split(split).paths] == said
    assert len(bundle.taxonomy) == 8


def command(*words):
    return CliRunner().invoke(app, list(map(str, words)))


# --- answers that say no reply ------------------------------------------------------------------


def test_points_learn_the_labels_alone_and_say_so(dialogues, tiny_backbone, tmp_path):
    told = command(
        "train", "--data", dialogues, "--backbone", tiny_backbone, "--epochs", 1, "--dim", 4,
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "--answer points learns labels alone" in told.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "reply" not in metrics["test"]


def test_reading_a_table_of_dialogues_as_rows_is_left_alone(dialogues):
    """Unfolding belongs to data sets: rows of the file stay what they are."""
    _, row = next(iter(file_table(dialogues / "test.jsonl.gz").rows))
    assert row == DIALOGUE
