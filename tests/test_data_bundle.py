"""From a folder or a file to splits, taxonomy, gold nodes and a record."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hyperlm.data import (
    LabelledTexts,
    choose_text_column,
    gold_nodes,
    load_data,
    read_labelled,
    text_of,
    write_rows,
)
from hyperlm.errors import DataError, OptionError, TaxonomyError
from hyperlm.taxonomy import Taxonomy

CSV = "text,l1,l2\n" + "".join(
    f"text {i} {top}{sub},{top},{top}{sub}\n" for top in "ab" for sub in "xy" for i in range(10)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(CSV)
    (tmp_path / "val.csv").write_text("text,l1,l2\nv,a,ax\n")
    (tmp_path / "test.csv").write_text("text,l1,l2\nt,b,by\nu,a,ax\n")
    return tmp_path


# -- splits and taxonomy ---------------------------------------------------------------------


def test_a_folder_gives_splits_taxonomy_and_level_names(folder):
    bundle = load_data(folder)
    assert [len(bundle.split(s)) for s in ("train", "val", "test")] == [40, 1, 2]
    assert bundle.level_names == ("l1", "l2")
    assert bundle.taxonomy == Taxonomy.from_paths(
        [("a", "ax"), ("a", "ay"), ("b", "bx"), ("b", "by")]
    )
    assert bundle.test.paths == ((("b", "by"),), (("a", "ax"),))
    assert bundle.test.place(1) == f"{folder / 'test.csv'}, line 3"


def test_gold_is_the_end_node_of_each_path(folder):
    bundle = load_data(folder)
    for split in ("train", "val", "test"):
        for nodes, paths in zip(bundle.gold(split), bundle.split(split).paths, strict=True):
            assert nodes.dtype == np.int64
            assert nodes.tolist() == [bundle.taxonomy.index(path) for path in paths]


def test_the_taxonomy_does_not_depend_on_the_order_of_rows(folder):
    header, *lines = CSV.splitlines()
    before = load_data(folder).taxonomy.fingerprint
    (folder / "train.csv").write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert load_data(folder).taxonomy.fingerprint == before


def test_classes_without_training_text_are_kept_and_recorded(folder):
    (folder / "test.csv").write_text("text,l1,l2\nt,b,new\n")
    bundle = load_data(folder)
    assert bundle.taxonomy.index(("b", "new")) in bundle.taxonomy.terminals
    assert bundle.source["classes_without_training_text"] == {"count": 1, "first": ["b > new"]}
    assert "1 of 5 classes have no training text" in bundle.source["warnings"]


def test_a_missing_val_split_is_cut_from_train_and_recorded(folder):
    (folder / "val.csv").unlink()
    bundle = load_data(folder, seed=7, val_fraction=0.2)
    assert (len(bundle.train), len(bundle.val)) == (32, 8)
    assert not set(bundle.train.texts) & set(bundle.val.texts)
    record = bundle.source["cuts"]["val"]
    assert (record["seed"], record["fraction"], record["rows"]) == (7, 0.2, 8)
    assert bundle.val == load_data(folder, seed=7, val_fraction=0.2, splits=["val"]).val
    assert bundle.val != load_data(folder, seed=8, val_fraction=0.2).val


def test_a_single_file_is_divided_into_three(folder):
    bundle = load_data(folder / "train.csv")
    assert (len(bundle.train), len(bundle.val), len(bundle.test)) == (32, 4, 4)
    together = bundle.train.texts + bundle.val.texts + bundle.test.texts
    assert sorted(together) == sorted(line.split(",")[0] for line in CSV.splitlines()[1:])
    assert set(bundle.source["cuts"]) == {"val", "test"}


def test_a_folder_without_test_has_none(folder):
    (folder / "test.csv").unlink()
    bundle = load_data(folder)
    assert bundle.test is None
    with pytest.raises(DataError, match="there is no test split here, only train, val"):
        bundle.gold("test")
    with pytest.raises(OptionError, match="choose one of train, val, test"):
        bundle.split("dev")


def test_only_the_wanted_splits_are_read(folder):
    (folder / "train.csv").write_bytes(b"text\n\xff broken")
    bundle = load_data(folder, splits=["test"])
    assert bundle.train is None
    assert bundle.val is None
    assert len(bundle.test) == 2


def test_the_record_is_json_and_names_no_folder(folder):
    source = load_data(folder).source
    record = json.loads(json.dumps(source))
    assert record == source
    assert record["files"]["train"]["file"] == "train.csv"
    assert record["rows"] == {"train": 40, "val": 1, "test": 2}
    assert record["columns"] == {"text": "text", "labels": ["l1", "l2"]}


def test_suspicious_data_is_flagged(tmp_path):
    rows = [{"text": f"t{i % 40}", "label": f"a>{i}"} for i in range(50)]
    write_rows(tmp_path / "train.csv", rows[:40])
    write_rows(tmp_path / "test.csv", rows[40:])
    warnings = " ".join(load_data(tmp_path).source["warnings"])
    assert "10 test texts are also training texts" in warnings
    assert "look whether 'label' holds ids" in warnings
    assert "50 of 50 labels contain '>', none the separator ' > '" in warnings


@pytest.mark.parametrize("sign", ["/", "|", "::", "\\"])
def test_paths_with_another_separator_are_noticed(tmp_path, sign):
    names = [f"{a}{sign}{a}{b}" for a in "xy" for b in "pqr"]
    rows = [{"text": f"t{i}", "label": name} for i, name in enumerate(names * 4)]
    write_rows(tmp_path / "train.csv", rows)
    warnings = " ".join(load_data(tmp_path).source["warnings"])
    assert f"24 of 24 labels contain {sign!r}" in warnings
    assert "--path-separator" in warnings
    split = load_data(tmp_path, path_separator=sign)
    assert split.taxonomy.num_levels == 2
    assert "--path-separator" not in " ".join(split.source["warnings"])
    # In a few names it belongs to the name.
    rows = [{"text": f"t{i}", "label": "and/or" if i == 3 else f"c{i % 3}"} for i in range(24)]
    write_rows(tmp_path / "train.csv", rows)
    assert "--path-separator" not in " ".join(load_data(tmp_path).source["warnings"])


def test_empty_texts_are_kept_and_flagged(folder):
    (folder / "train.csv").write_text(CSV + ",a,ax\n   ,b,bx\n")
    bundle = load_data(folder)
    assert bundle.train.texts[-2:] == ("", "   ")
    assert bundle.train.empty_texts == (40, 41)
    assert bundle.source["empty_texts"] == {"train": {"count": 2, "first": [42, 43]}}
    assert "2 of 42 train texts are empty" in bundle.source["warnings"]
    (folder / "test.csv").write_text(CSV.splitlines()[0] + "\n,a,ax\n")
    warnings = load_data(folder).source["warnings"]
    assert not any("are also training texts" in line for line in warnings)  # nothing leaked


# -- reading for a saved model -----------------------------------------------------------------


def test_all_unseen_labels_are_reported_at_once(folder):
    tree = load_data(folder).taxonomy
    (folder / "test.csv").write_text(
        "text,l1,l2\nt,a,ax\n" + "".join(f"u,b,new{i}\n" for i in range(7)) + "v,b,new0\n"
    )
    with pytest.raises(DataError) as caught:
        read_labelled(folder, taxonomy=tree)
    message = str(caught.value)
    assert "test.csv: 8 of 9 texts have labels that are not in the taxonomy (7 " in message
    assert "'b > new0' (line 3, 10" in message
    assert "and 2 more" in message
    assert "Correct these labels" in message


def test_unseen_labels_of_a_table_are_counted_before_it_is_cut(tmp_path):
    rows = [{"text": f"t{i}", "label": f"a > {'known' if i % 2 else 'other'}"} for i in range(60)]
    write_rows(tmp_path / "all.csv", rows)
    tree = Taxonomy.from_paths([("a", "known")])
    with pytest.raises(DataError, match=r"all\.csv: 30 of 60 texts .*\(line 2, 4, 6, \.\.\.\)"):
        load_data(tmp_path / "all.csv", taxonomy=tree)


def test_labelled_texts_come_from_a_file_or_a_split(folder):
    tree = load_data(folder).taxonomy
    assert len(read_labelled(folder, taxonomy=tree)) == 2
    assert len(read_labelled(folder, taxonomy=tree, split="train")) == 40
    assert len(read_labelled(folder / "train.csv", taxonomy=tree)) == 40
    (folder / "val.csv").unlink()
    with pytest.raises(DataError, match=r"there is no val split, only train, test.*--split"):
        read_labelled(folder, taxonomy=tree, split="val")


def test_a_near_name_is_suggested(folder):
    tree = Taxonomy.from_paths([("Agent", "Athlete"), ("Agent", "Artist")])
    (folder / "test.csv").write_text("text,l1,l2\nt,Agent,athlete\n")
    with pytest.raises(DataError, match=r"'Agent > athlete' \(line 2; near: 'Athlete'\)"):
        read_labelled(folder / "test.csv", taxonomy=tree)


def test_a_folder_needs_train(folder, tmp_path_factory):
    (folder / "train.csv").unlink()
    with pytest.raises(DataError, match="there is no train split, only val, test"):
        load_data(folder)
    empty = tmp_path_factory.mktemp("empty")
    (empty / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no train, val or test table .*'notes\.txt'"):
        load_data(empty)


def test_labels_that_contradict_a_given_taxonomy_are_refused(folder):
    with pytest.raises(DataError, match=r"train\.csv: 20 of 40 texts .*'b > bx'"):
        load_data(folder, taxonomy=Taxonomy.from_paths([("a", "ax"), ("a", "ay")]))
    with pytest.raises(TaxonomyError):
        load_data(folder, taxonomy=folder / "absent.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0}, "val fraction 0"),
        ({"val_fraction": 0.7}, "val fraction 0.7"),
        ({"path_separator": ""}, "separator is empty"),
        ({"splits": ["dev"]}, "choose one or more of train, val, test"),
        ({"splits": "test"}, "choose one or more of"),
        ({"label_columns": ["l1", "l1"]}, "each once"),
        ({"label_columns": ["text"]}, "none that holds the text"),
        ({"label_columns": []}, "at least one label column"),
    ],
)
def test_options_outside_what_is_allowed(folder, options, message):
    with pytest.raises(OptionError, match=message):
        load_data(folder, **options)


def test_predict_can_ask_for_the_text_of_a_row():
    assert choose_text_column(["id", "token"]) == "token"
    assert choose_text_column(["id", "body"], "body") == "body"
    with pytest.raises(DataError, match=r"no column 'txt'.*Did you mean 'text'"):
        choose_text_column(["id", "text"], "txt", table="in.csv")
    assert text_of({"t": None}, "t") == ""


def test_labelled_texts_need_one_entry_each():
    with pytest.raises(DataError, match="2 texts, 1 entries of paths"):
        LabelledTexts(["a", "b"], [[("x",)]])
    unlabelled = LabelledTexts(["a"], [()])
    assert gold_nodes(unlabelled, Taxonomy.from_paths([("x",)]))[0].shape == (0,)


def test_importing_the_package_needs_no_torch():
    root = Path(sys.modules["hyperlm.data"].__file__).parents[1]
    code = (  # the package above is a stand-in, so that only what data itself imports is seen
        "import sys, types; top = types.ModuleType('hyperlm'); top.__path__ = [sys.argv[1]]; "
        "sys.modules['hyperlm'] = top; import hyperlm.data; print([m for m in ('torch', "
        "'transformers', 'datasets', 'pyarrow', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
