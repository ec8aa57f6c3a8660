"""Tables as people really make them: what is meant is read, and what may not be is said."""

import gzip
import json
import re
import subprocess
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.cli.columns import listed
from hyperlm.cli.mistakes import _own_columns
from hyperlm.data import LabelledTexts, load_data, read_rows, read_tree, write_rows
from hyperlm.errors import DataError, OptionError, TaxonomyError
from hyperlm.options import TrainingOptions
from hyperlm.taxonomy import Taxonomy


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def doubts(path, **options):
    return " | ".join(load_data(path, **options).source["warnings"])


def test_levels_that_the_first_row_leaves_out_are_levels(tmp_path):
    rows = [{"text": "t0", "l1": "a", "l2": "b"}]
    rows += [{"text": f"t{n}", "l1": "a", "l2": "c", "l3": f"d{n % 2}"} for n in range(1, 9)]
    made = lines(tmp_path / "x.jsonl", rows)
    bundle = load_data(made)
    assert bundle.level_names == ("l1", "l2", "l3")
    assert ("a", "c", "d1") in {bundle.taxonomy.path(n) for n in range(len(bundle.taxonomy))}
    assert read_tree(made).taxonomy.num_levels == 3
    named = load_data(made, label_columns=["l1", "l2", "l3"])
    assert named.taxonomy == bundle.taxonomy


def test_a_split_whose_level_has_another_name_is_refused(tmp_path):
    (tmp_path / "train.csv").write_text("text,l1,l2\ns,a,b\nt,c,d\nu,a,b\nv,c,d\n")
    lines(tmp_path / "test.jsonl", [{"text": "w", "l1": "a", "L2": "b"}])
    with pytest.raises(DataError, match=r"no column 'l2'.*Did you mean 'L2'"):
        load_data(tmp_path)
    # Rows that all end early are no mistake.
    lines(tmp_path / "test.jsonl", [{"text": "w", "l1": "a", "note": "x"}])
    assert load_data(tmp_path).test.paths == ((("a",),),)


def test_separators_without_their_spaces_are_doubted(tmp_path):
    table = tmp_path / "x.csv"
    cells = ["animal > bird", "animal>bird", "plant > tree", "plant >tree"] * 4
    rows = "".join(f"t{n},{cell}\n" for n, cell in enumerate(cells))
    table.write_text(f"text,label\n{rows}")
    assert "2 names contain '>' without the spaces of ' > ', as 'animal>bird'" in doubts(table)
    table.write_text(f"text,label\n{rows}".replace("l>b", "l > b").replace(" >t", " > t"))
    assert "without the spaces" not in doubts(table)


def test_labels_of_a_text_that_were_taken_for_a_path_are_doubted(tmp_path):
    rows = [["news", "sport"], ["sport", "news"], ["news", "tech"]] * 5
    made = [{"text": f"t{n}", "labels": labels} for n, labels in enumerate(rows)]
    told = doubts(lines(tmp_path / "x.jsonl", made))
    assert "'news' stands above 'sport' and below it" in told
    joined = [{"text": f"t{n}", "label": ", ".join(labels)} for n, labels in enumerate(rows)]
    assert "contain ', ', none the separator" in doubts(lines(tmp_path / "y.jsonl", joined))


def test_nothing_in_a_list_of_paths_is_no_label(tmp_path):
    made = lines(
        tmp_path / "x.jsonl",
        [{"text": f"t{n}", "label": ["a > b", None] if n % 2 else ["a > c"]} for n in range(12)],
    )
    assert load_data(made).taxonomy == Taxonomy.from_paths([("a", "b"), ("a", "c")])


def test_a_path_is_a_place_and_a_word_may_be_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    Path("demo/train.csv").write_text("text,l1\na,x\nb,y\nc,x\nd,y\n")
    assert len(load_data("demo").train) > 100
    assert len(load_data(Path("demo")).train) < 5
    assert len(load_data("./demo").train) < 5
    assert TrainingOptions(data=Path("demo")).data == str(Path(".", "demo")) or (
        Path(TrainingOptions(data=Path("demo")).data) == Path("demo")
    )
    assert TrainingOptions(data=Path("demo")).data != "demo"


def test_what_is_written_to_a_link_lands_where_it_leads(tmp_path):
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old\n")
    link.symlink_to(real)
    write_rows(link, [{"a": "1"}], ["a"])
    assert link.is_symlink()
    assert real.read_text() == "a\n1\n"


def test_times_to_the_nanosecond_are_kept(tmp_path):
    made = tmp_path / "x.parquet"
    when = pyarrow.array([1_700_000_000_123_456_789, 1_700_000_000_000_000_000], "timestamp[ns]")
    coarse = pyarrow.array([1_000, 2_000], "timestamp[ns]")
    long = pyarrow.array([1, 2], "duration[ns]")
    table = {"text": ["a", "b"], "when": when, "coarse": coarse, "long": long}
    pyarrow.parquet.write_table(pyarrow.table(table), made)
    first, second = read_rows(made)
    assert str(first["when"]).endswith("22:13:20.123456789")
    assert str(second["when"]).startswith("2023-11-14 22:13:20")
    assert first["coarse"].microsecond == 1
    assert (first["long"], second["long"]) == (1, 2)


def test_empty_rows_at_the_end_of_typed_tables_are_none(tmp_path):
    made = tmp_path / "x.parquet"
    table = {"text": [*"abcd", None], "l1": [*"xyxy", None], "n": [1.0, 2.0, 3.0, 4.0, None]}
    pyarrow.parquet.write_table(pyarrow.table(table), made)
    found = load_data(made, label_columns=["l1"])
    assert sum(len(part) for part in (found.train, found.val, found.test) if part) == 4
    rows = [*({"text": t, "label": [t]} for t in "abab"), {"text": None, "label": []}]
    read = load_data(lines(tmp_path / "x.jsonl", rows))
    assert sum(len(part) for part in (read.train, read.val, read.test) if part) == 4


def test_names_of_columns_may_hold_a_comma():
    assert listed("l1, l2") == ("l1", "l2")
    assert listed('"City, State",l2') == ("City, State", "l2")
    assert listed(None) is None
    with pytest.raises(OptionError, match="--label-columns is empty"):
        listed(" , ")


def test_blanks_around_a_name_are_no_part_of_it(tmp_path):
    made = tmp_path / "t.csv"
    expected = Taxonomy.from_edges([("bird", "animal"), ("fish", "animal"), ("plant", None)])
    for rows in ("bird, animal\nfish, animal\nplant, \n", "bird ,animal\n fish,animal \nplant,\n"):
        made.write_text(f"child, parent\n{rows}")
        assert Taxonomy.read(made) == expected
    made = tmp_path / "t.taxonomy"
    made.write_text("animal\tbird \t fish\nplant \n")
    assert Taxonomy.read(made) == expected
    odd = Taxonomy.from_edges([(" bird", "animal"), ("fish", "animal"), ("x", " bird")])
    for suffix in (".csv", ".tsv", ".taxonomy"):
        with pytest.raises(TaxonomyError, match=r"' bird' begins or ends with a blank.*\.json"):
            odd.write(tmp_path / f"odd{suffix}")
        assert not (tmp_path / f"odd{suffix}").exists()


def test_the_root_of_a_taxonomy_among_the_labels_is_named(tmp_path):
    (tmp_path / "tree.csv").write_text("child,parent\nPlace,Thing\nCave,Place\nLake,Place\n")
    data = tmp_path / "data.csv"
    rows = [f"t{i},Thing,Place,{'Cave' if i % 2 else 'Lake'}" for i in range(20)]
    data.write_text("\n".join(["text,l1,l2,l3", *rows]))
    with pytest.raises(
        DataError, match=r"Below 'Thing' they all are known\. .* root .*--label-col"
    ):
        load_data(data, taxonomy=tmp_path / "tree.csv")
    bundle = load_data(data, taxonomy=tmp_path / "tree.csv", label_columns=["l2", "l3"])
    assert bundle.taxonomy.index("Place > Cave") >= 0
    # Where some are unknown below it too, they are what is to be corrected.
    data.write_text("\n".join(["text,l1,l2,l3", *rows, "x,Thing,Place,Hill"]))
    with pytest.raises(DataError, match="Correct these labels"):
        load_data(data, taxonomy=tmp_path / "tree.csv")


def test_a_first_line_for_excel_is_no_header(tmp_path):
    made = tmp_path / "x.csv"
    made.write_text("sep=;\ntext;l1\na;x\nb;y\n")
    assert list(read_rows(made)) == [{"text": "a", "l1": "x"}, {"text": "b", "l1": "y"}]
    made.write_text('"sep=,"\r\ntext,l1\r\na,x\r\n')
    assert list(read_rows(made)) == [{"text": "a", "l1": "x"}]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (gzip.compress(b"text,l1\n"), "is gzipped. Add .gz"),
        (b"PK\x03\x04\x14\x00\x08\x08\x88\n", "In Excel save it as 'CSV UTF-8'"),
        (b"PAR1\x15\x04\xff\n", "Let its name end in .parquet"),
    ],
    ids=["gzip", "zip", "parquet"],  # a gzip holds the time at which it was made
)
def test_files_of_another_kind_are_told_by_their_first_bytes(tmp_path, start, words):
    made = tmp_path / "x.csv"
    made.write_bytes(start)
    with pytest.raises(DataError, match=words):
        list(read_rows(made))


def test_the_command_that_converts_a_file_is_one_that_runs(tmp_path):
    made = tmp_path / "my table.csv.gz"
    made.write_bytes(gzip.compress("text,l1\nä,b\n".encode("latin-1")))
    with pytest.raises(DataError) as refused:
        list(read_rows(made))
    command = re.search(r"for example: (.+); in Excel", str(refused.value))[1]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert list(read_rows(tmp_path / "converted.csv")) == [{"text": "ä", "l1": "b"}]


def test_columns_of_ones_own_stay_in_the_table_of_mistakes(tmp_path):
    made = tmp_path / "x.csv"
    made.write_text("id,text,title,answer,line\n1,owl,owl,yes,7\n2,oak,tree,no,8\n")
    texts = LabelledTexts(("owl", "oak"), ((), ()), str(made), (2, 3))
    found = [{"line": 2, "text": "owl"}, {"line": 3, "text": "oak"}]
    assert _own_columns(made, texts, found) == {
        2: {"id": "1", "title": "owl", "own_answer": "yes", "own_line": "7"},
        3: {"id": "2", "title": "tree", "own_answer": "no", "own_line": "8"},
    }
    body = tmp_path / "y.csv"
    body.write_text("body,text\nowl,short\noak,long\n")
    own = _own_columns(body, texts, found)
    assert own == {2: {"own_text": "short"}, 3: {"own_text": "long"}}


def test_a_folder_is_no_table_of_mistakes(tmp_path):
    (tmp_path / "d.csv").mkdir()
    done = CliRunner().invoke(app, ["evaluate", "x", "--mistakes", str(tmp_path / "d.csv")])
    assert done.exit_code == 1
    assert "is no file" in done.stderr


def test_paths_that_are_bare_names_are_refused():
    with pytest.raises(DataError, match=r"paths of text 0 are \[?\(?'animal'"):
        LabelledTexts(["an owl"], [("animal", "bird")])
    with pytest.raises(DataError, match="Give each text a list of paths"):
        LabelledTexts(["an owl"], ["animal"])
    made = LabelledTexts(["an owl"], [[("animal", "bird")]], name="mine")
    assert repr(made) == "<LabelledTexts 'mine': 1 texts>"
