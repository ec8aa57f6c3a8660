"""Adapters: which maps get one, and that merging them changes nothing.

That they train, save and load on every architecture is tested in test_backbones.
"""

import re

import pytest
import torch
from tiny_models import ARCHITECTURES, LAYERS, _config
from torch import nn

from hyperlm.errors import OptionError
from hyperlm.lm import HierarchicalLM
from hyperlm.lm.backbone import auto_class
from hyperlm.lm.lora import inject_lora, lora_targets, merge_lora
from hyperlm.taxonomy import Taxonomy

# Linear maps of one block, in the architecture's own words.
MAPS = {
    "bert": {"query", "key", "value", "dense"},
    "roberta": {"query", "key", "value", "dense"},
    "modernbert": {"Wqkv", "Wo", "Wi"},
    "deberta-v2": {"query_proj", "key_proj", "value_proj", "dense"},
    "t5": {"q", "k", "v", "o", "wi", "wo"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "qwen3": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "mamba": {"in_proj"},
}


def backbone(architecture):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return auto_class(architecture).from_config(_config(architecture)).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_map_of_every_block_and_no_other(architecture):
    targets = lora_targets(backbone(architecture))
    assert {name.rsplit(".", 1)[-1] for name in targets} == MAPS[architecture]
    for index in range(LAYERS):
        here = [name for name in targets if re.search(r"\d+", name)[0] == str(index)]
        assert len(here) * LAYERS == len(targets)
    assert not any("embed" in name or "pooler" in name for name in targets)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_adapters_learn_and_they_are_few(architecture):
    model = backbone(architecture)
    total = sum(p.numel() for p in model.parameters())
    inject_lora(model, rank=2)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert sum(trained.values()) < 0.5 * total


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_merging_changes_no_answer_and_leaves_the_original_shape(architecture):
    model = backbone(architecture)
    names = {name: p.shape for name, p in model.named_parameters()}
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        plain = model(input_ids=ids).last_hidden_state
        inject_lora(model, rank=2, alpha=8, dropout=0.5)
        model.eval()
        untrained = model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(untrained, plain)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        adapted = model(input_ids=ids).last_hidden_state
        merge_lora(model)
        merged = model(input_ids=ids).last_hidden_state
    assert (adapted - plain).abs().max() > 1e-3
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)
    assert {name: p.shape for name, p in model.named_parameters()} == names


def test_the_scale_is_alpha_over_rank_and_two_by_default():
    for options, scale in (({"rank": 4}, 2.0), ({"rank": 4, "alpha": 4}, 1.0)):
        model = backbone("bert")
        inject_lora(model, **options)
        layer = model.get_submodule("encoder.layer.0.attention.self.query")
        assert layer.scaling["default"] == scale
        assert layer.lora_A["default"].weight.shape == (4, 32)


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(rank):
    with pytest.raises(OptionError, match=f"LoRA of rank {rank}: the rank must be at least 1"):
        inject_lora(backbone("bert"), rank=rank)


@pytest.mark.parametrize(
    ("lora", "told"),
    [({}, "the rank is missing"), ({"r": 4}, "lora: r is unknown; it takes rank, alpha, dropout"),
     ({"rank": 4, "dropout": 1.5}, "dropout 1.5 is no probability below 1"),
     ({"rank": 4, "adapter": "dora"}, "adapter 'dora' is unknown"), ({"rank": 0}, "rank 0")],
)  # fmt: skip
def test_options_that_it_does_not_know_are_refused(tiny_backbone, lora, told):
    taxonomy = Taxonomy.from_paths([("a",), ("b",)])
    with pytest.raises(OptionError, match=told):
        HierarchicalLM.from_backbone(str(tiny_backbone), taxonomy, lora=lora)


def test_a_model_without_linear_maps_in_blocks_is_refused():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Linear(2, 2)

    with pytest.raises(OptionError, match="Flat has no linear layers inside numbered blocks"):
        lora_targets(Flat())


@pytest.mark.parametrize("adapter", ["lora", "hyplora"])
def test_what_is_loaded_trains_what_was_trained(tiny_backbone, tmp_path, adapter):
    taxonomy = Taxonomy.from_paths([("a", "b"), ("a", "c")])
    model = HierarchicalLM.from_backbone(
        str(tiny_backbone), taxonomy, head={"dim": 4}, lora={"rank": 2, "adapter": adapter}
    )
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert len(trained) < len(list(model.parameters()))
    model.save_pretrained(tmp_path)
    loaded = HierarchicalLM.from_pretrained(tmp_path)
    assert {name for name, value in loaded.named_parameters() if value.requires_grad} == trained
