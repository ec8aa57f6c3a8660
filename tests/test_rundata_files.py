"""Taxonomy and embedding files as run data; data that does not fit together."""

import dataclasses
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hyperlm import Taxonomy
from hyperlm.errors import (
    DataError,
    HyperlmError,
    ModelError,
    OffManifoldError,
    OptionError,
)
from hyperlm.taxonomy_io import SUFFIXES
from hyperlm.viz.rundata import RunData, taxonomy_data
from hyperlm.viz.sources import collect_run, read_source

pytest_plugins = ["rundata_fixtures"]

RAGGED = Taxonomy.from_paths([("a", "b", "c"), ("a", "d"), ("e",), ("f", "g")], name="ragged")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".json.gz", ".tsv.gz"])
def test_taxonomy_files_of_every_kind_are_sources(suffix, tmp_path):
    path = tmp_path / f"labels{suffix}"
    RAGGED.write(path)
    found = read_source(path)
    assert found.taxonomy == RAGGED
    title = "ragged" if ".json" in suffix else "labels"  # JSON keeps a title, the others have none
    assert (found.title, found.geometry, found.points, found.texts) == (title, "none", None, None)
    assert found.level_names == ("L1", "L2", "L3")


def test_a_file_without_a_title_is_called_by_its_name(tmp_path):
    tree = Taxonomy(["a", "b"], [(1, 0)])
    tree.write(tmp_path / "labels.json.gz")
    assert read_source(tmp_path / "labels.json.gz").title == "labels"
    path = embedding(tmp_path / "e.safetensors", np.eye(2), taxonomy=json.dumps(tree.to_dict()))
    assert read_source(path).title == "e"


def test_a_file_has_no_texts_to_read(tmp_path):
    RAGGED.write(tmp_path / "labels.json")
    with pytest.raises(OptionError, match="needs? a model"):
        read_source(tmp_path / "labels.json", data="demo")


def embedding(path: Path, points: np.ndarray, **metadata: str) -> Path:
    usual = {"taxonomy": json.dumps(RAGGED.to_dict()), "c": "0.5", "command": "hyperlm embed"}
    save_file({"points": points}, path, metadata=usual | metadata)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_embedding_file_is_a_source(dtype, tmp_path):
    points = np.random.default_rng(0).normal(size=(len(RAGGED), 3)).astype(dtype)
    found = read_source(embedding(tmp_path / "e.safetensors", points))
    assert (found.taxonomy, found.geometry, found.c, found.title) == (
        RAGGED, "poincare", 0.5, "ragged",
    )  # fmt: skip
    assert found.points.dtype == np.float64
    np.testing.assert_array_equal(found.points, points)


def test_unusable_embedding_files_are_explained(tmp_path):
    good = np.zeros((len(RAGGED), 2))
    path = tmp_path / "e.safetensors"
    save_file({"weights": good}, path)
    with pytest.raises(ModelError, match="holds tensors weights"):
        read_source(path)
    path.write_bytes(b"not a safetensors file at all")
    with pytest.raises(ModelError, match="damaged"):
        read_source(path)
    with pytest.raises(ModelError, match="damaged"):
        read_source(embedding(path, good, taxonomy="{"))
    with pytest.raises(ModelError, match="damaged"):
        read_source(embedding(path, good, c="one"))
    with pytest.raises(OptionError, match=r"shape \(4, 2\), the taxonomy has 7 nodes"):
        read_source(embedding(path, good[:4]))
    good[5, 1] = np.nan
    with pytest.raises(OffManifoldError, match="1 of 7 node points .* first node 5"):
        read_source(embedding(path, good))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "labels.txt").write_text("a")
    with pytest.raises(DataError, match="no file of labels"):
        read_source(tmp_path / "labels.txt")
    (tmp_path / "labels.json.gz").write_bytes(gzip.compress(b"{"))
    with pytest.raises(HyperlmError):
        read_source(tmp_path / "labels.json.gz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geometry": "sphere"}, "geometry 'sphere'"),
        ({"c": math.nan}, "c = nan"),
        ({"c": -1.0}, "c = -1"),
        ({"level_names": ("a",)}, "1 level names for 3 levels"),
        ({"points": np.zeros((7, 0))}, "one row per node"),
    ],
)
def test_data_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(taxonomy_data(RAGGED), **changes)


def test_texts_must_lie_where_the_labels_do(shown_run):
    found = collect_run(shown_run)
    with pytest.raises(OptionError, match="4 dimensions, label points 2"):
        dataclasses.replace(found, points=np.zeros((len(found.taxonomy), 2)))
    with pytest.raises(OptionError, match="one row per text"):
        dataclasses.replace(found.texts, gold=found.texts.gold[1:])
    far = found.texts.tangents.copy()
    far[3] = np.inf
    with pytest.raises(OffManifoldError, match="first text 3"):
        dataclasses.replace(found.texts, tangents=far)
    with pytest.raises(OptionError, match="nodes outside"):
        RunData(
            **vars(found) | {"texts": dataclasses.replace(found.texts, gold=found.texts.gold + 99)}
        )
