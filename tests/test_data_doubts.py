"""Labels that are probably not what they were taken for, and rows that are none."""

import pytest

from hyperlm.data import load_data, write_rows
from hyperlm.data.columns import Columns
from hyperlm.data.doubts import label_doubts
from hyperlm.errors import DataError

LEVELS = Columns("text", ("l1", "l2"))
WHOLE = Columns("text", ("label",))


def doubts(paths, columns=LEVELS, **options):
    return "; ".join(label_doubts(paths, columns, **options))


def test_labels_that_are_what_they_seem_raise_no_doubt():
    paths = [(a, f"{a}{b}") for a in ("Rock", "Tree", "C#") for b in "123"] * 2
    assert doubts(paths) == ""
    assert doubts([("10", "101"), ("10", "102"), ("20", "201"), ("20", "202")] * 2) == ""  # codes


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        ("HARDWARE", "'HARDWARE', 'Hardware'"),
        ("Hard\u200bware", r"'Hard\u200bware'"),
        ("Ｈardware", "'Hardware', 'Ｈardware'"),
    ],
)
def test_one_name_in_two_spellings_is_told_once(other, shown):
    paths = [("Hardware", "Printer"), (other, "Printer"), ("Access", "Badge")] * 2
    found = doubts(paths)
    assert "1 label is written in several ways" in found  # not also each child of it
    assert shown in found
    decomposed = doubts([("Cafe\u0301",), ("Café",), ("Tea",)] * 2, WHOLE)
    assert r"'Cafe\u0301', 'Café'" in decomposed
    spaces = doubts([("Two words",), ("Two  words",)] * 2, WHOLE)
    assert "'Two  words', 'Two words'" in spaces


def test_an_empty_column_is_said_to_be_empty():
    found = doubts([("a",), ("b",), ("c",)] * 2)
    assert "column 'l2' was taken for a level and is empty in every row" in found
    assert "numbers" not in found


@pytest.mark.parametrize("word", ["NA", "nan", "NULL", "None", "-"])
def test_words_for_nothing_are_told(word):
    assert f"3 labels read {word!r}" in doubts([("a", word)] * 3 + [("a", "b"), ("c", "d")])


@pytest.mark.parametrize(
    ("paths", "columns", "said"),
    [
        ([("a", "train"), ("b", "test"), ("b", "train")], ("label", "split"), "which split"),
        ([("a", "1"), ("b", "2.5"), ("b", "3")], ("label", "score"), "'score' was taken for a lev"),
        ([("0", "1"), ("1", "0")], ("Hardware", "Software"), "mark a label each"),
    ],
)
def test_columns_beside_the_labels_are_told_unless_somebody_named_them(paths, columns, said):
    columns = Columns("text", columns)
    assert said in doubts(paths * 2, columns)
    assert said not in doubts(paths * 2, columns, chosen=True)


def test_a_column_with_another_name_on_every_text_may_hold_ids():
    """One text of every label is no reason to doubt the levels above, nor names that recur."""
    ids = [(f"class {i % 3}", f"leaf {i}") for i in range(30)]
    assert "look whether 'l2' holds ids" in doubts(ids)
    assert "look whether 'label' holds ids" in doubts([path[1:] for path in ids], WHOLE)
    assert doubts([(f"class {i // 5}", f"other {i % 5}") for i in range(30)]) == ""
    assert doubts(ids[:20]) == ""  # few texts are of different labels as a matter of course


def test_levels_upside_down_are_told():
    paths = [(f"{a}{b}", a) for a in ("Rock", "Tree") for b in "123"] * 2
    assert "give --label-columns coarse to fine" in doubts(paths, chosen=True)
    assert doubts([path[::-1] for path in paths], chosen=True) == ""


def test_lists_written_as_text_and_several_paths_in_a_cell_are_told():
    for rows in ([("['a', 'b']",), ("['a', 'c']",), ("d",)], [("[1, 2]",), ("[3]",), ("4",)]):
        said = doubts(rows, WHOLE)
        assert "2 labels are lists written as text" in said
        assert "separator" not in said  # a comma there is none
    # Also where somebody has cut them at their commas.
    assert "3 labels are lists" in doubts([("['a'",), ("'b']",), ('["c"]',)], WHOLE)
    assert "',', none the separator" in doubts([("a,b",), ("a,c",), ("d",)], WHOLE)
    paths = [("Hardware", "Printer; Access", "Badge"), ("Hardware", "Laptop")] * 2
    assert "give --label-separator ';'" in doubts(paths, WHOLE)
    assert "1 names contain ' > '" in doubts([("a", "b > c"), ("a", "d")] * 2)


def test_whole_paths_in_a_list_are_several_paths(tmp_path):
    rows = [{"text": f"t{i}", "labels": ["a > b", "c"]} for i in range(4)]
    rows += [{"text": "chain", "labels": ["a", "b"]}]
    write_rows(tmp_path / "train.jsonl", rows)
    bundle = load_data(tmp_path)
    assert bundle.taxonomy.num_levels == 2
    train = bundle.split("train")
    at = train.texts.index("t0") if "t0" in train.texts else train.texts.index("t1")
    assert set(train.paths[at]) == {("a", "b"), ("c",)}


def test_equal_texts_stay_on_one_side_of_a_cut(tmp_path):
    table = tmp_path / "all.csv"
    rows = [(f"text {i % 60}", "ab"[i % 2]) for i in range(120)] + [("", "a"), ("", "b")]
    table.write_text("text,l1\n" + "".join(f"{text},{label}\n" for text, label in rows))
    for seed in range(3):
        bundle = load_data(table, seed=seed)
        sides = [set(bundle.split(split).texts) - {""} for split in ("train", "val", "test")]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 60
        assert not any("training texts" in line for line in bundle.source["warnings"])
        assert all(len(bundle.split(split)) >= 6 for split in ("val", "test"))


def test_empty_rows_at_the_end_are_none_and_rows_without_labels_are_counted(tmp_path):
    table = tmp_path / "train.csv"
    table.write_text("text,l1\nx,a\ny,b\n" + ",\n" * 5)
    assert len(load_data(tmp_path).split("train")) == 2
    table.write_text("text,l1\nx,a\n,\ny,\nz,b\nu,\n")
    with pytest.raises(
        DataError, match=r"line 3: no label in 'l1' \(nor in 2 further rows.*line 6"
    ):
        load_data(tmp_path)
    table.write_text("text,l1\n,\n,\n")
    with pytest.raises(DataError, match="line 2: no label"):
        load_data(tmp_path)


def test_a_column_called_text_in_capitals_is_the_text(tmp_path):
    (tmp_path / "train.csv").write_text("Text,l1\nx,a\ny,b\n")
    assert load_data(tmp_path).split("train").texts == ("x", "y")
