"""Points as files: they come back exactly, and what is no file of points is refused."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from hyperlm.embedding import load_points, save_points, sized_tree
from hyperlm.embedding.files import read_tensors, write_tensors
from hyperlm.errors import DataError, OffManifoldError, OptionError
from hyperlm.taxonomy import Taxonomy


def test_points_come_back_from_their_file(tmp_path):
    dag = Taxonomy.from_edges([("a", "r"), ("b", "r"), ("c", "a"), ("c", "b"), ("d", "c")])
    points = sized_tree(dag, 3)
    save_points(tmp_path / "p.safetensors", points, dag, c=0.3)
    back, taxonomy, c = load_points(tmp_path / "p.safetensors")
    assert torch.equal(back, points)
    assert (taxonomy, c) == (dag, 0.3)
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]
    with pytest.raises(OptionError, match=r"points \(2, \d\) for a taxonomy of \d+ nodes"):
        save_points(tmp_path / "p.safetensors", points[:2], dag)
    with pytest.raises(OffManifoldError, match="points: 1 of"):
        save_points(
            tmp_path / "p.safetensors", points.index_fill(0, torch.tensor(1), math.nan), dag
        )
    assert torch.equal(load_points(tmp_path / "p.safetensors")[0], points)
    tensors, metadata = read_tensors(tmp_path / "p.safetensors")
    write_tensors(tmp_path / "less.safetensors", {"points": tensors["points"][1:]}, metadata)
    with pytest.raises(DataError, match=r"less\.safetensors: points .* for a taxonomy of"):
        load_points(tmp_path / "less.safetensors")
    (tmp_path / "less.safetensors").unlink()
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="safetensors"):
        load_points(tmp_path / "no.safetensors")


@pytest.mark.parametrize("damage", [{"taxonomy": "{"}, {"c": "one"}, {"taxonomy": "{}"}])
def test_damaged_metadata_of_points_is_explained(tmp_path, damage):
    tree = Taxonomy.from_paths([("a", "b"), ("a", "c")])
    whole = {"taxonomy": json.dumps(tree.to_dict()), "c": "1.0"} | damage
    save_file({"points": torch.zeros(3, 2)}, tmp_path / "p.safetensors", whole)
    with pytest.raises(DataError, match=r"p\.safetensors: its metadata is damaged"):
        load_points(tmp_path / "p.safetensors")
