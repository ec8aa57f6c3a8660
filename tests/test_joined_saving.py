"""Joined models are saved, copied and loaded whole; what cannot be joined is refused."""

import copy
import json
import re

import pytest
import torch
from joined_models import HEADS, awake, encoded, made, named

from hyperlm.errors import ModelError, OptionError
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.backbone import resolve_layers
from hyperlm.lm.joined import Conditioning, check_layers
from hyperlm.lm.loading import load_model
from hyperlm.options import TrainingOptions
from hyperlm.taxonomy import Taxonomy

pytest_plugins = ["backbone_fixtures"]


# --- saving and loading --------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS, ids=named)
def test_a_round_trip_gives_the_same_bits(head, backbone_of, tmp_path):
    model = awake(made(backbone_of("llama"), head=head, lora={"rank": 2}))
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


def test_a_copy_is_independent_and_half_precision_spares_the_maps(backbone_of, tmp_path):
    model = awake(made(backbone_of("llama")))
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


def test_models_of_points_are_as_before(backbone_of, tmp_path):
    model = made(backbone_of("llama"), joined=False)
    assert model.conditioning is None
    model.save_pretrained(tmp_path)
    assert not any("conditioning" in name for name, _ in model.named_parameters())
    assert load_model(tmp_path).conditioning is None


def test_a_joined_configuration_needs_its_maps(backbone_of, tmp_path):
    made(backbone_of("llama"), joined=False).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "joined": True}))
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(tmp_path)


def test_nothing_watches_the_blocks_afterwards(backbone_of):
    model = made(backbone_of("llama"))
    hooks = [len(module._forward_hooks) for module in model.backbone.modules()]
    model(**encoded(model))
    with pytest.raises(IndexError):
        model(torch.tensor([[10**6]]))
    assert [len(module._forward_hooks) for module in model.backbone.modules()] == hooks


def test_features_stand_in_for_texts(backbone_of):
    model = awake(made(backbone_of("qwen3")))
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


@pytest.mark.parametrize("available", [1, 2, 3, 6, 12, 30])
def test_auto_gives_each_joined_level_a_layer_of_its_own(available):
    for levels in range(2, available + 1):
        found = resolve_layers("auto", num_levels=levels, available=available, rising=True)
        check_layers(found, available)
        assert found[-1] == available
        apart = resolve_layers("auto", num_levels=levels, available=available)
        if len(set(apart)) == levels:
            assert found == apart


def test_models_that_cannot_be_joined(backbone_of):
    with pytest.raises(OptionError, match="strictly rising"):
        made(backbone_of("llama"), layers="2,3")
    with pytest.raises(OptionError, match="--loss leaf"):
        made(backbone_of("llama"), head={"loss": "leaf"})
    flat = Taxonomy.from_paths([("a",), ("b",)])
    with pytest.raises(OptionError, match="one level alone"):
        made(backbone_of("llama"), taxonomy=flat, layers="3")
    with pytest.raises(OptionError, match="--freeze trains the head on features computed once"):
        made(backbone_of("llama")).freeze_backbone()


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
