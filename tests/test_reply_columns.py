"""Reply columns of tables, and samples of labelled texts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reply_tables import write_csv

from hyperlm.data import LabelledTexts, load_data, read_labelled
from hyperlm.errors import DataError, OptionError


def test_a_reply_column_is_no_level(tmp_path):
    table = tmp_path / "t.csv"
    rows = [(f"text {n}", "ab"[n % 2], "xy"[n % 2], f"say {n}") for n in range(20)]
    write_csv(table, ["text", "l1", "l2", "said"], rows)
    bundle = load_data(table, reply_column="said")
    assert bundle.level_names == ("l1", "l2")
    for split in ("train", "val", "test"):
        for text, reply in zip(bundle.split(split).texts, bundle.split(split).replies, strict=True):
            assert reply == text.replace("text", "say")
    # Without the option nothing has changed: the column is one more level.
    plain = load_data(table)
    assert plain.level_names == ("l1", "l2", "said")
    assert not plain.has_replies
    assert "reply" not in plain.source["columns"]
    # A saved model takes the column it was trained with, where the table has it.
    again = read_labelled(
        table, taxonomy=bundle.taxonomy, trained_on=("text", ["l1", "l2"], "said", None)
    )
    assert again.replies == tuple(row[3] for row in rows)
    without = read_labelled(
        table, taxonomy=bundle.taxonomy, trained_on=("text", ["l1", "l2"], "gone", None)
    )
    assert without.replies is None


def test_empty_replies_are_kept_and_told(tmp_path):
    table = tmp_path / "t.jsonl"
    table.write_text(
        "\n".join(json.dumps({"text": f"t{n}", "label": "ab"[n % 2], "re": ""}) for n in range(8))
    )
    (warning,) = load_data(table, reply_column="re", splits=("train",)).source["warnings"]
    assert warning.endswith("train replies are empty")


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ({"reply_column": "sai"}, DataError, "no column 'sai'.*Did you mean 'said'.*--reply-col"),
        ({"reply_column": "text"}, OptionError, "--reply-column text: this column holds the texts"),
        ({"reply_column": "said", "label_columns": ["l1", "said"]}, OptionError, "or the reply"),
    ],
)
def test_reply_columns_that_cannot_be(tmp_path, columns, kind, message):
    write_csv(tmp_path / "t.csv", ["text", "l1", "said"], [("x", "a", "b"), ("y", "b", "c")])
    with pytest.raises(kind, match=message):
        load_data(tmp_path / "t.csv", **columns)


def test_a_split_without_replies_is_refused(tmp_path):
    write_csv(tmp_path / "train.csv", ["text", "l1", "said"], [("x", "a", "b"), ("y", "b", "c")])
    write_csv(tmp_path / "test.csv", ["text", "l1"], [("x", "a")])
    with pytest.raises(DataError, match=r"test\.csv: no column 'said'.*--reply-column"):
        load_data(tmp_path, reply_column="said")


def test_a_reply_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "x", "label": "a", "said": 3}\n')
    with pytest.raises(DataError, match="line 1: 'said' holds int '3'.*--reply-column"):
        load_data(tmp_path / "t.jsonl", reply_column="said")


def test_replies_and_texts_are_as_many():
    with pytest.raises(DataError, match="2 texts and 1 replies"):
        LabelledTexts(["a", "b"], [[("x",)], [("y",)]], replies=["r"])


@given(st.integers(1, 30), st.data(), st.integers(0, 3))
def test_samples(count, data, seed):
    texts = LabelledTexts(
        [f"t{n}" for n in range(count)],
        [[(str(n % 3),)] for n in range(count)],
        replies=[f"r{n}" for n in range(count)],
    )
    small = data.draw(st.integers(1, count))
    part, more = texts.sample(small, seed), texts.sample(small + 1, seed)
    assert len(part) == small
    assert len(more) == min(small + 1, count)
    assert set(part.texts) <= set(more.texts)
    assert list(part.lines) == sorted(part.lines)
    assert [text[1:] for text in part.texts] == [reply[1:] for reply in part.replies]
    assert part == texts.sample(small, seed)
    with pytest.raises(OptionError, match="a sample of 0"):
        texts.sample(0)
