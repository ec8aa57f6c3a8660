"""HierarchicalDecoder: heads, saving and loading, and refusing what cannot speak in levels."""

import json

import pytest
import torch
import transformers
from hdlm_models import ARCHITECTURES, TEXTS, made, save_causal, tokenizer, tree
from tiny_models import save_backbone
from torch.nn import functional as F

from hyperlm.errors import ModelError, OptionError
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.hdlm import SequenceCollator

KINDS = [
    {},
    {"heads": "lora", "head_rank": 3},
    {"heads": "free", "weights": "learned"},
    {"lora": {"rank": 2}, "weights": [1, 2, 3], "level_names": ["a", "b", "c"]},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save_causal(name, tmp_path_factory.mktemp(name)) for name in ARCHITECTURES}


def inputs(model):
    ends = [[model.taxonomy.index(("sport",))], [model.taxonomy.index(("art", "art", "oil"))]]
    return SequenceCollator(0)(model.format.examples(TEXTS[:2], ends))


def loaded(folder):
    model, info = HierarchicalDecoder.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    model.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, config=model.config)
    return model.eval()


@pytest.mark.parametrize("options", KINDS, ids=lambda o: "-".join(map(str, o)) or "tied")
@pytest.mark.parametrize("architecture", ["gpt2", "qwen2"])
def test_new_tokens_are_scored_and_saved(architecture, options, folders, tmp_path):
    model = made(folders[architecture], **options)
    with torch.no_grad():
        before = model(inputs(model)["input_ids"]).logits
    size = before.shape[-1]
    model.tokenizer.add_tokens(["<new>", "<newer>"])
    assert model.resize_token_embeddings(size + 2).num_embeddings == size + 2
    assert model.format.tokenizer is model.tokenizer
    after = model(inputs(model)["input_ids"]).logits
    assert after.shape[-1] == size + 2
    torch.testing.assert_close(after[..., :size], before)
    # A new token is as likely as the mean of the others, before it is learnt.
    assert (after[..., size:] < after.amax(-1, keepdim=True)).all()
    model(**inputs(model)).loss.backward()
    model.save_pretrained(tmp_path)
    again = loaded(tmp_path)
    assert torch.equal(again(inputs(model)["input_ids"]).logits, after)
    held = list(model.parameters())
    model.resize_token_embeddings(size + 2)  # nothing to do: an optimiser keeps what it holds
    assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
    model.resize_token_embeddings(size - 3)
    assert model(inputs(model)["input_ids"][:, :1] * 0).logits.shape[-1] == size - 3


def test_auto_classes_know_a_saved_decoder(folders, tmp_path):
    model = made(folders["gpt2"])
    model.save_pretrained(tmp_path)
    assert type(transformers.AutoModel.from_pretrained(tmp_path)) is HierarchicalDecoder
    assert transformers.AutoConfig.from_pretrained(tmp_path).model_type == "hyperlm-decoder"


@pytest.mark.parametrize("options", KINDS, ids=lambda o: "-".join(map(str, o)) or "tied")
@pytest.mark.parametrize("architecture", ["gpt2", "qwen2", "mamba"])
def test_a_round_trip_gives_identical_answers(architecture, options, folders, tmp_path):
    model = made(folders[architecture], **options)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # away from the start, which loading could otherwise repeat by chance
        optimizer.zero_grad()
        model(**inputs(model)).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path)
    again = loaded(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            again(**inputs(model)).loss, model(**inputs(model)).loss, rtol=1e-6, atol=0
        )
    said, expected = again.answer(TEXTS, width=2), model.answer(TEXTS, width=2)
    assert [[a.tokens for a in best] for best in said.best] == [
        [a.tokens for a in best] for best in expected.best
    ]
    assert again.layers == model.layers
    assert again.config.level_names == options.get("level_names")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in again.named_parameters() if p.requires_grad} == trained
    saved = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= saved
    assert not {name for name in saved if name.endswith((".bin", ".pt", ".pkl", ".pth"))}


def test_heads_start_as_what_the_model_itself_says(folders):
    """At the last layer, every level's scores are those of the library's own language model."""
    for architecture in ARCHITECTURES:
        plain = transformers.AutoModelForCausalLM.from_pretrained(folders[architecture]).eval()
        for kind in ("tied", "lora", "free") if architecture == "llama" else ("tied",):
            model = made(folders[architecture], layers="4", heads=kind)
            ids = torch.tensor([[4, 9, 11, 30, 8]])
            mask = torch.ones_like(ids)
            with torch.no_grad():
                expected = plain(input_ids=ids, attention_mask=mask).logits
                for logits in model(ids, mask).logits:
                    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_what_trains_beside_each_kind_of_head(folders):
    def count(**options):
        model = made(folders["llama"], **options)
        heads = sum(p.numel() for p in model.head.parameters())
        return heads, {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}

    width, vocabulary = 32, len(tokenizer())
    assert count()[0] == 3 * width
    assert count(heads="lora", head_rank=5)[0] == 3 * (width + 5 * (width + vocabulary))
    assert count(heads="free")[0] == 3 * (width + width * vocabulary)
    with_lora = made(folders["qwen2"], lora={"rank": 2})
    names = {n for n, p in with_lora.named_parameters() if p.requires_grad}
    assert all("lora_" in n or n.startswith("head.") for n in names)
    assert any(n.startswith("head.") for n in names)


def test_merging_adapters_changes_no_answer(folders, tmp_path):
    model = made(folders["llama"], lora={"rank": 2})
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    before = model.answer(TEXTS, width=3).best
    model.merge_lora().save_pretrained(tmp_path)
    assert not any("lora_" in name for name, _ in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    after = loaded(tmp_path).answer(TEXTS, width=3).best
    for old, new in zip(before, after, strict=True):
        assert [a.nodes for a in old] == [a.nodes for a in new]
        assert [a.probability for a in old] == pytest.approx([a.probability for a in new], rel=1e-3)
    with pytest.raises(ModelError, match="no LoRA adapters to merge"):
        model.merge_lora()


def test_the_final_norm_is_copied_for_each_level(folders):
    model = made(folders["gpt2"])
    norms = [head.norm for head in model.head]
    for norm in norms:
        assert torch.equal(norm.weight, model.stack.norm.weight)
        assert norm.weight is not model.stack.norm.weight
    state = torch.randn(32)
    with torch.no_grad():
        norms[0].weight.add_(1)
        moved = model.level_logits(1, state)
        expected = F.linear(norms[0](state), model.get_input_embeddings().weight)
        assert torch.equal(moved, expected)
        assert not torch.allclose(moved, model.level_logits(2, state))


def test_some_tokens_are_scored_as_among_all(folders):
    tokens = torch.tensor([7, 3, 250])
    for kind in ("tied", "lora", "free"):
        model = made(folders["qwen2"], heads=kind)
        if kind == "lora":
            torch.nn.init.normal_(model.head[0].up)
        with torch.no_grad():
            state = torch.randn(5, 32)
            every = model.level_logits(1, state)
            torch.testing.assert_close(model.level_logits(1, state, tokens), every[:, tokens])


def test_the_length_of_a_text_is_no_more_than_usual_and_may_be_more_than_the_context(folders):
    limit = made(folders["qwen2"]).backbone.config.max_position_embeddings
    assert made(folders["qwen2"], max_length=None).config.max_length == min(256, limit)
    # A text is cut to what its answer leaves of the context, and a warning counts those.
    assert made(folders["qwen2"], max_length=10 * limit).config.max_length == 10 * limit


# --- refusing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "deberta-v2"])
def test_an_encoder_cannot_speak(architecture, tmp_path):
    save_backbone(architecture, tmp_path)
    with pytest.raises(ModelError, match="reads in both directions and cannot speak"):
        HierarchicalDecoder.from_backbone(str(tmp_path), tree())


def test_a_model_saved_without_its_head_is_refused(tmp_path):
    save_backbone("qwen3", tmp_path)
    with pytest.raises(ModelError, match="weights are missing, lm_head"):
        HierarchicalDecoder.from_backbone(str(tmp_path), tree())


def test_a_head_that_does_more_than_norm_and_matrix_is_refused(tmp_path):
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer()), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, head_dim=16, final_logit_softcapping=0.1,
        initializer_range=0.25,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="Gemma2Model does more between its last layer"):
        HierarchicalDecoder.from_backbone(str(tmp_path), tree())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("3,2,4", "must not decrease"),
        ("1,2,5", "layer 5 does not exist, the backbone has layers 1 to 4"),
        ("0", "layer 0 does not exist"),
        ("1,2,3,4", "4 layers, but the taxonomy has 3 levels"),
        ("one", "was not understood"),
    ],
)
def test_layers_that_cannot_be(layers, message, folders):
    with pytest.raises(OptionError, match=message):
        made(folders["gpt2"], layers=layers)


def test_layers_left_to_auto_are_the_upper_third(folders):
    assert made(folders["gpt2"], layers="auto").layers == (3, 4, 4)
    assert made(folders["gpt2"], layers="2").layers == (2, 2, 2)
    assert made(folders["gpt2"], layers="-3,-1").layers == (2, 2, 4)


def test_unknown_heads_and_ranks(folders):
    with pytest.raises(OptionError, match="head kind 'odd' is unknown; choose tied, lora, free"):
        made(folders["gpt2"], heads="odd")
    with pytest.raises(OptionError, match="rank 0 of a head"):
        made(folders["gpt2"], heads="lora", head_rank=0)


def test_a_backbone_that_is_not_there(tmp_path):
    with pytest.raises(OptionError, match="cannot be loaded as a causal decoder|no config.json"):
        HierarchicalDecoder.from_backbone(str(tmp_path / "nothing"), tree())


def test_everything_a_model_is_stands_in_its_configuration(folders, tmp_path):
    model = made(folders["qwen3"], text_levels=1, layers="1,2,3,4", weights="learned")
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert stored["model_type"] == "hyperlm-decoder"
    assert stored["layers"] == [1, 2, 3, 4]
    assert stored["text_levels"] == 1
    again = loaded(tmp_path)
    assert again.taxonomy == model.taxonomy
    assert again.num_levels == 4
    assert again.log_variance is not None


def test_the_head_of_a_model_without_tied_matrix_is_stored_once(folders, tmp_path):
    from safetensors import safe_open

    size = len(tokenizer())
    for architecture, own in (("qwen2", True), ("llama", False)):
        made(folders[architecture]).save_pretrained(tmp_path / architecture)
        with safe_open(tmp_path / architecture / "model.safetensors", "pt") as file:
            big = [k for k in file.keys() if size in file.get_slice(k).get_shape()]  # noqa: SIM118
        assert len(big) == 1 + own
