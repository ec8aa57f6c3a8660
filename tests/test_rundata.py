"""Run data: the arrays a picture is made of say the same as the model they were taken from."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm import Classifier, HierarchicalLM, Taxonomy
from hyperlm.data import load_data
from hyperlm.errors import (
    DataError,
    ModelError,
)
from hyperlm.viz.nodestats import node_stats
from hyperlm.viz.reading import read_texts
from hyperlm.viz.sources import collect_model, collect_run, read_source

pytest_plugins = ["rundata_fixtures"]

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
def test_a_run_is_shown_with_its_own_texts(shown_run, demo_like, split):
    said: list[str] = []
    found = collect_run(shown_run, split=split, say=said.append)
    own = load_data(demo_like).split(split)
    assert found.texts.texts == own.texts
    assert [found.taxonomy.path(n) for n in found.texts.gold] == [p[0] for p in own.paths]
    figures = json.loads((shown_run / "metrics.json").read_text())[split]
    right = found.texts.gold == found.texts.predicted
    assert right.mean() == pytest.approx(figures["path_accuracy"])
    assert (found.texts.split, found.title, found.level_names) == (
        split, f"{demo_like.name}: run", ("l1", "l2", "l3"),
    )  # fmt: skip
    assert len(found.log) == len((shown_run / "train_log.jsonl").read_text().splitlines())
    assert (said, found.notes) == ([], ())


def test_a_run_called_like_its_data_is_named_once(shown_run, demo_like, tmp_path):
    folder = shutil.copytree(shown_run, tmp_path / demo_like.name)
    assert collect_run(folder, limit=0).title == demo_like.name


def test_other_texts_can_be_shown(shown_run, tmp_path):
    rows = [("owl0 owl1", "animal", "bird", "owl"), ("oak2", "plant", "tree", "")]
    write_table(tmp_path / "more.csv", rows)
    texts = collect_run(shown_run, data=tmp_path / "more.csv").texts
    assert texts.texts == ("owl0 owl1", "oak2")
    assert texts.split == "more.csv"
    write_table(tmp_path / "odd.csv", [("owl0", "animal", "bird", "dodo")])
    with pytest.raises(DataError, match="dodo"):
        collect_run(shown_run, data=tmp_path / "odd.csv")


def write_table(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "l1", "l2", "l3"), *rows])


def test_of_several_gold_paths_the_answered_one_is_shown_and_that_is_said(shown_run, tmp_path):
    def shown(*labels):
        rows = [{"text": "sage0", "label": paths} for paths in labels]
        (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return collect_run(shown_run, data=tmp_path / "some.jsonl", say=lambda line: None)

    first = shown(["plant", "herb", "sage"])
    answer = int(first.texts.predicted[0])
    *_, other, another = (n for n in first.taxonomy.terminals.tolist() if n != answer)
    path = [list(first.taxonomy.path(node)) for node in (other, another, answer)]
    found = shown([path[0], path[2]], path[:2])
    assert found.texts.gold.tolist() == [answer, other]
    assert found.texts.right.tolist() == [True, False]
    assert found.notes == (
        "2 texts have several gold paths: shown is the one that was answered, or else the first.",
    )


def test_data_that_is_gone_costs_the_texts_and_is_said(shown_run, tmp_path, capsys):
    moved = tmp_path / "run"
    moved.mkdir()
    for file in shown_run.iterdir():
        (moved / file.name).symlink_to(file)
    record = json.loads((shown_run / "run.json").read_text())
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


def test_data_that_changed_is_shown_with_a_note(shown_run, demo_like, tmp_path):
    record = json.loads((shown_run / "run.json").read_text())
    data, moved = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    moved.mkdir()
    for split in ("train", "val", "test"):
        text = (demo_like / f"{split}.csv").read_text()
        (data / f"{split}.csv").write_text(text + "word1,animal,bird,owl\n" * (split == "val"))
    for file in shown_run.iterdir():
        (moved / file.name).symlink_to(file)
    record["options"]["data"] = str(data)
    (moved / "run.json").unlink()
    (moved / "run.json").write_text(json.dumps(record))
    assert collect_run(moved, say=lambda line: None).notes == (
        "val.csv has changed since the run was trained.",
    )


def test_many_texts_are_thinned_to_the_same_sample(shown_run, demo_like):
    found = collect_run(shown_run, split="train", limit=20, say=lambda line: None)
    again = collect_run(shown_run, split="train", limit=20, say=lambda line: None)
    texts = load_data(demo_like).split("train").texts
    assert len(found.texts) == 20
    assert found.texts.texts == again.texts.texts
    kept = iter(texts)
    assert all(text in kept for text in found.texts.texts)  # in their order
    assert found.notes == ("20 of the 128 texts are shown: a random sample, always the same.",)


def test_a_model_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        read_source(tmp_path / "run")


def test_a_damaged_log_is_named(shown_run, tmp_path):
    moved = tmp_path / "run"
    moved.mkdir()
    for file in shown_run.iterdir():
        if file.name != "train_log.jsonl":
            (moved / file.name).symlink_to(file)
    (moved / "train_log.jsonl").write_text('{"step": 1')
    with pytest.raises(ModelError, match="train_log.jsonl: damaged"):
        collect_run(moved, limit=0)


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
