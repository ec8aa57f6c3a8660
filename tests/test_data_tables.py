"""Readers and writers of tables: what is written comes back, and what is broken is explained."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperlm.data import FORMATS, load_data, read_columns, read_rows, write_rows
from hyperlm.data.table import CsvForm, _header, csv_form, file_table
from hyperlm.errors import DataError, HyperlmError, OutputError

ALL = [suffix + gz for suffix in FORMATS for gz in ("", ".gz")]
ROWS = [
    {"id": "7", "text": 'He said "a, b"\tand left.\nThen came back.', "note": ""},
    {"id": "8", "text": "line separator \u2028 inside, café, 日本", "note": "x"},
    {"id": "9", "text": "", "note": "carriage\r\nreturn"},
]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("suffix", ALL)
def test_rows_come_back_as_written_in_every_format(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    assert write_rows(path, iter(ROWS)) == 3
    assert list(read_rows(path)) == ROWS
    assert read_columns(path) == ("id", "text", "note")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".CSV", ".Jsonl", ".TSV.GZ"])
def test_suffixes_may_be_upper_case(tmp_path, suffix):
    write_rows(tmp_path / f"t{suffix}", ROWS)
    assert list(read_rows(tmp_path / f"t{suffix}")) == ROWS


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.fixed_dictionaries(
            {k: st.text(st.characters(exclude_categories=["Cs"])) for k in ("a", "b")}
        ),
        min_size=1,
    ),
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
)
def test_any_text_survives_a_round_trip(tmp_path, rows, suffix):
    write_rows(tmp_path / f"t{suffix}", rows)
    assert list(read_rows(tmp_path / f"t{suffix}")) == rows


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(["x", "", " ", "a,b"]), min_size=1))
def test_empty_texts_of_a_one_column_table_are_kept(tmp_path, texts):
    path = tmp_path / "one.csv"
    write_rows(path, [{"text": text} for text in texts])
    assert [row["text"] for row in read_rows(path)] == texts


def test_a_blank_line_between_texts_of_one_column_is_an_empty_text(tmp_path):
    path = write(tmp_path / "one.csv", "text\na\n\nb\n\n")
    assert list(file_table(path).rows) == [
        (2, {"text": "a"}), (3, {"text": ""}), (4, {"text": "b"})
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_reading_agrees_with_the_standard_library(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_rows(path, ROWS)
    with path.open(newline="", encoding="utf-8") as stream:
        if suffix == ".jsonl":
            expected = [json.loads(line) for line in stream.read().split("\n") if line]
        else:
            expected = list(csv.DictReader(stream, delimiter="\t" if suffix == ".tsv" else ","))
    assert list(read_rows(path)) == expected


def test_numbers_lists_and_numpy_values_are_written_plainly(tmp_path):
    row = {"text": "t", "p": np.float32(0.5), "path": ["a", "b"], "n": 3, "none": None}
    write_rows(tmp_path / "t.jsonl", [row])
    write_rows(tmp_path / "t.csv", [row])
    assert next(read_rows(tmp_path / "t.jsonl")) == row | {"p": 0.5}
    assert next(read_rows(tmp_path / "t.csv")) == {
        "text": "t", "p": "0.5", "path": '["a", "b"]', "n": "3", "none": ""
    }  # fmt: skip


def test_lines_are_where_rows_begin(tmp_path):
    path = write(tmp_path / "t.csv", 'text,l1\n"two\nlines",a\nx,b\n')
    assert [number for number, _ in file_table(path).rows] == [2, 4]


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = write(tmp_path / "t.csv", b"\xef\xbb\xbftext,l1\na,b\n")
    assert list(read_rows(path)) == [{"text": "a", "l1": "b"}]
    path = write(tmp_path / "t.jsonl", b'\xef\xbb\xbf{"text": "a"}\n')
    assert list(read_rows(path)) == [{"text": "a"}]


def test_very_long_fields_are_accepted(tmp_path):
    write_rows(tmp_path / "t.csv", [{"text": "x" * 1_000_000}])
    assert len(next(read_rows(tmp_path / "t.csv"))["text"]) == 1_000_000


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl"])
def test_reading_and_writing_stream(tmp_path, suffix):
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write_rows(source, ({"text": "word " * 200} for _ in range(10_000)))  # 10 MB
    tracemalloc.start()
    assert write_rows(target, read_rows(source)) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_table_may_be_rewritten_in_place(tmp_path):
    path = tmp_path / "t.csv"
    write_rows(path, ROWS)
    write_rows(path, ({"id": row["id"]} for row in read_rows(path)))
    assert [row["id"] for row in read_rows(path)] == ["7", "8", "9"]


def test_json_lines_keep_columns_that_come_late(tmp_path):
    rows = [{"a": 1}, {"b": 2, "a": 3}]
    write_rows(tmp_path / "t.jsonl", rows)
    assert list(read_rows(tmp_path / "t.jsonl")) == rows


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet.gz"])
def test_writing_no_rows_gives_a_table_without_rows(tmp_path, suffix):
    assert write_rows(tmp_path / f"t{suffix}", [], ["a", "b"]) == 0
    with pytest.raises(DataError, match=r"no rows|empty"):
        list(read_rows(tmp_path / f"t{suffix}"))


LATE = {
    "fraction": (0, 0.97),
    "list": ([1], [1.5]),
    "field": ({"a": 1, "b": None}, {"a": 1, "b": 2}),
    "nothing": (None, 0.5),
    "text": (None, "x"),
}


@pytest.mark.parametrize("kind", LATE)
def test_parquet_keeps_values_of_a_kind_that_comes_late(kind, tmp_path):
    early, late = LATE[kind]
    rows = [{"v": early, "n": n} for n in range(1100)] + [{"v": late, "n": -1}] * 30
    assert write_rows(tmp_path / "t.parquet", rows) == 1130
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows


@pytest.mark.parametrize("late", ["word", 2**70, [1]])
def test_parquet_refuses_what_has_no_common_type(late, tmp_path):
    rows = [{"v": 1}] * 1100 + [{"v": late}]
    with pytest.raises(OutputError, match="do not fit"):
        write_rows(tmp_path / "t.parquet", rows)
    with pytest.raises(OutputError, match="fit one type"):
        write_rows(tmp_path / "t.parquet", [{"v": 2**60 + 1}] * 1100 + [{"v": 0.5}])
    assert not list(tmp_path.iterdir())


def test_the_row_numbers_that_pandas_keeps_are_no_column(tmp_path):
    columns = {"text": ["a"], "l1": ["b"], "__index_level_0__": [7]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert list(read_rows(tmp_path / "t.parquet")) == [{"text": "a", "l1": "b"}]
    assert read_columns(tmp_path / "t.parquet") == ("text", "l1")


def test_no_number_is_null_in_json_lines(tmp_path):
    row = {"v": float("nan"), "w": np.float32("nan"), "n": 1, "l": np.array([1.5, 2.0])}
    write_rows(tmp_path / "t.jsonl", [row])
    assert (tmp_path / "t.jsonl").read_text() == '{"v": null, "w": null, "n": 1, "l": [1.5, 2.0]}\n'


def test_what_parquet_cannot_hold_is_refused_in_words(tmp_path):
    with pytest.raises(OutputError, match=r"t\.parquet: .*'meta'.* Write \.jsonl instead"):
        write_rows(tmp_path / "t.parquet", [{"text": "a", "meta": {}}] * 3)
    assert not list(tmp_path.iterdir())


def test_an_index_of_names_is_a_column_and_no_level(tmp_path):
    """As pandas writes ids that were set as the index and given no name."""
    ids = ["doc-17", "doc-4", "doc-5", "doc-6"]
    columns = {"text": list("abcd"), "l1": ["x", "y"] * 2, "__index_level_0__": ids}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert [row["__index_level_0__"] for row in read_rows(tmp_path / "t.parquet")] == ids
    assert load_data(tmp_path / "t.parquet").source["columns"]["labels"] == ["l1"]


def test_parquet_keeps_types_over_batches(tmp_path):
    rows = [{"n": i, "late": None if i < 3000 else "x", "p": [0.5, 1.0]} for i in range(5000)]
    write_rows(tmp_path / "t.parquet", rows)
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist() == rows


@pytest.mark.parametrize(
    "header",
    [
        "text;l1", '"text";"l1, coarse"', "\n\ntext;l1", '"a;b";c', "text;l1\r",
        'text;"l1,\r\ncoarse"', '"te\n;xt";l1',
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_of_semicolons_and_no_comma_is_one_of_semicolons(tmp_path, header, mark):
    path = write(tmp_path / "t.csv", f'{mark}{header}\nyes, "indeed";b\n"a; b\n;c";d\n')
    assert [list(row.values()) for row in read_rows(path)] == [
        ['yes, "indeed"', "b"], ["a; b\n;c", "d"],
    ]  # fmt: skip
    assert csv_form(path) == CsvForm(";", bool(mark))
    rows = list(read_rows(path))
    copy = tmp_path / "copy.csv.gz"
    assert write_rows(copy, rows, form=csv_form(path)) == 2
    assert list(read_rows(copy)) == rows
    assert csv_form(copy) == csv_form(path)
    assert gzip.decompress(copy.read_bytes()).startswith(b"\xef\xbb\xbf") == bool(mark)


def test_between_semicolons_numbers_have_a_decimal_comma(tmp_path):
    row = {"text": "3.5", "p": 0.25, "q": np.float32(1e-5), "n": 7, "top": [{"p": 0.5}]}
    write_rows(tmp_path / "t.csv", [row], form=CsvForm(";"))
    (there,) = read_rows(tmp_path / "t.csv")
    # Cells of the user's and JSON stay as they are.
    assert there == {"text": "3.5", "p": "0,25", "q": "1e-05", "n": "7", "top": '[{"p": 0.5}]'}
    write_rows(tmp_path / "t.csv", [row])
    assert next(iter(read_rows(tmp_path / "t.csv")))["p"] == "0.25"


@pytest.mark.parametrize("header", ["text,l1", '"text;",l1', "text,a;b", 'i;d,"te\nxt"'])
def test_a_comma_in_the_header_keeps_commas(tmp_path, header):
    path = write(tmp_path / "t.csv", f"{header}\na;b,c\n")
    assert [list(row.values()) for row in read_rows(path)] == [["a;b", "c"]]
    assert csv_form(path) == CsvForm()


def test_a_stray_quote_in_the_header_does_not_draw_in_the_file(tmp_path):
    path = write(tmp_path / "t.csv", '\n\nte"xt,l1\n' + "a,b\n" * 500)
    with path.open(encoding="utf-8") as lines:
        assert len(_header(lines)) == 2 + 100
    assert len(list(read_rows(path))) == 500  # a quote inside a name is one of its letters


def test_one_column_with_a_semicolon_in_its_name_comes_back(tmp_path):
    rows = [{"a;b": "x"}, {"a;b": "y;z"}]
    write_rows(tmp_path / "t.csv", rows)
    assert list(read_rows(tmp_path / "t.csv")) == rows


# -- what goes wrong -----------------------------------------------------------------------

BROKEN = {
    "empty file": ("t.csv", "", r"t\.csv: the file is empty"),
    "blank file": ("t.tsv", "\n\n", r"t\.tsv: the file is empty"),
    "empty json": ("t.jsonl", "\n", r"t\.jsonl: the file is empty"),
    "empty parquet": ("t.parquet", "", r"t\.parquet: the file is empty"),
    "header only": ("t.csv", "text,l1\n", r"'text', 'l1'\) and no rows below it\. Add rows"),
    "duplicate header": ("t.csv", "text,l1,l1\na,b,c\n", r"line 1: the header has 'l1' more than"),
    "too few": ("t.csv", "text,l1\na,b\nc\n", r"t\.csv, line 3: 1 fields, but the header has 2"),
    "too many": ("t.csv", 'text,l1\n"a\nb",b\nc,d,e\n', r"line 4: 3 fields.*double quotes"),
    "semicolons": ("t.csv", "text;l1\na;b;c\n", r"line 2: 3 fields.* that contain semicolons in"),
    "open quote": ("t.csv", 'text,l1\na,b\n"c,d\ne,f\n', r"line 3: a double quote .* never closed"),
    "stray quote": (
        "t.tsv",
        'text\tl1\n"a" b\tc\n',
        r"line 2: text follows a closing",
    ),
    "old mac": ("t.csv", "text,l1\ra,b\r", r"line 1: a bare carriage return"),
    "latin-1": ("t.csv", b"text,l1\na,b\ncaf\xe9,b\n", r"line 3: byte 0xe9 \(byte 4.*iconv"),
    "utf-16": ("t.csv", "text,l1\na,b\n".encode("utf-16"), r"line 1: .*iconv -f UTF-16"),
    "latin-1 json": ("t.jsonl", b'{"a": "b"}\n{"a": "\xe9"}\n', r"line 2: byte 0xe9"),
    "bad json": ("t.jsonl", '{"a": 1}\n{"a": \n', r"line 2: not valid JSON .*one complete object"),
    "json array": ("t.jsonl", "[1, 2]\n", r"line 1: list instead of an object"),
    "repeated key": ("t.jsonl", '{"a": 1, "a": 2}\n', r"line 1: .*key 'a' stands there twice"),
    "nan": ("t.jsonl", '{"a": NaN}\n', r"line 1: .*NaN is not a JSON value"),
    "half a pair": ("t.jsonl", '{"a": "\\ud83d"}\n', r"line 1: .*surrogates not allowed"),
    "deep json": ("t.jsonl", "[" * 100_000 + "\n", r"line 1: not usable as JSON"),
    "not parquet": ("t.parquet", "text,l1\n", r"not a readable parquet file"),
    "not gzip": ("t.csv.gz", "text,l1\n", r"t\.csv\.gz: damaged or not a gzip file.*drop the \.gz"),
    "cut gzip": ("t.csv.gz", gzip.compress(b"text,l1\na,b\n" * 99)[:-20], r"damaged"),
    "suffix": ("t.xlsx", "", r"unknown kind of file '\.xlsx'.*\.csv, \.tsv, \.jsonl, \.parquet"),
    "json suffix": ("t.json", "", r"one JSON object per line belongs in a \.jsonl"),
    "no suffix": ("table", "", r"\(no suffix\)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tables_are_explained(tmp_path, case):
    name, content, message = BROKEN[case]
    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(write(tmp_path / name, content)))
    assert isinstance(caught.value, HyperlmError)
    assert isinstance(caught.value, ValueError)


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    write_rows(tmp_path / "train.csv.gz", ROWS)
    with pytest.raises(DataError, match=r"train\.csv: no such file\. Did you mean 'train\.csv\.gz"):
        list(read_rows(tmp_path / "train.csv"))
    with pytest.raises(DataError, match=r"no such file\. Check the path"):
        list(read_rows(tmp_path / "absent" / "x.csv"))


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(tmp_path / "t.csv"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl.gz", ".parquet"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_rows(path, ROWS)
    before = path.read_bytes()

    def rows():
        yield ROWS[0]
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_rows(path, rows())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_output_error(tmp_path, monkeypatch):
    def full(self, row):
        raise OSError(28, "No space left on device")

    class Full:
        writerow = full

    monkeypatch.setattr(csv, "writer", lambda *args, **options: Full())
    with pytest.raises(OutputError, match=r"No space left on device.*Nothing was left"):
        write_rows(tmp_path / "t.csv", ROWS)
    assert not list(tmp_path.iterdir())


def test_writing_explains_what_does_not_fit(tmp_path):
    with pytest.raises(OutputError, match="row 2 has the column 'b'"):
        write_rows(tmp_path / "t.csv", [{"a": 1}, {"b": 1}])
    with pytest.raises(OutputError, match="there is no folder"):
        write_rows(tmp_path / "absent" / "t.csv", ROWS)
    with pytest.raises(OutputError, match="row 1 cannot be written as JSON"):
        write_rows(tmp_path / "t.jsonl", [{"a": float("inf")}])
    mixed = [{"a": 1}] * 1024 + [{"a": "x"}]
    with pytest.raises(OutputError, match=r"rows 1025 to 1025 do not fit.*\.jsonl"):
        write_rows(tmp_path / "t.parquet", mixed)
    with pytest.raises(DataError, match="unknown kind"):
        write_rows(tmp_path / "t.txt", ROWS)
