"""Starting a model from its labelled training texts: what it answers, costs, and when it stays."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from run_records import Killed

from hyperlm.classifier import Classifier, load
from hyperlm.data import load_data
from hyperlm.errors import OptionError
from hyperlm.lm import HierarchicalLM, batches
from hyperlm.lm.batches import targets_of
from hyperlm.lm.labelled import start_from_labelled
from hyperlm.metrics import path_accuracy
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.run_start import build_model
from hyperlm.taxonomy import Taxonomy

pytest_plugins = ["run_fixtures"]


@pytest.fixture(scope="module")
def data(demo_like):
    return load_data(demo_like)


@pytest.fixture
def frozen(run_options):
    return replace(
        run_options, freeze=True, learning_rate=1e-4, head_learning_rate=None, dropout=0.0
    )


def made(backbone, taxonomy, **head):
    return HierarchicalLM.from_backbone(
        str(backbone), taxonomy, layers="1,2,2", head={"dim": 8, **head}, max_length=32
    )


def right(model, texts, gold):
    ends = Classifier(model)._answers(texts).nodes.numpy()
    return path_accuracy(model.taxonomy, gold, ends)


@pytest.mark.parametrize(
    "head", [{}, {"geometry": "lorentz", "curvature": 2.0}, {"kind": "linear"}], ids=str
)
def test_it_answers_before_any_training(tiny_backbone, data, head):
    texts, gold = data.train.texts, data.gold("train")
    first, second = (made(tiny_backbone, data.taxonomy, **head) for _ in range(2))
    before = right(first, texts, gold)
    for model in (first, second):
        start_from_labelled(model, texts, gold)
    assert before < 0.3 < 0.5 < right(first, texts, gold)
    for name, value in first.head.state_dict().items():
        assert torch.equal(value, second.head.state_dict()[name])


def test_val_may_move_the_labels_to_one_radius(tiny_backbone, data):
    """One text of each label; val answers for whichever way is better, never for a worse one."""
    gold = data.gold("train")
    first = list({int(ends[0]): row for row, ends in reversed(list(enumerate(gold)))}.values())
    texts, ends = [data.train.texts[row] for row in first], [gold[row] for row in first]
    val = data.val.texts, data.gold("val")
    plain, chosen, with_test = (made(tiny_backbone, data.taxonomy) for _ in range(3))
    start_from_labelled(plain, texts, ends)
    start_from_labelled(chosen, texts, ends, val=val)
    start_from_labelled(with_test, texts, ends, val=(data.test.texts, data.gold("test")))
    assert right(chosen, *val) >= right(plain, *val)
    assert right(with_test, data.test.texts, data.gold("test")) >= right(
        chosen, data.test.texts, data.gold("test")
    )
    same = torch.tensor(data.taxonomy.terminals.copy())
    spread = [model.head.node_tangents()[same].norm(dim=1).std() for model in (plain, chosen)]
    moved = not torch.equal(plain.head.node_tangents(), chosen.head.node_tangents())
    assert spread[0] > 1e-3
    assert moved == bool(spread[1] < 1e-6)


def test_targets_mark_nodes_where_texts_have_several_paths():
    taxonomy = Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)])
    b, c, a, d = (taxonomy.index(path) for path in (("a", "b"), ("a", "c"), ("a",), ("d",)))
    single = [np.array([b]), np.array([], dtype=int), np.array([d])]
    assert targets_of(single, taxonomy).tolist() == [b, -100, d]
    marked = targets_of([np.array([b, c]), np.array([d])], taxonomy)
    assert {tuple(row.nonzero().flatten().tolist()) for row in marked} == {
        tuple(sorted((a, b, c))), (d,),
    }  # fmt: skip
    assert targets_of(single, taxonomy, several=True).dtype == torch.bool


@pytest.mark.parametrize("init", ["texts", "names"])
def test_features_are_computed_once(frozen, init, tmp_path, monkeypatch):
    """The start reads the features that training reads."""
    computed, original = [], batches.cached

    def counting(kind, key, compute):
        def made():
            computed.append(kind)
            return compute()

        return original(kind, key, made)

    monkeypatch.setenv("HYPERLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(batches, "cached", counting)
    train(replace(frozen, init=init), tmp_path / "run", progress=False)
    assert computed.count("features") == 3  # names, train, val


def log_of(folder):
    with (folder / "train_log.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def metrics_of(options, folder):
    return train(options, folder, progress=False)


def test_what_training_ruins_is_left_as_it_started(frozen, tmp_path):
    still = metrics_of(replace(frozen, epochs=0), tmp_path / "still")
    wild = replace(frozen, head_learning_rate=30.0, point_learning_rate=30.0, max_grad_norm=1e9)
    ruined = metrics_of(wild, tmp_path / "ruined")
    for split in ("val", "test"):
        for figures in (still[split], ruined[split]):
            figures.pop("texts_per_second")
    assert ruined == still
    val = {
        line["epoch"]: line["eval_path_accuracy"]
        for line in log_of(tmp_path / "ruined")
        if "eval_path_accuracy" in line
    }
    assert set(val) == {0.0, 1.0, 2.0}
    assert val[0.0] == pytest.approx(still["val"]["path_accuracy"])
    assert max(val[1.0], val[2.0]) < val[0.0]
    texts = ["a text about something"]
    one, other = (load(tmp_path / name).logits(texts) for name in ("still", "ruined"))
    torch.testing.assert_close(one, other)


def test_a_resumed_run_still_knows_its_start(frozen, tmp_path, kill_at):
    wild = replace(frozen, head_learning_rate=30.0, point_learning_rate=30.0, max_grad_norm=1e9)
    whole = metrics_of(wild, tmp_path / "whole")
    kill_at(10)
    with pytest.raises(Killed):
        train(wild, tmp_path / "parts", progress=False)
    kill_at(None)
    parts = train(None, tmp_path / "parts", resume=True, progress=False)
    for metrics in (whole, parts):
        for split in ("val", "test"):
            metrics[split].pop("texts_per_second")
    assert parts == whole
    logs = [log_of(tmp_path / name) for name in ("whole", "parts")]
    starts = [[line for line in log if line.get("epoch") == 0] for log in logs]
    assert [len(lines) for lines in starts] == [1, 1]


@pytest.mark.parametrize(
    ("given", "init", "rates"),
    [
        ({}, "names", (3e-4, 1e-2)),
        ({"freeze": True}, "texts", (1e-4, 3e-3)),
        ({"freeze": True, "init": "names"}, "names", (3e-4, 1e-2)),
        ({"init": "texts", "point_learning_rate": 0.5}, "texts", (1e-4, 0.5)),
        ({"head": "linear"}, "names", (3e-4, 1e-2)),
        # From a random start its nodes have the rate of its projection, unless one is named.
        ({"head": "linear", "init": "random"}, "random", (3e-3, None)),
        ({"head": "linear", "freeze": True}, "texts", (1e-4, 3e-3)),
        ({"head": "linear", "point_learning_rate": 0.5}, "names", (3e-4, 0.5)),
        ({"init": "tree", "head_learning_rate": 1e-2}, "tree", (1e-2, 3e-2)),
    ],
)
def test_what_is_left_open_is_decided(given, init, rates):
    options = TrainingOptions(**given)
    decided = options.resolved()
    assert decided.init == init
    assert (decided.head_learning_rate, decided.point_learning_rate) == rates
    assert decided.resolved() == decided
    # The command names what somebody chose, and nothing that follows from it.
    assert decided.command("runs/x") == options.command("runs/x")
    assert ("--init" in options.command("runs/x")) == ("init" in given)


@pytest.mark.parametrize(
    ("given", "temperature"),
    [
        ({}, 20.0),
        ({"init": "texts"}, 20.0),
        ({"init": "tree"}, 10.0),
        ({"freeze": True}, 20.0),
        ({"head": "linear"}, 20.0),
        ({"head": "linear", "init": "random"}, None),
        ({"geometry": "euclidean", "temperature": 40.0}, 40.0),
        ({"backbone": "smollm2", "answer": "text"}, None),
    ],
)
def test_temperature_follows_the_start(given, temperature):
    options = TrainingOptions(**given)
    assert options.resolved().temperature == temperature
    assert ("--temperature" in options.command("runs/x")) == ("temperature" in given)


@pytest.mark.parametrize("init", ["names", "texts", "tree"])
def test_a_model_starts_at_its_temperature(tiny_backbone, data, init):
    given = {"backbone": str(tiny_backbone), "layers": "1,2,2", "dim": 8, "max_length": 32}
    model = build_model(TrainingOptions(**given, init=init, temperature=7.0), data)
    torch.testing.assert_close(model.head.log_temperature.exp(), torch.full((3,), 7.0))
    if init != "tree":
        weights = [
            build_model(TrainingOptions(**given, init=init, temperature=t, head="linear"), data)
            .head.weight.detach()
            for t in (7.0, 14.0)
        ]  # fmt: skip
        torch.testing.assert_close(2 * weights[0], weights[1])


def test_no_temperature_without_distances():
    with pytest.raises(OptionError, match="--temperature: a linear head has one"):
        TrainingOptions(head="linear", init="random", temperature=5.0)
    with pytest.raises(OptionError, match="--temperature -1.0: must be greater than 0"):
        TrainingOptions(temperature=-1.0)
    with pytest.raises(OptionError, match="--temperature means nothing with --answer text"):
        TrainingOptions(backbone="smollm2", answer="text", temperature=5.0)


def test_a_linear_head_has_no_points_to_place():
    with pytest.raises(OptionError, match="--init tree places node points"):
        TrainingOptions(head="linear", init="tree")
