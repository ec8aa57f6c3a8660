"""Columns, ragged and several paths, and taxonomies given beside the tables."""

import json
from pathlib import Path

import pytest

from hyperlm.data import (
    LabelledTexts,
    gold_nodes,
    load_data,
    write_rows,
)
from hyperlm.errors import DataError
from hyperlm.taxonomy import Taxonomy


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_can_be_named(tmp_path):
    rows = [{"id": i, "sub": f"a{i % 2}", "top": "a", "body": f"t{i}"} for i in range(9)]
    write_rows(tmp_path / "train.tsv", rows)
    bundle = load_data(tmp_path, text_column="body", label_columns=["top", "sub"])
    assert bundle.level_names == ("top", "sub")
    assert set(bundle.train.paths) == {(("a", "a0"),), (("a", "a1"),)}


@pytest.mark.parametrize("separator", [" > ", "/"])
def test_one_column_can_hold_whole_paths_of_any_depth(tmp_path, separator):
    paths = [("a", "b", "c"), ("a", "b"), ("d",)]
    rows = [{"text": "t", "id": 1, "path": separator.join(path)} for path in paths]
    write_rows(tmp_path / "train.csv", rows)
    bundle = load_data(tmp_path, label_columns=["path"], path_separator=separator)
    assert [bundle.taxonomy.path(int(n)) for t in ("train",) for [n] in bundle.gold(t)] == [
        path for [path] in bundle.train.paths
    ]
    assert bundle.train.paths + (bundle.val.paths if bundle.val else ()) == tuple(
        (path,) for path in paths
    )
    assert bundle.taxonomy.index(("a", "b")) in bundle.taxonomy.terminals
    assert bundle.level_names == ("l1", "l2", "l3")


def test_an_empty_cell_ends_a_path_and_a_gap_is_an_error(tmp_path):
    (tmp_path / "train.csv").write_text("text,l1,l2,l3\nt,a,b,\nu, a ,,\nv,a,b,c\n")
    bundle = load_data(tmp_path)
    assert bundle.train.paths == ((("a", "b"),), (("a",),), (("a", "b", "c"),))
    (tmp_path / "train.csv").write_text("text,l1,l2,l3\nt,a,b,\nu,a,,c\n")
    with pytest.raises(DataError, match=r"train\.csv, line 3: an empty label above 'c'"):
        load_data(tmp_path)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_typed_tables_take_names_lists_and_several_paths(tmp_path, suffix):
    rows = [
        {"token": ["two", "words"], "label": [["a", "b"]], "id": 1},
        {"token": ["one"], "label": [["a"], ["c", "d"]], "id": 2},
        {"token": [], "label": [["c", "d"], ["c", "d"]], "id": 3},
    ]
    write_rows(tmp_path / f"train{suffix}", rows)
    train = load_data(tmp_path).train
    assert train.texts == ("two words", "one", "")
    assert train.paths == ((("a", "b"),), (("a",), ("c", "d")), (("c", "d"),))


def test_json_labels_may_be_a_list_a_path_or_levels(tmp_path):
    jsonl(tmp_path / "train.jsonl", {"text": "t", "labels": ["a", "b"]}, {"text": "u", "labels": 7})
    assert load_data(tmp_path).train.paths == ((("a", "b"),), (("7",),))
    jsonl(tmp_path / "train.jsonl", {"text": "t", "label": "a > b"}, {"text": "u", "label": "c"})
    assert load_data(tmp_path).train.paths == ((("a", "b"),), (("c",),))
    jsonl(tmp_path / "train.jsonl", {"text": "t", "x": "a", "y": 3.0}, {"text": "u", "x": "b"})
    bundle = load_data(tmp_path)
    assert bundle.train.paths == ((("a", "3"),), (("b",),))
    assert bundle.level_names == ("x", "y")


def test_a_taxonomy_file_beside_the_tables_is_used(tmp_path):
    (tmp_path / "tree.taxonomy").write_text("Root\tA\tB\nA\tC\tD\nC\tE\n")
    rows = [["A", "C", "E"], ["A", "C"], ["B"], ["A", "C", "E"]]
    jsonl(tmp_path / "train.jsonl", *({"token": ["t"], "label": path} for path in rows))
    bundle = load_data(tmp_path)
    assert len(bundle.taxonomy) == 5
    assert bundle.source["taxonomy"] == "tree.taxonomy"
    assert [bundle.taxonomy.name(n) for nodes in bundle.gold("train") for n in nodes] == [
        path[-1] for [path] in bundle.train.paths
    ]
    ends = {bundle.taxonomy.name(n) for n in bundle.taxonomy.terminals}
    assert ends >= {"E", "D", "B", "C"}  # C is an inner node at which a gold path ends
    assert bundle.source["classes_without_training_text"]["first"] == ["A > D"]


def test_two_taxonomy_files_are_one_too_many(tmp_path):
    jsonl(tmp_path / "train.jsonl", {"text": "t", "label": ["A"]})
    for name in ("a.taxonomy", "b.taxonomy"):
        (tmp_path / name).write_text("Root\tA\n")
    with pytest.raises(DataError, match=r"a\.taxonomy and b\.taxonomy both"):
        load_data(tmp_path)


def test_a_given_taxonomy_may_be_a_dag_and_labels_single_names(tmp_path):
    dag = Taxonomy.from_edges([("b", "a"), ("d", "b"), ("d", "c")], terminals=["b"])
    jsonl(
        tmp_path / "train.jsonl",
        *({"text": f"t{i}", "label": p} for i, p in enumerate([["a", "b", "d"], ["c", "d"], "d"])),
    )
    bundle = load_data(tmp_path, taxonomy=dag)
    assert [nodes.tolist() for nodes in bundle.gold("train")] == [[dag.index("d")]] * len(
        bundle.train
    )
    dag.write(tmp_path / "dag.json")
    assert load_data(tmp_path, taxonomy=tmp_path / "dag.json").taxonomy == bundle.taxonomy


def test_gold_follows_edges_and_refuses_shortcuts():
    tree = Taxonomy.from_paths([("a", "b", "c"), ("d", "c")])
    texts = LabelledTexts(["t"] * 3, [[("a", "b", "c")], [("b",)], [("d", "c"), ("a",)]])
    assert [n.tolist() for n in gold_nodes(texts, tree)] == [
        [tree.index(("a", "b", "c"))], [tree.index("b")], [tree.index(("d", "c")), tree.index("a")]
    ]  # fmt: skip
    for wrong in (("a", "c"), ("b", "c"), ("c",)):  # a skipped level, no top node, two nodes
        with pytest.raises(DataError, match="not in the taxonomy"):
            gold_nodes(LabelledTexts(["t"], [[wrong]]), tree)
