"""The same laws for every architecture: padding, taps, gradients, adapters, saving.

All run on random models of a few thousand parameters.
"""

import pytest
import torch
import transformers
from tiny_models import ARCHITECTURES, DECODERS, ENCODERS, LAYERS

from hyperlm import HierarchicalLM
from hyperlm.lm.backbone import num_layers, pooling_for
from hyperlm.manifolds import ManifoldParameter
from hyperlm.optim import build_optimizer
from hyperlm.taxonomy import Taxonomy

pytest_plugins = ["backbone_fixtures"]

TEXTS = ["owl0 word3 animal1", "carp2", "word1 word2 word3 mint0 herb1 plant2 word4 word5 word6"]


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"])


@pytest.fixture(params=ARCHITECTURES)
def model(request, backbone_of):
    """A model with two taps, the lower one not the last layer."""
    return HierarchicalLM.from_backbone(
        backbone_of(request.param), tree(), layers="1,2,3", head={"dim": 4}, max_length=32
    ).eval()


def encoded(model, texts=TEXTS, side="right"):
    model.tokenizer.padding_side = side
    batch = model.tokenizer(list(texts), padding=True, return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def test_forward_and_backward_reach_every_block_below_the_tap(model):
    out = model(**encoded(model), targets=torch.tensor([6, 7, 8]))
    assert out.logits.shape == (3, len(model.taxonomy))
    assert torch.isfinite(out.logits).all()
    out.loss.backward()
    for index in range(LAYERS):
        inside = [p for n, p in model.backbone.named_parameters() if f".{index}." in f".{n}"]
        assert inside
        assert any(p.grad is not None and p.grad.any() for p in inside), index
    assert model.head.points.grad.any()


def test_left_and_right_padding_give_the_same_logits(model):
    right, left = encoded(model, side="right"), encoded(model, side="left")
    assert not torch.equal(right["input_ids"], left["input_ids"])
    with torch.inference_mode():
        torch.testing.assert_close(
            model(**left).logits, model(**right).logits, rtol=1e-4, atol=1e-4
        )


def test_a_text_alone_and_in_a_batch_give_the_same_logits(model):
    with torch.inference_mode():
        together = model(**encoded(model)).logits
        alone = torch.cat([model(**encoded(model, [text])).logits for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-2  # the texts are told apart


def test_taps_are_what_the_blocks_of_their_layers_give(model):
    """Seen at the blocks themselves: hidden_states of some architectures begin one layer later."""
    batch = encoded(model)
    lists = [m for m in model.backbone.modules() if isinstance(m, torch.nn.ModuleList)]
    blocks = next(blocks for blocks in lists if len(blocks) == LAYERS)
    seen = []
    for block in blocks:
        block.register_forward_hook(
            lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out)
        )
    with torch.inference_mode():
        pooled = model.pooled_states(**batch)
        top = model.backbone(**batch).last_hidden_state
    states = [*seen[: LAYERS - 1], top]
    for tap, state in enumerate(states):
        for row, mask in enumerate(batch["attention_mask"].bool()):
            real = state[row, mask]
            expected = real.mean(0) if model.config.pooling == "mean" else real[-1]
            torch.testing.assert_close(pooled[row, tap], expected, rtol=1e-4, atol=1e-4)
    assert (pooled[:, 0] - pooled[:, -1]).abs().max() > 1e-2


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_states_that_are_not_tapped_are_not_kept(architecture, backbone_of):
    model = HierarchicalLM.from_backbone(
        backbone_of(architecture), tree(), layers="2,3,3", head={"dim": 4}
    )
    seen = []
    model.backbone.register_forward_hook(lambda _m, _a, out: seen.append(out.hidden_states))
    model(**encoded(model))
    assert [state is not None for state in seen[0]] == [False, False, True, False]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pooling_follows_the_architecture(architecture, backbone_of):
    config = transformers.AutoConfig.from_pretrained(backbone_of(architecture))
    assert pooling_for(config) == ("mean" if architecture in ENCODERS else "last")
    assert num_layers(config) == LAYERS
    assert set(ENCODERS) | set(DECODERS) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_and_loaded_gives_identical_logits_and_points_on_a_manifold(
    architecture, backbone_of, tmp_path
):
    model = HierarchicalLM.from_backbone(backbone_of(architecture), tree(), head={"dim": 4}).eval()
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = HierarchicalLM.from_pretrained(tmp_path).eval()
    batch = encoded(model)
    with torch.inference_mode():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert isinstance(loaded.head.points, ManifoldParameter)
    assert loaded.config.pooling == model.config.pooling
    assert loaded.taps == model.taps


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapters_train_alone_save_load_and_merge(architecture, backbone_of, tmp_path):
    model = HierarchicalLM.from_backbone(
        backbone_of(architecture), tree(), head={"dim": 4}, lora={"rank": 2, "dropout": 0.0}
    )
    batch = encoded(model)
    plain = HierarchicalLM.from_backbone(backbone_of(architecture), tree(), head={"dim": 4}).eval()
    model.eval()
    with torch.inference_mode():  # an untrained adapter changes nothing
        torch.testing.assert_close(model(**batch).logits, plain(**batch).logits)
    before = {n: p.detach().clone() for n, p in model.backbone.named_parameters()}
    optimizer = build_optimizer(model, learning_rate=0.05, point_learning_rate=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch, targets=torch.tensor([6, 7, 8])).loss.backward()
        optimizer.step()
    for name, value in model.backbone.named_parameters():
        assert ("lora_" in name) == value.requires_grad
        # The finest level taps the top, so every adapter lies on its way and none is read past.
        assert ("lora_" in name) != torch.equal(value, before[name]), name

    with torch.inference_mode():
        expected = model(**batch).logits
    model.save_pretrained(tmp_path / "adapters")
    loaded = HierarchicalLM.from_pretrained(tmp_path / "adapters").eval()
    with torch.inference_mode():
        # Equal weights; where they lie in memory decides about the last bit of a sum.
        torch.testing.assert_close(loaded(**batch).logits, expected, rtol=1e-5, atol=1e-5)
        for value, other in zip(loaded.parameters(), model.parameters(), strict=True):
            assert torch.equal(value, other)
        loaded.merge_lora()
        torch.testing.assert_close(loaded(**batch).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any("lora_" in name for name, _ in loaded.named_parameters())
    loaded.save_pretrained(tmp_path / "merged")
    merged = HierarchicalLM.from_pretrained(tmp_path / "merged").eval()
    assert merged.config.lora is None
    with torch.inference_mode():
        torch.testing.assert_close(merged(**batch).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_checkpointing_gives_the_same_gradients(architecture, backbone_of):
    grads = []
    for checkpointing in (False, True):
        model = HierarchicalLM.from_backbone(
            backbone_of(architecture), tree(), layers="1,2,3", head={"dim": 4, "dropout": 0.0}
        ).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.config.backbone_config._attn_implementation = "eager"
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.backbone.is_activation_checkpointing
        torch.manual_seed(0)
        model(**encoded(model), targets=torch.tensor([6, 7, 8])).loss.backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_adapters_learn_under_gradient_checkpointing(architecture, backbone_of):
    """With frozen embeddings, careless checkpointing would cut every adapter off."""
    model = HierarchicalLM.from_backbone(
        backbone_of(architecture), tree(), head={"dim": 4}, lora={"rank": 2}
    ).train()
    model.backbone.activation_checkpointing_enable()
    model(**encoded(model), targets=torch.tensor([6, 7, 8])).loss.backward()
    for name, value in model.backbone.named_parameters():
        if "lora_B" in name:
            assert value.grad is not None, name
            assert value.grad.any(), name


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_load_keeps_the_head_in_float32(
    architecture, dtype, backbone_of, tmp_path
):
    model = HierarchicalLM.from_backbone(backbone_of(architecture), tree(), head={"dim": 4}).eval()
    model.save_pretrained(tmp_path)
    half = HierarchicalLM.from_pretrained(tmp_path, dtype=dtype).eval()
    assert {p.dtype for p in half.head.parameters()} == {torch.float32}
    assert {p.dtype for p in half.backbone.parameters()} == {dtype}
    assert isinstance(half.head.points, ManifoldParameter)
    assert torch.equal(half.head.points, model.head.points)
    batch = encoded(model)
    with torch.inference_mode():
        out = half(**batch)
        torch.testing.assert_close(out.logits, model(**batch).logits, rtol=0, atol=0.3)
    assert out.logits.dtype == torch.float32
