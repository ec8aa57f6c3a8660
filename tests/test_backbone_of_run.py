"""A saved model as the backbone of another, and among the models of the Auto classes."""

import shutil
from copy import deepcopy
from csv import DictReader
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from hdlm_models import save_causal
from hdlm_models import tree as words

import hyperlm
from hyperlm import HierarchicalDecoder, HierarchicalLM, Taxonomy
from hyperlm.data import write_rows
from hyperlm.errors import ModelError, OptionError, OutputError
from hyperlm.lm import load_backbone
from hyperlm.run import train

pytest_plugins = ["backbone_fixtures", "run_fixtures"]

BEFORE = Taxonomy.from_paths([("animal", "owl"), ("animal", "carp"), ("plant", "mint")])
AFTER = Taxonomy.from_paths([("food", "herb", "mint"), ("food", "fish", "carp")])
TEXTS = ["owl0 word3 animal1", "carp2"]


def trained(name: str, folder, **settings) -> HierarchicalLM:
    """A saved model none of whose weights are those of its backbone."""
    model = HierarchicalLM.from_backbone(name, BEFORE, head={"dim": 4}, **settings).eval()
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def states(model) -> torch.Tensor:
    batch = model.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model.pooled_states(batch["input_ids"], batch["attention_mask"])


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("lora", [None, {"rank": 2, "dropout": 0.1}])
def test_another_head_reads_what_the_run_taught_its_backbone(
    architecture, lora, backbone_of, tmp_path
):
    torch.manual_seed(0)
    name = backbone_of(architecture)
    before = trained(name, tmp_path, layers="2,3", lora=lora)
    after = HierarchicalLM.from_backbone(str(tmp_path), AFTER, layers="2,2,3").eval()
    torch.testing.assert_close(states(after), states(before), rtol=1e-4, atol=1e-5)
    fresh = HierarchicalLM.from_backbone(name, AFTER, layers="2,2,3").eval()
    assert (states(after) - states(fresh)).abs().max() > 1e-2
    assert all(parameter.requires_grad for parameter in after.parameters())
    assert after.taxonomy.fingerprint == AFTER.fingerprint
    assert after.config.pooling == before.config.pooling


def test_adapters_can_be_put_on_a_run_that_had_some(backbone_of, tmp_path):
    trained(backbone_of("bert"), tmp_path / "a", layers="2,3", lora={"rank": 2, "dropout": 0.0})
    second = HierarchicalLM.from_backbone(
        str(tmp_path / "a"), AFTER, layers="2,2,3", lora={"rank": 3, "dropout": 0.0}
    ).eval()
    second.save_pretrained(tmp_path / "b")
    loaded = HierarchicalLM.from_pretrained(tmp_path / "b").eval()
    assert torch.equal(states(loaded), states(second))


def test_a_run_that_answers_in_words_gives_its_backbone_too(tmp_path):
    folder = str(save_causal("gpt2", tmp_path / "causal"))
    decoder = HierarchicalDecoder.from_backbone(folder, words(), max_length=64)
    decoder.save_pretrained(tmp_path / "run")
    backbone, tokenizer = load_backbone(str(tmp_path / "run"))
    assert type(backbone) is type(decoder.backbone)
    expected = decoder.backbone.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())
    assert len(tokenizer) == len(decoder.tokenizer)


def test_what_cannot_be_built_on_is_refused_with_the_remedy(backbone_of, tmp_path):
    lora = {"rank": 2, "adapter": "hyplora"}
    trained(backbone_of("bert"), tmp_path / "bent", layers="2,3", lora=lora)
    with pytest.raises(OptionError, match="hyperbolic adapters.*Give a run with --adapter lora"):
        load_backbone(str(tmp_path / "bent"))
    trained(backbone_of("llama"), tmp_path / "plain", layers="2,3")
    with pytest.raises(OptionError, match="Give the decoder that the run began from"):
        HierarchicalDecoder.from_backbone(str(tmp_path / "plain"), AFTER)
    (tmp_path / "plain" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_backbone(str(tmp_path / "plain"))


def test_auto_classes_load_a_saved_model(backbone_of, tmp_path):
    model = trained(backbone_of("bert"), tmp_path, layers="2,3")
    loaded = transformers.AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, HierarchicalLM)
    assert torch.equal(states(loaded), states(model))
    assert transformers.AutoConfig.from_pretrained(tmp_path).tree().fingerprint == (
        BEFORE.fingerprint
    )
    text = TEXTS[0]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer(text).input_ids == model.tokenizer(text).input_ids
    assert hyperlm.HierarchicalLM is HierarchicalLM


def test_the_run_itself_stays_as_it_is(backbone_of, tmp_path):
    trained(backbone_of("bert"), tmp_path, layers="2,3", lora={"rank": 2, "dropout": 0.0})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    HierarchicalLM.from_backbone(str(tmp_path), deepcopy(AFTER), layers="2,2,3")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_labels_that_changed_are_learnt_on_a_run(run_options, finished_run, demo_like, tmp_path):
    """Levels turned into one, under other names; the folder it came from may move away later."""
    for part in ("train", "val", "test"):
        with (demo_like / f"{part}.csv").open(encoding="utf-8") as file:
            rows = [{"text": row["text"], "kind": f"of {row['l2']}"} for row in DictReader(file)]
        (tmp_path / "data").mkdir(exist_ok=True)
        write_rows(tmp_path / "data" / f"{part}.csv", rows)
    copied = Path(shutil.copytree(finished_run, tmp_path / "before"))
    options = replace(run_options, data=str(tmp_path / "data"), backbone=str(copied), epochs=1)
    with pytest.raises(OutputError, match="before"):
        train(options, copied, overwrite=True, progress=False)
    metrics = train(options, tmp_path / "after", progress=False)
    shutil.rmtree(copied)
    model = hyperlm.load(tmp_path / "after")
    assert model.taxonomy.num_levels == 1
    assert model.taxonomy.fingerprint != hyperlm.load(finished_run).taxonomy.fingerprint
    assert metrics["test"]["path_accuracy"] > 2 / len(model.taxonomy)  # twice what guessing gives
