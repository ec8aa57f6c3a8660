"""Named sets, HYPERLM_DATA, the hub, the original Web of Science files; the real sets if there."""

import importlib.util
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from xml.sax.saxutils import escape

import pytest

from hyperlm.data import load_data, named, write_rows
from hyperlm.data.wos import original_table
from hyperlm.errors import DataError

HAS_DATASETS = importlib.util.find_spec("datasets") is not None
ROWS = [{"text": f"t{i}", "l1": "ab"[i % 2], "l2": "ab"[i % 2] + str(i % 4)} for i in range(12)]
DATA = Path(os.environ.get("HYPERLM_DATA", "absent"))


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERLM_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def offline(monkeypatch):
    """No local folder, an empty cache and a hub that does not answer."""
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def absent(repo, file, *, repo_type, local_files_only):
        assert local_files_only, "the hub was asked although it does not answer"
        raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")

    monkeypatch.delenv("HYPERLM_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    monkeypatch.setattr(named, "hub_answers", lambda: False)


# -- the folder HYPERLM_DATA names -----------------------------------------------------------


@pytest.mark.parametrize("name", ["dbpedia", "wos", "my-set"])
def test_sets_are_found_in_the_data_folder(data, name):
    (data / name).mkdir()
    write_rows(data / name / "train.csv.gz", ROWS)
    bundle = load_data(name)
    assert len(bundle.train) + len(bundle.val) == 12
    assert bundle.source["name"] == name


def test_dbpedia_keeps_the_names_of_the_published_files(data):
    (data / "dbpedia").mkdir()
    for split in ("train", "val", "test"):
        write_rows(data / "dbpedia" / f"DBPEDIA_{split}.csv", ROWS)
    bundle = load_data("dbpedia")
    assert [len(bundle.split(s)) for s in ("train", "val", "test")] == [12] * 3


def test_a_path_wins_over_the_data_folder(data, tmp_path_factory, monkeypatch):
    (data / "mine").mkdir()
    here = tmp_path_factory.mktemp("here")
    (here / "mine").mkdir()
    write_rows(here / "mine" / "train.csv", ROWS)
    monkeypatch.chdir(here)
    assert load_data("mine").train.name == "mine/train.csv"


def test_names_do_not_leave_the_data_folder(data):
    (data.parent / "outside").mkdir(exist_ok=True)
    write_rows(data.parent / "outside" / "train.csv", ROWS)
    with pytest.raises(DataError):
        load_data("../outside")


def test_unknown_names_are_explained(data):
    with pytest.raises(DataError, match=r"nope: no such file, folder or .*HYPERLM_DATA"):
        load_data("nope")
    with pytest.raises(DataError, match=r"nope\.csv: no such file"):
        load_data("nope.csv")
    with pytest.raises(DataError, match=r"owner/name: no such folder.*--label-columns"):
        load_data("owner/name")


# -- the hub ---------------------------------------------------------------------------------


def test_dbpedia_offline_names_both_ways(offline):
    with pytest.raises(DataError, match=r"DeveloperOats/DBPedia_Classes.*HYPERLM_DATA"):
        load_data("dbpedia")


def test_wos_absent_names_both_ways(offline):
    with pytest.raises(DataError, match=r"doi\.org.*X\.txt.*HYPERLM_DATA.*train/val/test"):
        load_data("wos")


def test_dbpedia_comes_from_the_hub(tmp_path, offline, monkeypatch):
    import huggingface_hub

    asked = []

    def download(repo, file, *, repo_type, local_files_only):
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
        asked.append((repo, file, repo_type))
        write_rows(tmp_path / file, ROWS)
        return str(tmp_path / file)

    monkeypatch.setattr(named, "hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert len(load_data("dbpedia").train) == 12
    assert asked == [
        ("DeveloperOats/DBPedia_Classes", f"DBPEDIA_{split}.csv", "dataset")
        for split in ("train", "val", "test")
    ]


def test_a_hub_that_fails_midway_is_explained(offline, monkeypatch):
    monkeypatch.setattr(named, "hub_answers", lambda: True)
    with pytest.raises(DataError, match=r"nor to be had now.*HYPERLM_DATA"):
        load_data("dbpedia")


def test_without_the_datasets_package_a_hub_id_is_explained(offline, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install datasets"):
        load_data("owner/name", label_columns=["label"])


@pytest.mark.skipif(not HAS_DATASETS, reason="the package datasets is not installed")
def test_a_hub_id_offline_is_explained(offline, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=r"owner/name: .*does not answer.*HF_HUB_OFFLINE"):
        load_data("owner/name", label_columns=["label"])


@pytest.mark.skipif(not HAS_DATASETS, reason="the package datasets is not installed")
def test_hub_data_sets_give_class_names_and_splits(offline, monkeypatch):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["cat", "dog"])}
    )
    table = datasets.Dataset.from_dict(
        {"text": list("abcdefgh"), "kind": [0, 1] * 4}, features=features
    )
    monkeypatch.setattr(named, "hub_answers", lambda: True)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name: {"train": table, "validation": table}
    )
    bundle = load_data("owner/name", label_columns=["kind"])
    assert bundle.val.paths[:2] == ((("cat",),), (("dog",),))
    assert bundle.val.place(1) == "owner/name (val), row 2"
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"extra": table})
    with pytest.raises(DataError, match=r"has the splits \['extra'\]"):
        load_data("owner/name", label_columns=["kind"])

    def fails(name):
        raise FileNotFoundError("no such data set")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match=r"gave no data set .*FileNotFoundError: no such"):
        load_data("owner/name", label_columns=["kind"])


@pytest.mark.parametrize("of_list", ["older", "newer"])
def test_class_numbers_in_lists_become_names(of_list):
    """As in sets with several labels a text; the two ways in which ``datasets`` spells a list."""
    kind = SimpleNamespace(names=["joy", "fear", "love"])
    features = {"text": object(), "labels": [kind] if of_list == "older" else
                SimpleNamespace(feature=kind)}  # fmt: skip

    class Split(list):
        pass

    split = Split([{"text": "a", "labels": [2, 0]}, {"text": "b", "labels": []},
                   {"text": "c", "labels": None}, {"text": "d", "labels": [1, -1]}])  # fmt: skip
    split.features = features
    rows = [row["labels"] for _, row in named._HubRows(split)]
    assert rows == [["love", "joy"], [], None, ["fear"]]


# -- Web of Science as published -------------------------------------------------------------

PAIRS = [(0, 0), (0, 1), (1, 0), (1, 0)] * 5
AREAS = {(0, 0): ("CS ", "Vision"), (0, 1): ("CS ", "Robotics "), (1, 0): ("Medical", "Vision")}


def original(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "X.txt").write_text("".join(f"abstract {i}\r\n" for i in range(len(PAIRS))))
    (folder / "YL1.txt").write_text("".join(f"{a}\n" for a, _ in PAIRS))
    (folder / "YL2.txt").write_text("".join(f"{b}\n" for _, b in PAIRS))
    return folder


def sheet_rows(pairs=PAIRS):
    return [
        {"Y1": a, "Y2": b, "Y": 0, "Domain": AREAS[a, b][0], "area": AREAS[a, b][1]}
        for a, b in pairs
    ]


def write_xlsx(path: Path, rows: list[dict]) -> None:
    """A spreadsheet as office programs write it: shared strings, cells by reference."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    strings: list[str] = []

    def cell(column: str, number: int, value: object) -> str:
        if isinstance(value, int):
            return f'<c r="{column}{number}"><v>{value}</v></c>'
        strings.append(f"<si><t>{escape(str(value))}</t></si>")
        return f'<c r="{column}{number}" t="s"><v>{len(strings) - 1}</v></c>'

    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    lines = "".join(
        f'<row r="{n}">' + "".join(cell("ABCDE"[i], n, v) for i, v in enumerate(values)) + "</row>"
        for n, values in enumerate(table, 1)
    )
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as book:
        sheet = f"<worksheet {space}><sheetData>{lines}</sheetData></worksheet>"
        book.writestr("xl/worksheets/sheet1.xml", sheet)
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{''.join(strings)}</sst>")


def test_the_original_files_are_divided_and_numbered_by_parent(data):
    original(data / "wos")
    bundle = load_data("wos")
    assert [len(bundle.split(s)) for s in ("train", "val", "test")] == [16, 2, 2]
    assert {bundle.taxonomy.path(int(n)) for n in bundle.taxonomy.terminals} == {
        ("YL1 0", "YL2 0"), ("YL1 0", "YL2 1"), ("YL1 1", "YL2 0")
    }  # fmt: skip
    assert "Meta-data/Data.xlsx" in bundle.source["warnings"][0]
    assert all("\r" not in text for text in bundle.train.texts)


@pytest.mark.parametrize(
    "place", ["wos/Meta-data/Data.xlsx", "Meta-data/Data.xlsx", "wos/Data.csv"]
)
def test_names_come_from_the_sheet(data, place):
    folder = original(data / "wos")
    sheet = data / place
    sheet.parent.mkdir(exist_ok=True)
    write_xlsx(sheet, sheet_rows()) if sheet.suffix == ".xlsx" else write_rows(sheet, sheet_rows())
    bundle = load_data(folder)
    assert {bundle.taxonomy.path(int(n)) for n in bundle.taxonomy.terminals} == {
        ("CS", "Vision"), ("CS", "Robotics"), ("Medical", "Vision")
    }  # fmt: skip
    assert bundle.source["warnings"] == []


def test_a_sheet_of_another_set_gives_no_names(data):
    folder = original(data / "wos")
    write_xlsx(folder / "Meta-data" / "Data.xlsx", sheet_rows([*PAIRS, (0, 1)]))
    table, [warning] = original_table(folder)
    assert next(iter(table.rows))[1]["l1"] == "YL1 0"
    assert "does not describe the same classes" in warning


def test_damaged_original_files_are_explained(data):
    folder = original(data / "wos")
    (folder / "Data.xlsx").write_text("not a spreadsheet")
    with pytest.raises(DataError, match=r"Data\.xlsx: not a readable spreadsheet"):
        load_data(folder)
    (folder / "Data.xlsx").unlink()
    (folder / "YL2.txt").write_text("1\nx\n")
    with pytest.raises(DataError, match=r"YL2\.txt, line 2: 'x' is not a class number"):
        load_data(folder)
    (folder / "YL2.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match=r"X\.txt has 20 lines, YL1\.txt 20 and YL2\.txt 2"):
        load_data(folder)


# -- the real sets ---------------------------------------------------------------------------

REAL = {
    "dbpedia": ((3200, 400, 400), (9, 70, 219)),
    "wos": ((3398, 400, 400), (7, 135)),
    "amazon": ((6047, 700, 700), (6, 62, 317)),
    "wikitaxa": ((27075, 2000, 2000), (8, 20, 50, 234)),
    "hwv": ((1905, 400, 400), (11, 109, 381, 437, 244, 4)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_have_the_sizes_their_description_states(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"no folder {name!r} in HYPERLM_DATA")
    bundle = load_data(name)
    texts, levels = REAL[name]
    assert tuple(len(bundle.split(s)) for s in ("train", "val", "test")) == texts
    assert tuple(len(level) for level in bundle.taxonomy.levels) == levels
    for split in ("train", "val", "test"):
        for paths, nodes in zip(bundle.split(split).paths, bundle.gold(split), strict=True):
            assert [bundle.taxonomy.path(int(node)) for node in nodes] == list(paths)


def test_the_demo_set_is_embedded():
    bundle = load_data("demo")
    assert bundle.level_names == ("l1", "l2", "l3")
    assert bundle.source["cuts"] == {}
    assert bundle.source["classes_without_training_text"]["count"] == 0
