"""Tables that are broken are named by file and line."""

import json
from pathlib import Path

import pytest

from hyperlm.data import (
    check_trainable,
    load_data,
)
from hyperlm.errors import DataError

CSV = "text,l1,l2\n" + "".join(
    f"text {i} {top}{sub},{top},{top}{sub}\n" for top in "ab" for sub in "xy" for i in range(10)
)


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(tmp_path: Path, content: str) -> Path:
    (tmp_path / "train.csv").write_text(content)
    return tmp_path


def test_a_missing_column_lists_those_there_are(tmp_path):
    folder = train(tmp_path, "Texts,l1,l2\na,b,c\n")
    with pytest.raises(DataError, match=r"no column 'text'; .*'Texts', 'l1', 'l2'.*Did you mean"):
        load_data(folder)
    with pytest.raises(DataError, match=r"no column 'l3'; .*--label-columns"):
        load_data(folder, text_column="Texts", label_columns=["l1", "l3"])
    with pytest.raises(
        DataError, match=r"one column. If '\|' separates its columns, save it as \.csv"
    ):
        load_data(train(tmp_path, "text|l1\na|b\n"))
    with pytest.raises(DataError, match="Did you mean 'Beschreibung'"):
        load_data(train(tmp_path, "Beschreibung,l1\na,b\n"), text_column="beschreibung")
    train(tmp_path, CSV)
    (tmp_path / "test.csv").write_text("text,l1\na,b\n")
    with pytest.raises(DataError, match=r"test\.csv: no column 'l2'"):
        load_data(tmp_path)


def test_an_id_is_no_coarsest_level_unless_somebody_says_so(tmp_path):
    rows = "".join(f"T{i},text {i},{'ab'[i % 2]}\n" for i in range(30))
    table = tmp_path / "t.csv"
    table.write_text("id,text,label\n" + rows)
    with pytest.raises(DataError, match=r"own 'id', which looks like an id.*--label-columns"):
        load_data(table)
    assert load_data(table, label_columns=["label"]).taxonomy.num_levels == 1
    # One text of each class is few, and allowed; so is what was asked for.
    table.write_text("text,top,label\n" + rows.replace("T", "text "))
    assert load_data(table, label_columns=["top", "label"]).taxonomy.num_levels == 2
    table.write_text("text,label\n" + "".join(f"text {i},c{i}\n" for i in range(30)))
    assert load_data(table).taxonomy.num_levels == 1


def test_a_gap_says_which_columns_were_taken_for_levels(tmp_path):
    (tmp_path / "t.csv").write_text("id,text,l1,l2,note\n4,some text,science,,x\n")
    with pytest.raises(DataError, match=r"Taken for levels: id, l1, l2, note; --label-columns"):
        load_data(tmp_path / "t.csv")


BAD_ROWS = {
    "no label": ("text,l1\na,b\nc,\n", r"train\.csv, line 3: no label in 'l1'.*hyperlm predict"),
    "no label column": ("text\na\n", r"the only column is 'text'"),
    "unnamed column": (",text,l1\n0,a,b\n", r"column 1 has no name"),
    "too few fields": ("text,l1\na,b\nc\n", r"train\.csv, line 3: 1 fields"),
    "header only": ("text,l1\n", r"no rows below it"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_tables_name_file_and_line(tmp_path, case):
    content, message = BAD_ROWS[case]
    with pytest.raises(DataError, match=message):
        load_data(train(tmp_path, content))


BAD_JSON = {
    "no label": ({"text": "t"}, "line 2: no label in 'label'"),
    "empty list": ({"text": "t", "label": []}, "line 2: no label"),
    "no text": ({"label": ["a"]}, "line 2: no 'text' in this row"),
    "number for text": ({"text": 3, "label": ["a"]}, "line 2: 'text' holds int '3', not a text"),
    "mixed": ({"text": "t", "label": ["a", ["b"]]}, "line 2: 'label' mixes names and lists"),
    "object": ({"text": "t", "label": {"a": 1}}, "line 2: 'label' holds dict"),
    "gap": ({"text": "t", "label": ["a", None, "b"]}, "line 2: an empty label above 'b'"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json_rows_name_file_and_line(tmp_path, case):
    row, message = BAD_JSON[case]
    jsonl(tmp_path / "train.jsonl", {"text": "t", "label": ["a"]}, row)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path)


def test_one_class_cannot_be_learnt(tmp_path):
    bundle = load_data(train(tmp_path, "text,l1\n" + "".join(f"a{i},b\n" for i in range(20))))
    with pytest.raises(DataError, match="all 18 training texts have the one label 'b'"):
        check_trainable(bundle)
    check_trainable(load_data(train(tmp_path, CSV)))
    with pytest.raises(DataError, match="no training texts"):
        check_trainable(load_data(tmp_path, splits=["val"]))


def test_classes_of_one_text_all_stay_in_train(tmp_path):
    bundle = load_data(train(tmp_path, "text,l1\na,b\nc,d\n"))
    assert len(bundle.train) == 2
    assert bundle.val is None
    assert any("no val split could be cut: too few classes" in w for w in bundle.source["warnings"])
