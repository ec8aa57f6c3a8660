"""The layer sweep: one pass gives every layer's features, the choice obeys its rule, auto uses it.

The rule of choice is compared with a plain enumeration; features with those of a model per layer.
"""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.errors import DataError, OptionError, OutputError
from hyperlm.experiments import FrozenData, HeadRun, ResultsFile, layer_sweep, report_layers
from hyperlm.experiments.layer_sweep import choose
from hyperlm.lm import resolve_layers
from hyperlm.lm.layer_choice import choice_path, keep_choice, measured_layers
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.run_start import build_model, layers_measured
from hyperlm.taxonomy import Taxonomy

TREE = Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z"), ("b", "w")])


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of its own: a choice must not reach the trainings of other tests."""
    monkeypatch.setenv("HYPERLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# -- the rule ------------------------------------------------------------------------------------


def acceptable(right, layers):
    """Whether every level of ``layers`` (from 1) is as the rule says, by its definition."""
    levels, depth, _ = right.shape
    above = 0
    for number, (level, layer) in enumerate(zip(right, layers, strict=True)):
        allowed = range(above + 1, depth - (levels - 1 - number) + 1)
        if levels > depth:
            allowed = range(max(above, 1), depth + 1)
        if layer not in allowed:
            return False
        best = max(allowed, key=lambda k: level[k - 1].mean())
        for k in allowed:
            gap = level[best - 1] - level[k - 1]
            good = gap.mean() <= math.sqrt(gap.var(ddof=1) / len(gap)) + 1e-9
            if (k == layer and not good) or (k < layer and good):
                return False
        above = layer
    return True


answers = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 30), st.integers(0, 999))


@given(answers)
@settings(max_examples=60, deadline=None)
def test_a_level_takes_the_earliest_layer_that_is_as_good_as_the_best(shape):
    levels, depth, texts, seed = shape
    random = np.random.default_rng(seed)
    quality = random.uniform(0.2, 0.9, (levels, depth, 1))
    right = (random.random((levels, depth, texts)) < quality).astype(float)
    chosen = choose(right)
    assert all(a < b or depth < levels for a, b in itertools.pairwise(chosen))
    all_of_them = itertools.combinations_with_replacement(range(1, depth + 1), levels)
    assert [c for c in all_of_them if acceptable(right, c)] == [chosen]


def test_a_difference_that_is_certain_is_taken_and_one_that_is_not_is_no_reason():
    texts = 100
    same, worse, certain = np.ones(texts), np.ones(texts), np.ones(texts)
    worse[:1] = 0  # one text of however many is one standard error
    certain[:5] = 0
    assert choose(np.array([[worse, same]])) == (1,)
    assert choose(np.array([[certain, same]])) == (2,)
    # A level below is bound by the one above, and takes the best of what is left to it.
    assert choose(np.array([[certain, same, certain], [same, certain, certain]])) == (2, 3)
    assert choose(np.array([[certain, certain, same]] * 3)) == (1, 2, 3), "room for all"
    assert choose(np.array([[certain, same]] * 3)) == (2, 2, 2), "more levels than layers"


# -- features of every layer ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tiny_backbone, demo_like):
    return FrozenData(str(demo_like), backbone=str(tiny_backbone), max_length=32)


@pytest.mark.parametrize("layers", ["auto", "1", "2", "1,2,2"])
@pytest.mark.parametrize("joined", [False, True])
def test_one_pass_gives_what_a_model_per_choice_of_layers_gives(data, layers, joined):
    run = HeadRun(dim=4, layers=layers, joined=joined)
    whole = data.in_every_layer(10_000)
    assert whole.describe() == data.describe(), "nothing was left out"
    for name, part in data.splits(run).items():
        torch.testing.assert_close(whole.splits(run)[name].features, part.features)
    assert whole.head(run).tap_of_level == data.head(run).tap_of_level
    assert whole.head(run).hidden_size == data.head(run).hidden_size


def test_a_draw_is_told_and_the_same_for_everybody(data):
    run = HeadRun(dim=4, layers="2")
    part, again = data.in_every_layer(20), data.in_every_layer(20)
    assert part.describe() == data.describe() | {"texts": 20}
    assert [len(split.gold) for split in part.splits(run).values()] == [20, 20, 20]
    drawn = part.splits(run)["train"].features
    assert torch.equal(drawn, again.splits(run)["train"].features)
    rows = torch.cdist(drawn[:, 0], data.splits(run)["train"].features[:, 0]).min(1).values
    assert float(rows.max()) < 1e-2, "texts of the split"
    assert len(data.splits(run)["train"].gold) > 20, "the whole is as it was"


# -- the kept choice -----------------------------------------------------------------------------


def kept(layers=(1, 2), **changes):
    told = {"pooling": "mean", "depth": 2, "measured": {}} | changes
    return keep_choice("minilm", TREE, layers, **told)


def test_a_choice_is_that_of_its_backbone_its_labels_and_its_pooling(own_cache, tmp_path):
    assert measured_layers("minilm", TREE) is None
    path = kept((2, 2))
    assert path.is_relative_to(own_cache)
    assert list(path.parent.iterdir()) == [path]
    assert measured_layers("minilm", TREE) == (2, 2)
    assert measured_layers("minilm", TREE, pooling="mean") == (2, 2)
    assert measured_layers("minilm", TREE, pooling="last") is None
    assert measured_layers("minilm", TREE, text_levels=1) == (2, 2, 2)
    assert measured_layers("sentence-transformers/all-MiniLM-L6-v2", TREE) == (2, 2)
    assert measured_layers("smollm2", TREE) is None
    assert measured_layers("minilm", Taxonomy.from_paths([("a",), ("b",)])) is None
    kept((1, 1))
    assert measured_layers("minilm", TREE) == (1, 1), "the last sweep counts"


def test_a_folder_is_known_by_what_is_in_it(own_cache, tmp_path):
    for name, weights in (("one", "w"), ("copy", "w"), ("other", "v")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(weights)
        (folder / "README.md").write_text(name)
    paths = [choice_path(str(tmp_path / name), TREE) for name in ("one", "copy", "other")]
    assert paths[0] == paths[1] != paths[2]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("{", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ({"surprise": 1}, "not a JSON object"),
        ({"backbone": "another"}, "another backbone"),
        ({"taxonomy": "0"}, "other labels"),
        ({"layers": [1]}, "one layer for each of 2 levels"),
        ({"layers": [1, "2"]}, "one layer for each"),
        ({"layers": [2, 1]}, "do not ascend"),
        ({"layers": [0, 1]}, "do not ascend"),
        ({"layers": [1, 3]}, r"do not ascend in 1\.\.2"),
        ({"depth": None}, "one layer for each"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(own_cache, change, match):
    path = kept()
    found = json.loads(path.read_text())
    path.write_text(change if isinstance(change, str) else json.dumps(found | change))
    with pytest.raises(DataError, match=match) as caught:
        measured_layers("minilm", TREE)
    assert str(path) in str(caught.value)
    assert "--layers 4,5,6" in str(caught.value)
    kept()  # a new sweep puts it right
    assert measured_layers("minilm", TREE) == (1, 2)


def test_a_choice_that_cannot_be_kept_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HYPERLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"HYPERLM_CACHE.*--layers 1,2"):
        kept()


# -- the whole way -------------------------------------------------------------------------------


def test_the_sweep_chooses_and_train_takes_what_it_chose(
    tiny_backbone, demo_like, tmp_path, own_cache, monkeypatch
):
    words = ["experiment", "layer-sweep", "--data", str(demo_like), "--backbone"]
    words += [str(tiny_backbone), "--max-length", "32", "--seeds", "2", "--dims", "4"]
    words += ["-o", str(tmp_path / "results.jsonl"), "--set", "texts=64"]
    monkeypatch.setattr(
        layer_sweep,
        "PROBES",
        {name: HeadRun(head=run.head, epochs=2) for name, run in layer_sweep.PROBES.items()},
    )
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    results = ResultsFile(tmp_path / "results.jsonl")
    assert set(results.records[0].data) >= {"texts", "backbone", "taxonomy"}
    (sweep,) = layer_sweep.sweeps_of(results)
    assert sweep.depth == 2
    assert sweep.levels == 3
    assert len(results.of(stage="probe")) == 2 * 2 * 2
    chosen = sweep.chosen()
    said = ", ".join(map(str, chosen))
    assert f"layers {said}, kept in {own_cache}" in done.stderr
    right = np.mean([r.figures["val"]["levels"][0]["accuracy"] for at in sweep.probes.values()
                     for r in at[1]])  # fmt: skip
    assert layer_sweep.accuracies(sweep)[0, 0] == pytest.approx(right)

    again = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(again.stdout)["new"] == 0, "nothing is made twice"
    with pytest.raises(OptionError, match="one dimension"):
        layer_sweep.run(FrozenData(str(demo_like)), results, dims=(2, 4))

    images = tmp_path / "images"
    images.mkdir()
    text = "\n".join(report_layers.section(results, images))
    assert f"Chosen: layers {said}" in text
    assert [path.suffix for path in images.iterdir()] == [".png"]
    assert text.count("| linear, ") == text.count("| poincare, ") == 3

    # Another choice than the rule's, so that it is seen which was taken.
    bundle = FrozenData(str(demo_like), backbone=str(tiny_backbone)).bundle
    rule = resolve_layers("auto", num_levels=3, available=2)
    ours = next(c for c in [(1, 1, 2), (2, 2, 2)] if c != rule)
    keep_choice(
        str(tiny_backbone), bundle.taxonomy, ours,
        pooling="mean", depth=2, measured={},
    )  # fmt: skip
    run = tmp_path / "run"
    given = ["train", "--data", str(demo_like), "--backbone", str(tiny_backbone), "--freeze"]
    given += ["--epochs", "1", "--output", str(run)]
    trained = CliRunner().invoke(app, given)
    assert trained.exit_code == 0, trained.output
    assert f"{', '.join(map(str, ours))} (measured by layer-sweep)" in trained.stdout
    stored = json.loads((run / "run.json").read_text())["options"]["layers"]
    assert stored == ",".join(map(str, ours))
    assert f"--layers {stored}" in (run / "README.md").read_text()
    assert json.loads((run / "config.json").read_text())["layers"] == list(ours)
    # Whoever else says auto means the rule: results must not depend on what lies in a cache.
    options = TrainingOptions(
        data=str(demo_like), backbone=str(tiny_backbone), freeze=True, epochs=1
    )
    assert build_model(options, bundle).config.layers == list(rule)
    # The run goes on as it was begun, where auto is said again and the sweep is gone.
    choice_path(str(tiny_backbone), bundle.taxonomy).unlink()
    metrics = train(options, run, resume=True, progress=False)
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert layers_measured(options, bundle) is None, "without a sweep it is the rule"
