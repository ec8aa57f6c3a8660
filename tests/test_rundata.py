"""Run data: the arrays a picture is made of say the same as the model they were taken from."""

import csv
import dataclasses
import gzip
import json
import math
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from hyperlm import Classifier, HierarchicalLM, Taxonomy
from hyperlm.data import load_data
from hyperlm.errors import (
    DataError,
    HyperlmError,
    ModelError,
    OffManifoldError,
    OptionError,
    TaxonomyError,
)
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.taxonomy_io import SUFFIXES
from hyperlm.viz.nodestats import node_stats
from hyperlm.viz.reading import read_texts
from hyperlm.viz.rundata import RunData, collect_model, collect_run, read_source, taxonomy_data

HEADS = {
    "poincare": {"geometry": "poincare", "curvature": 1.0},
    "poincare-native": {"geometry": "poincare", "coordinates": "native", "curvature": 0.7},
    "lorentz": {"geometry": "lorentz", "curvature": 2.5},
    "lorentz-native": {"geometry": "lorentz", "coordinates": "native", "curvature": 0.4},
    "learned": {"geometry": "poincare", "learn_curvature": True, "curvature": 1.5},
    "euclidean": {"geometry": "euclidean"},
    "linear": {"kind": "linear"},
}
TEXTS = ["owl0 bird1 animal0", "", "mint0 word1 word2", "pike1 pike0 fish2 animal1", "word5"]
RAGGED = Taxonomy.from_paths([("a", "b", "c"), ("a", "d"), ("e",), ("f", "g")], name="ragged")
DAG = Taxonomy.from_edges(
    [("b", "a"), ("c", "a"), ("d", "b"), ("d", "c"), ("e", "c"), ("f", None), ("d", "f")]
)


def model_of(backbone: Path, taxonomy: Taxonomy, **head: Any) -> Classifier:
    return Classifier(
        HierarchicalLM.from_backbone(str(backbone), taxonomy, head={"dim": 6, "seed": 3, **head})
    )


@pytest.fixture(scope="module")
def tree(demo_like: Path) -> Taxonomy:
    return load_data(demo_like).taxonomy


@pytest.fixture(scope="module")
def run(tiny_backbone: Path, demo_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for tests that only read it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = TrainingOptions(
        data=str(demo_like), backbone=str(tiny_backbone), dim=4, epochs=1, batch_size=16,
        learning_rate=1e-2, head_learning_rate=1e-2, precision="fp32",
    )  # fmt: skip
    train(options, folder, progress=False)
    return folder


# --- points and answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_labels_and_texts_lie_in_one_space_and_explain_the_scores(name, tiny_backbone, tree):
    model = model_of(tiny_backbone, tree, **HEADS[name])
    found = collect_model(model, "nowhere", limit=0)
    read = read_texts(model, TEXTS)
    head, scores = model.model.head, model.logits(TEXTS).numpy()
    if name == "linear":
        assert (found.points, found.geometry, found.c) == (None, "none", 0.0)
        weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
        np.testing.assert_allclose(read.tangents @ weight.T + bias, scores, atol=1e-5)
        return
    assert found.geometry == HEADS[name]["geometry"]
    assert found.c == pytest.approx(HEADS[name].get("curvature", 0.0))
    # Distances by the law of cosines, which no code of ours computes them with.
    distance = law_of_cosines(read.tangents, found.points, found.c)
    heat = head.log_temperature.detach().exp().numpy()[tree.depth - 1]
    np.testing.assert_allclose(-heat * distance, scores, atol=2e-4)


def law_of_cosines(x: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """(M, N) distances of points given as tangent vectors at the origin."""
    if c == 0:
        return np.linalg.norm(x[:, None] - y[None], axis=-1)
    r, s = (np.linalg.norm(z, axis=1) for z in (x, y))
    angle = (x / r[:, None]) @ (y / s[:, None]).T
    k = math.sqrt(c)
    a, b = k * r[:, None], k * s[None]
    return np.arccosh(np.cosh(a) * np.cosh(b) - np.sinh(a) * np.sinh(b) * angle) / k


@pytest.mark.parametrize("taxonomy", [RAGGED, DAG], ids=["ragged", "dag"])
@pytest.mark.parametrize("loss", ["level", "path", "leaf"])
@pytest.mark.parametrize("kind", ["points", "linear"])
def test_answers_are_those_of_predict(kind, loss, taxonomy, tiny_backbone):
    model = model_of(tiny_backbone, taxonomy, kind=kind, loss=loss)
    read = read_texts(model, TEXTS, k=2)
    for row, answer in enumerate(model.predict(TEXTS, top_k=2)):
        path = [n for n in read.path_nodes[row] if n >= 0]
        assert tuple(taxonomy.name(n) for n in path) == answer.path
        assert path[-1] == read.predicted[row] == read.top_nodes[row, 0]
        assert read.marginals[row, : len(path)] == pytest.approx(answer.probabilities, abs=1e-6)
        for number, other in enumerate(answer.top):
            names = [taxonomy.name(n) for n in read.top_paths[row, number] if n >= 0]
            assert tuple(names) == other.path
            assert read.top_probabilities[row, number] == pytest.approx(other.probability, abs=1e-6)
    assert read.probability == pytest.approx(read.top_probabilities[:, 0])


def test_texts_far_out_keep_their_distance_from_the_origin(tiny_backbone, tree):
    model = model_of(tiny_backbone, tree, max_radius=30.0)
    with torch.no_grad():
        model.model.head.each_projection()[0].linear.weight.mul_(1e3)
    radius = np.linalg.norm(read_texts(model, TEXTS).tangents, axis=1)
    assert radius == pytest.approx(30.0, rel=1e-5)  # ball coordinates in float32 end at 18


def test_no_text_is_no_error(tiny_backbone, tree):
    read = read_texts(model_of(tiny_backbone, tree), [])
    assert read.tangents.shape == (0, 6)
    assert read.top_nodes.shape == (0, 5)


# --- a run and its texts --------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_run_is_shown_with_its_own_texts(run, demo_like, split):
    said: list[str] = []
    found = collect_run(run, split=split, say=said.append)
    own = load_data(demo_like).split(split)
    assert found.texts.texts == own.texts
    assert [found.taxonomy.path(n) for n in found.texts.gold] == [p[0] for p in own.paths]
    figures = json.loads((run / "metrics.json").read_text())[split]
    right = found.texts.gold == found.texts.predicted
    assert right.mean() == pytest.approx(figures["path_accuracy"])
    assert (found.texts.split, found.title, found.level_names) == (
        split, f"{demo_like.name}: run", ("l1", "l2", "l3"),
    )  # fmt: skip
    assert len(found.log) == len((run / "train_log.jsonl").read_text().splitlines())
    assert (said, found.notes) == ([], ())


def test_other_texts_can_be_shown(run, tmp_path):
    rows = [("owl0 owl1", "animal", "bird", "owl"), ("oak2", "plant", "tree", "")]
    write_table(tmp_path / "more.csv", rows)
    texts = collect_run(run, data=tmp_path / "more.csv").texts
    assert texts.texts == ("owl0 owl1", "oak2")
    assert texts.split == "more.csv"
    write_table(tmp_path / "odd.csv", [("owl0", "animal", "bird", "dodo")])
    with pytest.raises(DataError, match="dodo"):
        collect_run(run, data=tmp_path / "odd.csv")


def write_table(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "l1", "l2", "l3"), *rows])


def test_of_several_gold_paths_the_first_is_taken_and_that_is_said(run, tmp_path):
    paths = [["plant", "herb", "sage"], ["animal", "fish", "pike"]]
    rows = [{"text": "sage0", "label": paths}, {"text": "oak0", "label": paths[1]}]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = collect_run(run, data=tmp_path / "two.jsonl", say=lambda line: None)
    assert [found.taxonomy.path(n)[-1] for n in found.texts.gold] == ["sage", "pike"]
    assert found.notes == ("1 texts have several gold paths; the first of each is taken.",)


def test_data_that_is_gone_costs_the_texts_and_is_said(run, tmp_path, capsys):
    moved = tmp_path / "run"
    moved.mkdir()
    for file in run.iterdir():
        (moved / file.name).symlink_to(file)
    record = json.loads((run / "run.json").read_text())
    record["options"]["data"] = str(tmp_path / "gone")
    (moved / "run.json").unlink()
    (moved / "run.json").write_text(json.dumps(record))
    found = collect_run(moved)
    assert found.texts is None
    assert found.points is not None
    assert "gone" in found.notes[0]
    assert "--data" in found.notes[0]
    assert capsys.readouterr().err.endswith(found.notes[0] + "\n")
    (moved / "run.json").unlink()  # as from a hub
    assert "it is not known what" in collect_run(moved, say=lambda line: None).notes[0]


def test_data_that_changed_is_shown_with_a_note(run, demo_like, tmp_path):
    record = json.loads((run / "run.json").read_text())
    data, moved = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    moved.mkdir()
    for split in ("train", "val", "test"):
        text = (demo_like / f"{split}.csv").read_text()
        (data / f"{split}.csv").write_text(text + "word1,animal,bird,owl\n" * (split == "val"))
    for file in run.iterdir():
        (moved / file.name).symlink_to(file)
    record["options"]["data"] = str(data)
    (moved / "run.json").unlink()
    (moved / "run.json").write_text(json.dumps(record))
    assert collect_run(moved, say=lambda line: None).notes == (
        "val.csv has changed since the run was trained.",
    )


def test_many_texts_are_thinned_to_the_same_sample(run, demo_like):
    found = collect_run(run, split="train", limit=20, say=lambda line: None)
    again = collect_run(run, split="train", limit=20, say=lambda line: None)
    texts = load_data(demo_like).split("train").texts
    assert len(found.texts) == 20
    assert found.texts.texts == again.texts.texts
    kept = iter(texts)
    assert all(text in kept for text in found.texts.texts)  # in their order
    assert found.notes == ("20 of the 128 texts are shown: a random sample, always the same.",)


def test_a_model_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        read_source(tmp_path / "run")


def test_a_damaged_log_is_named(run, tmp_path):
    moved = tmp_path / "run"
    moved.mkdir()
    for file in run.iterdir():
        if file.name != "train_log.jsonl":
            (moved / file.name).symlink_to(file)
    (moved / "train_log.jsonl").write_text('{"step": 1')
    with pytest.raises(ModelError, match="train_log.jsonl: damaged"):
        collect_run(moved, limit=0)


# --- files ----------------------------------------------------------------------------------------


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
    with pytest.raises(TaxonomyError):
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


def test_texts_must_lie_where_the_labels_do(run):
    found = collect_run(run)
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


# --- figures per node -----------------------------------------------------------------------------


@st.composite
def answered(draw: st.DrawFn) -> tuple[Taxonomy, list[int], list[int], list[float]]:
    """A DAG of up to nine nodes, gold and predicted nodes (-1: none), probabilities."""
    size = draw(st.integers(1, 9))
    edges = [
        (child, parent)
        for child in range(1, size)
        for parent in draw(st.sets(st.integers(0, child - 1), max_size=3))
    ]
    texts = draw(st.integers(0, 12))
    nodes = st.lists(st.integers(-1, size - 1), min_size=texts, max_size=texts)
    sure = st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=texts, max_size=texts)
    names = [f"n{node}" for node in range(size)]
    return Taxonomy(names, edges), draw(nodes), draw(nodes), draw(sure)


@settings(max_examples=60, deadline=None)
@given(answered())
def test_figures_of_the_nodes_are_those_of_counting_by_hand(case):
    taxonomy, gold, predicted, sure = case
    graph = taxonomy.to_networkx()
    above = {n: {n, *nx.ancestors(graph, n)} - {-1} for n in range(len(taxonomy))} | {-1: set()}
    stats = node_stats(taxonomy, np.array(gold, int), np.array(predicted, int), np.array(sure))
    for node in range(len(taxonomy)):
        mine = [t for t, g in enumerate(gold) if node in above[g]]
        right = [t for t in mine if node in above[predicted[t]]]
        wrong = [t for t in mine if t not in right]
        assert stats.count[node] == len(mine)
        assert stats.hits[node] == len(right)
        share = stats.accuracy[node]
        assert math.isnan(share) if not mine else share == pytest.approx(len(right) / len(mine))
        given_to: dict[int, int] = {}
        for t in wrong:
            path = taxonomy.path_nodes(predicted[t])
            depth = min(int(taxonomy.depth[node]), len(path))
            if depth:
                given_to[int(path[depth - 1])] = given_to.get(int(path[depth - 1]), 0) + 1
        ranked = sorted(given_to.items(), key=lambda pair: (-pair[1], pair[0]))
        assert list(stats.confused[node]) == ranked[:3]
        surest = {
            True: sorted(right, key=lambda t: (-sure[t], t)),
            False: sorted(wrong, key=lambda t: (-sure[t], t)),
        }
        expected = (surest[True][:2] + surest[False])[:3] if wrong else surest[True][:3]
        assert list(stats.examples[node]) == expected
