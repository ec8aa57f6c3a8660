"""``--answer joined``: what a level predicts reaches the levels above its layer, and nothing else.

With conditioning at zero every law is equality with a model without it; with other weights the
computation is repeated here block by block.
"""

import copy
import json
import re

import numpy as np
import pytest
import torch
from conftest import synthetic_text, tree_paths
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ARCHITECTURES, DECODERS, LAYERS, save_backbone
from typer.testing import CliRunner

import hyperlm
from hyperlm.cli import app
from hyperlm.cli.train import default_output
from hyperlm.cuts import Cuts
from hyperlm.data import load_data
from hyperlm.errors import HyperlmError, ModelError, OptionError
from hyperlm.heads import build_head
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.hdlm import LayerStack
from hyperlm.lm.joined import Conditioning, check_layers, expected_vector
from hyperlm.lm.loading import load_model
from hyperlm.lm.names import start_from_names
from hyperlm.optim import build_optimizer
from hyperlm.options import TrainingOptions
from hyperlm.run import build_model, train
from hyperlm.taxonomy import Taxonomy

TEXTS = ["owl0 word3 animal1", "carp2", "word1 word2 word3 mint0 herb1 plant2 word4 word5 word6"]
GOLD = torch.tensor([6, 7, 8])
HEADS = [
    {"geometry": "poincare", "curvature": 1.7},
    {"geometry": "poincare", "curvature": 0.4, "coordinates": "native", "loss": "path"},
    {"geometry": "poincare", "learn_curvature": True},
    {"geometry": "lorentz", "curvature": 2.5},
    {"geometry": "lorentz", "curvature": 2.5, "coordinates": "native"},
    {"geometry": "euclidean"},
    {"kind": "linear", "loss": "path"},
]


def named(head):
    return "-".join(map(str, head.values()))


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"])


def ragged() -> Taxonomy:
    """Paths that end early at a leaf (z), at an inner node (x, y > 1), and late."""
    return Taxonomy.from_paths(
        [("x",), ("x", "1", "p"), ("x", "2"), ("y", "1"), ("y", "1", "p"), ("y", "1", "q"), ("z",)]
    )


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    """Function from the name of an architecture to a folder with a tiny model of it."""
    made = {}

    def folder(architecture):
        if architecture not in made:
            path = tmp_path_factory.mktemp(architecture.replace("-", "_"))
            made[architecture] = save_backbone(architecture, path)
        return str(made[architecture])

    return folder


def made(folder, *, joined=True, **options) -> HierarchicalLM:
    torch.manual_seed(0)  # of the adapters
    head = {"dim": 4, **options.pop("head", {})}
    given = {"taxonomy": tree(), "layers": "1,2,3", "max_length": 32, **options}
    return HierarchicalLM.from_backbone(folder, head=head, joined=joined, **given).eval()


def awake(model: HierarchicalLM, size=2.0) -> HierarchicalLM:
    """With conditioning that shows, and node points far enough apart for it to depend on texts."""
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        weight = model.conditioning.weight
        weight.copy_(size * torch.randn(weight.shape, generator=random))
    return model


def encoded(model, texts=TEXTS, side="right"):
    model.tokenizer.padding_side = side
    batch = model.tokenizer(list(texts), padding=True, return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def gradients(model, batch=None):
    torch.manual_seed(0)
    model.zero_grad()
    model(**(batch or encoded(model)), targets=GOLD).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


# --- at the start a joined model is one of points ------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_fresh_model_says_exactly_what_one_of_points_says(architecture, backbone):
    joined, points = made(backbone(architecture)), made(backbone(architecture), joined=False)
    batch = encoded(joined)
    with torch.inference_mode():
        a, b = joined(**batch), points(**batch)
        assert torch.equal(a.logits, b.logits)
        assert torch.equal(a.points, b.points)
        assert torch.equal(joined.pooled_states(**batch), points.pooled_states(**batch))


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_its_first_gradients_under_dropout_are_those_of_points(architecture, backbone):
    """The same random numbers are drawn, and the first step differs in the new maps alone."""
    grads = [
        gradients(made(backbone(architecture), joined=joined, lora={"rank": 2}).train())
        for joined in (True, False)
    ]
    new = grads[0].pop("head.conditioning.weight")
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[1].items():
        torch.testing.assert_close(grads[0][name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert all(new[level].any() for level in range(len(new)))  # training does leave zero


def test_the_start_from_names_is_that_of_points(backbone):
    models = [made(backbone("llama"), joined=joined) for joined in (True, False)]
    random = np.random.default_rng(0)
    texts = [synthetic_text(path, random) for path in tree_paths() * 3]
    for model in models:
        start_from_names(model, texts)
    a, b = (dict(model.head.named_parameters()) for model in models)
    assert all(torch.equal(a[name], b[name]) for name in b)
    with torch.inference_mode():
        assert torch.equal(*(model(**encoded(model)).logits for model in models))


# --- what is added, and where --------------------------------------------------------------------


def by_hand(taxonomy: Taxonomy, logits: np.ndarray, level: int, loss: str) -> np.ndarray:
    """Probability of each node in the cut of a level, ``(N,)``, one path at a time."""
    chances = np.zeros(len(taxonomy))
    if loss == "level":
        depth, ends = taxonomy.depth, set(taxonomy.terminals.tolist())
        cut = [n for n in range(len(taxonomy)) if depth[n] == level + 1
               or (depth[n] <= level and n in ends)]  # fmt: skip
        chances[cut] = np.exp(logits[cut]) / np.exp(logits[cut]).sum()
        return chances

    def down(choices: list[int], stay: int | None, chance: float, at: int) -> None:
        options = [*choices, *([stay] if stay is not None else [])]
        shares = np.exp(logits[options]) / np.exp(logits[options]).sum()
        for node, share in zip(options, shares, strict=True):
            below = [int(child) for child in taxonomy.children(node)]
            if node == stay or at == level or not below:
                chances[node] += chance * share
            else:
                stops = node in taxonomy.terminals
                down(below, node if stops else None, chance * share, at + 1)

    down(np.flatnonzero(taxonomy.depth == 1).tolist(), None, 1.0, 0)
    return chances


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("loss", ["level", "path"])
@pytest.mark.parametrize("taxonomy", [tree(), ragged()], ids=["tree", "ragged"])
def test_the_expected_vector_is_the_mean_over_the_probabilities_of_the_level(taxonomy, loss, data):
    head = build_head("points", hidden_size=8, taxonomy=taxonomy, dim=3, loss=loss, curvature=1.9)
    logits = np.array(
        data.draw(st.lists(st.floats(-8, 8), min_size=len(taxonomy), max_size=len(taxonomy)))
    )
    vectors = torch.randn(len(taxonomy), 3, generator=torch.Generator().manual_seed(1))
    head.set_node_tangents(vectors)
    for level, nodes in enumerate(taxonomy.level_slices):
        so_far = torch.tensor(logits[: nodes.stop], dtype=torch.float32)[None]
        chances = by_hand(taxonomy, logits, level, loss)
        assert chances.sum() == pytest.approx(1)
        with torch.no_grad():
            found = expected_vector(head, so_far, level)[0].numpy()
        np.testing.assert_allclose(found, chances @ vectors.numpy(), rtol=1e-4, atol=1e-5)


def test_paths_through_several_parents_are_weighed_by_the_best():
    """A DAG with a waiting node: probabilities still sum to one."""
    taxonomy = Taxonomy.from_edges(
        [("b", "a"), ("c", "a"), ("d", "b"), ("d", "c"), ("e", "d"), ("e", "a")]
    )
    for loss in ("level", "path"):
        head = build_head("linear", hidden_size=4, taxonomy=taxonomy, dim=2, loss=loss)
        with torch.no_grad():
            head.weight.copy_(torch.ones_like(head.weight))
            for level, nodes in enumerate(taxonomy.level_slices):
                found = expected_vector(head, torch.randn(3, nodes.stop), level)
                torch.testing.assert_close(found, torch.ones(3, 2))


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("head", HEADS[:2], ids=named)
def test_the_states_are_those_of_running_the_blocks_one_stretch_after_the_other(
    architecture, head, backbone
):
    """Every token gets the vector that the pooled one predicts, behind the block of the level."""
    model = awake(made(backbone(architecture), head=head))
    batch = encoded(model)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    stack, cuts = LayerStack(model.backbone), Cuts(model.taxonomy)
    rows, last = torch.arange(len(ids)), mask.sum(1) - 1
    with torch.inference_mode():
        found = model.pooled_states(**batch)
        logits = model(**batch).logits
        below, states = 0, None
        for level in range(LAYERS):
            states = stack.run(below, level + 1, input_ids=ids, attention_mask=mask, states=states)[
                level + 1
            ]
            below = level + 1
            pooled = states[rows, last]
            if level + 1 == LAYERS:
                pooled = stack.norm(pooled)
            torch.testing.assert_close(found[:, level], pooled, rtol=1e-4, atol=1e-4)
            if level + 1 == LAYERS:
                break
            # At these levels of this tree a cut is the level; its scores are the model's own.
            chances = cuts.level_log_probs(logits)[level].exp()
            if head.get("loss") == "path":
                chances = cuts.path_scores(logits, "path")[0][:, model.taxonomy.level_slices[level]]
                chances = chances.exp()
            vector = chances @ model.head.node_tangents()[model.taxonomy.level_slices[level]]
            added = vector @ model.conditioning.weight[level].T
            states = states + (pooled.square().mean(1).sqrt()[:, None] * added)[:, None]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_level_is_told_what_stands_above_it_and_nothing_else(architecture, backbone):
    model = awake(made(backbone(architecture)))
    batch = encoded(model)
    maps = model.conditioning.weight.detach().clone()
    levels = len(maps)
    model.conditioning.reset_parameters()
    with torch.inference_mode():
        plain, before = model.pooled_states(**batch), model(**batch).logits
        for level in range(levels):
            model.conditioning.reset_parameters()
            model.conditioning.weight[level] = maps[level]
            states, logits = model.pooled_states(**batch), model(**batch).logits
            stop = model.taxonomy.level_slices[level].stop
            assert torch.equal(states[:, : level + 1], plain[:, : level + 1])
            assert torch.equal(logits[:, :stop], before[:, :stop])
            for above in range(level + 1, levels + 1):
                assert (states[:, above] - plain[:, above]).abs().amax(1).min() > 1e-4


def test_what_is_predicted_decides_what_is_added(backbone):
    """Another prediction on the first level, and the second is read in another way."""
    model = awake(made(backbone("llama")))
    batch = encoded(model)
    with torch.inference_mode():
        before = model.pooled_states(**batch)
        model.head.bias[0] += 50.0  # now every text is an x
        sure = model.pooled_states(**batch)
        model.head.bias[0] -= 100.0  # and now none is
        other = model.pooled_states(**batch)
    assert torch.equal(before[:, 0], sure[:, 0])
    assert (sure[:, 1] - other[:, 1]).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_neither_padding_nor_company_matters(architecture, backbone):
    model = awake(made(backbone(architecture), head={"curvature": 0.6}), size=1.0)
    with torch.inference_mode():
        right = model(**encoded(model, side="right")).logits
        left = model(**encoded(model, side="left")).logits
        alone = torch.cat([model(**encoded(model, [text])).logits for text in TEXTS])
    torch.testing.assert_close(left, right, rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(alone, right, rtol=1e-4, atol=2e-4)
    assert (right[0] - right[1]).abs().max() > 1e-2


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS, ids=named)
def test_gradients_are_those_of_finite_differences(head, backbone):
    """Along random directions, for the new maps and for the points that speak through them."""
    model = awake(made(backbone("llama"), head={"dropout": 0.0, **head}), size=0.5)
    batch = encoded(model)
    found = gradients(model, batch)
    random = torch.Generator().manual_seed(2)
    names = ["head.conditioning.weight", "head.projections.0.linear.weight"]
    for name in names + (["head.log_temperature"] if "geometry" in head else ["head.weight"]):
        parameter = model.get_parameter(name)
        along = torch.randn(parameter.shape, generator=random)
        # Mostly along the gradient, so that the slope stands out of float32's noise.
        along = along / along.norm() + 2 * found[name] / found[name].norm()
        step, losses = 5e-3, []
        start = parameter.detach().clone()
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(start + sign * step * along)
                losses.append(float(model(**batch, targets=GOLD).loss))
        with torch.no_grad():
            parameter.copy_(start)
        slope = (losses[0] - losses[1]) / (2 * step)
        assert float((found[name] * along).sum()) == pytest.approx(slope, rel=2e-2, abs=2e-3), name


def test_lower_levels_teach_the_upper_head_through_the_maps(backbone):
    """No teacher forcing: the loss of the finest level alone moves the first level's points."""
    model = awake(made(backbone("llama"), head={"loss": "level", "dropout": 0.0}))
    out = model(**encoded(model))
    leaves = model.taxonomy.level_slices[-1]
    out.logits[:, leaves].log_softmax(1)[:, 0].sum().backward()
    top = model.taxonomy.level_slices[0]
    assert model.head.points.grad[top].abs().amax(1).min() > 0
    assert model.head.projections[0].linear.weight.grad.any()


def test_the_prediction_that_conditions_is_without_dropout(backbone):
    model = awake(made(backbone("llama"), head={"dropout": 0.5}))
    batch = encoded(model)
    with torch.no_grad():
        calm = model.pooled_states(**batch)
        assert torch.equal(model.train().pooled_states(**batch), calm)
    assert all(part.training for part in model.head.modules())


@pytest.mark.parametrize("architecture", DECODERS)
def test_gradient_checkpointing_changes_no_gradient(architecture, backbone):
    grads = []
    for checkpointing in (False, True):
        model = awake(made(backbone(architecture), lora={"rank": 2, "dropout": 0.0})).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.backbone.activation_checkpointing_enable()
        grads.append(gradients(model))
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_bf16_states_and_float32_maps(backbone):
    model = awake(made(backbone("llama")), size=0.3)
    batch = encoded(model)
    with torch.inference_mode():
        exact = model(**batch).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(**batch).logits
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(model)["head.conditioning.weight"]
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert found.any()


@pytest.mark.parametrize("adapter", ["lora", "hyplora"])
def test_the_maps_train_beside_adapters_at_the_rate_of_the_head(adapter, backbone):
    model = made(backbone("llama"), lora={"rank": 2, "adapter": adapter}).train()
    optimizer = build_optimizer(
        model, learning_rate=1e-5, head_learning_rate=7e-3, point_learning_rate=1e-2
    )
    maps = model.conditioning.weight
    (group,) = [g for g in optimizer.param_groups if any(p is maps for p in g["params"])]
    assert group["lr"] == 7e-3
    model(**encoded(model), targets=GOLD).loss.backward()
    optimizer.step()
    assert float(maps.detach().abs().max()) == pytest.approx(7e-3, rel=0.1)  # Adam's first step


# --- saving and loading --------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS, ids=named)
def test_a_round_trip_gives_the_same_bits(head, backbone, tmp_path):
    model = awake(made(backbone("llama"), head=head, lora={"rank": 2}))
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["joined"] is True
    loaded = load_model(tmp_path).eval()
    for (name, value), other in zip(loaded.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(value, other), name
    batch = encoded(model)
    with torch.inference_mode():
        torch.testing.assert_close(
            loaded(**batch).logits, model(**batch).logits, rtol=1e-5, atol=1e-5
        )
    assert loaded.conditioning.weight.requires_grad


def test_a_copy_is_independent_and_half_precision_spares_the_maps(backbone, tmp_path):
    model = awake(made(backbone("llama")))
    model.save_pretrained(tmp_path)
    batch = encoded(model)
    with torch.inference_mode():
        expected = model(**batch).logits
        copied = copy.deepcopy(model)
        awake(copied, size=0.1)
        assert torch.equal(model(**batch).logits, expected)
        assert not torch.equal(copied(**batch).logits, expected)
    half = HierarchicalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert half.conditioning.weight.dtype == torch.float32
    assert torch.equal(half.conditioning.weight, model.conditioning.weight)
    with torch.inference_mode():
        assert torch.isfinite(half(**batch).logits).all()


def test_models_of_points_are_as_before(backbone, tmp_path):
    model = made(backbone("llama"), joined=False)
    assert model.conditioning is None
    model.save_pretrained(tmp_path)
    assert not any("conditioning" in name for name, _ in model.named_parameters())
    assert load_model(tmp_path).conditioning is None


def test_a_joined_configuration_needs_its_maps(backbone, tmp_path):
    made(backbone("llama"), joined=False).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "joined": True}))
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(tmp_path)


def test_nothing_watches_the_blocks_afterwards(backbone):
    model = made(backbone("llama"))
    hooks = [len(module._forward_hooks) for module in model.backbone.modules()]
    model(**encoded(model))
    with pytest.raises(IndexError):
        model(torch.tensor([[10**6]]))
    assert [len(module._forward_hooks) for module in model.backbone.modules()] == hooks


def test_features_stand_in_for_texts(backbone):
    model = awake(made(backbone("qwen3")))
    batch = encoded(model)
    with torch.inference_mode():
        features = model.pooled_states(**batch)
        assert torch.equal(model(features=features).logits, model(**batch).logits)


# --- refusing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "available", "message"),
    [
        ([3, 3, 3], 3, r"layers 3, 3, 3, .* strictly rising, for example --layers 1,2,3\."),
        ([20, 30, 30], 30, r"for example --layers 10,20,30\."),
        ([2, 2, 2], 2, r"The backbone has 2 layers for 3 levels: take a deeper one"),
        ([6], 6, r"one level alone\. Use --answer points"),
    ],
)
def test_layers_at_which_nothing_reaches_a_level(layers, available, message):
    with pytest.raises(OptionError, match=message):
        check_layers(layers, available)


@pytest.mark.parametrize("available", range(3, 40, 4))
def test_the_layers_it_recommends_are_accepted(available):
    for levels in range(2, available + 1):
        with pytest.raises(OptionError) as refused:
            check_layers([1] * levels, available)
        example = re.search(r"--layers ([\d,]+)\.", str(refused.value))[1]
        check_layers([int(layer) for layer in example.split(",")], available)


def test_models_that_cannot_be_joined(backbone):
    with pytest.raises(OptionError, match="strictly rising"):
        made(backbone("llama"), layers="2,3")
    with pytest.raises(OptionError, match="--loss leaf"):
        made(backbone("llama"), head={"loss": "leaf"})
    flat = Taxonomy.from_paths([("a",), ("b",)])
    with pytest.raises(OptionError, match="one level alone"):
        made(backbone("llama"), taxonomy=flat, layers="3")
    with pytest.raises(OptionError, match="--freeze trains the head on features computed once"):
        made(backbone("llama")).freeze_backbone()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": True}, r"--freeze .* Use --lora RANK, or --answer points"),
        ({"loss": "leaf"}, r"--loss leaf.*Use --loss level or path"),
        ({"speakers": "free"}, r"--speakers means nothing with --answer joined"),
        ({"packed": True}, r"--packed means nothing with --answer joined"),
    ],
)
def test_options_that_contradict_it(options, message):
    with pytest.raises(OptionError, match=message):
        TrainingOptions(answer="joined", **options)


def test_maps_of_any_shape_start_at_zero():
    maps = Conditioning(6, 3, 4)
    assert maps.weight.shape == (3, 6, 3)
    assert not maps.weight.any()
    pooled = torch.tensor([[3.0, -3.0, 3.0, -3.0, 3.0, -3.0]])  # root mean square 3
    with torch.no_grad():
        maps.weight[1] += 1.0
    added = maps(1, torch.tensor([[1.0, 2.0, 3.0]]), pooled)
    torch.testing.assert_close(added, torch.full((1, 6), 18.0))


# --- a run ---------------------------------------------------------------------------------------


def options(data, folder, **changes):
    return TrainingOptions(
        **{
            "data": str(data), "backbone": str(folder), "answer": "joined", "layers": "1,2,3",
            "dim": 8, "epochs": 3, "batch_size": 16, "max_length": 24, "learning_rate": 1e-2,
            "head_learning_rate": 1e-2, "precision": "fp32", **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(demo_like, backbone, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "joined"
    given = options(demo_like, backbone("llama"), lora=4, gradient_checkpointing=True)
    return output, train(given, output, progress=False)


def test_a_run_learns_and_answers_like_every_other(run, demo_like):
    output, metrics = run
    assert metrics["test"]["path_consistency"] == 1
    assert metrics["test"]["levels"][0]["accuracy"] > 0.7
    model = hyperlm.load(output)
    assert model.model.conditioning.weight.abs().amax(dim=(1, 2)).min() > 1e-3  # both were learned
    texts = load_data(demo_like).split("test")
    again = model.evaluate(texts)
    assert again["path_accuracy"] == metrics["test"]["path_accuracy"]
    paths = set(tree_paths())
    assert all(answer.path in paths for answer in model.predict(texts.texts[:20]))


def test_the_run_depends_on_what_it_learned_to_inject(run, demo_like):
    model = hyperlm.load(run[0])
    texts = load_data(demo_like).split("test").texts
    with_maps = model.logits(texts)
    with torch.no_grad():
        model.model.conditioning.reset_parameters()
    first = model.taxonomy.level_slices[0]
    without = model.logits(texts)
    assert torch.equal(with_maps[:, first], without[:, first])
    assert (with_maps - without).abs().max() > 1e-2


def test_the_command_and_the_card_name_it(run, demo_like, tmp_path):
    output, _ = run
    card = (output / "README.md").read_text()
    assert "each level's point passed to the layers above" in card
    assert "--answer joined" in card
    runner = CliRunner()
    test = str(demo_like / "test.csv")
    for arguments in (
        ["predict", str(output), "--text", "owl0 bird1 animal2", "--json"],
        ["evaluate", str(output), "--data", test, "--json"],
        ["info", str(output)],
        ["visualize", str(output), "--output", str(tmp_path / "labels.html")],
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.output)
    assert (tmp_path / "labels.html").stat().st_size > 10_000


def test_the_command_refuses_what_cannot_be(demo_like, backbone, tmp_path):
    shared = ["train", "--data", str(demo_like), "--backbone", backbone("llama"), "--answer"]
    for extra, message in (
        (["--freeze"], "--freeze trains the head on features computed once"),
        (["--layers", "3"], "--layers 1,2,3"),
    ):
        result = CliRunner().invoke(
            app, [*shared, "joined", *extra, "--output", str(tmp_path / "run")]
        )
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())
        assert not (tmp_path / "run").exists()
    assert default_output(TrainingOptions(answer="joined")).name == "demo-joined"


@pytest.mark.parametrize("architecture", ["bert", "mamba"])
def test_encoders_and_state_spaces_train_as_well(architecture, demo_like, backbone):
    given = options(demo_like, backbone(architecture), init="tree")
    model = build_model(given, load_data(demo_like))
    assert model.conditioning is not None
    grads = gradients(model.train(), encoded(model))
    assert grads["head.conditioning.weight"].abs().amax(dim=(1, 2)).min() > 0


def test_hyplora_in_bf16_trains_and_is_found_again(demo_like, backbone, tmp_path):
    given = options(
        demo_like, backbone("gpt2"), lora=2, adapter="hyplora", precision="bf16", epochs=1,
        curvature=1.6, geometry="lorentz",
    )  # fmt: skip
    metrics = train(given, tmp_path / "run", progress=False)
    again = hyperlm.load(tmp_path / "run").evaluate(load_data(demo_like).split("val"))
    assert again["path_accuracy"] == pytest.approx(metrics["val"]["path_accuracy"], abs=0.05)
    assert issubclass(OptionError, HyperlmError)
