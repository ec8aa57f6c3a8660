"""Training: each level's loss is that of its own layer, however the sequences are batched."""

import pytest
import torch
import transformers
from hdlm_models import ARCHITECTURES, CONTEXT, PATHS, TEXTS, made, save_causal
from hdlm_oracle import next_scores

from hyperlm.errors import OptionError
from hyperlm.lm.hdlm import LayerStack, SequenceCollator

EXACT = {"rtol": 1e-3, "atol": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save_causal(name, tmp_path_factory.mktemp(name)) for name in ARCHITECTURES}


@pytest.fixture(params=["gpt2", "qwen3", "mistral", "mamba"])
def model(request, folders):
    return made(folders[request.param])


def examples(model, count=6):
    texts = [TEXTS[i % len(TEXTS)] for i in range(count)]
    ends = [[model.taxonomy.index(PATHS[i % len(PATHS)])] for i in range(count)]
    return model.format.examples(texts, ends)


def batch(model, count=6, **options):
    return SequenceCollator(model.tokenizer.pad_token_id, **options)(examples(model, count))


def gradients(model, inputs):
    model.zero_grad()
    out = model(**inputs)
    out.loss.backward()
    return out, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_each_level_is_scored_at_its_own_layer(model):
    """Token by token, one sequence at a time, by the definition."""
    data = examples(model, 3)
    with torch.no_grad():
        out = model(**SequenceCollator(0)(data))
    totals, counts = [0.0] * 3, [0] * 3
    for example in data:
        for at, (token, level) in enumerate(zip(example.ids, example.levels, strict=True)):
            if level:
                scores = next_scores(model, list(example.ids[:at]), level, model.layers[level - 1])
                totals[level - 1] -= float(scores.log_softmax(0)[token])
                counts[level - 1] += 1
    expected = [total / count for total, count in zip(totals, counts, strict=True)]
    torch.testing.assert_close(out.level_losses, torch.tensor(expected), **EXACT)
    torch.testing.assert_close(out.loss, torch.tensor(sum(expected)), **EXACT)


def test_the_side_and_amount_of_padding_do_not_matter(model):
    inputs = batch(model, 4)
    with torch.no_grad():
        plain = model(**inputs).level_losses
        wide = {
            name: torch.nn.functional.pad(value, (0, 9), value=0) for name, value in inputs.items()
        }
        torch.testing.assert_close(model(**wide).level_losses, plain, **EXACT)


@pytest.mark.parametrize("architecture", ["gpt2", "qwen2", "mistral", "gpt-neox"])
def test_packed_rows_give_the_same_loss_and_gradients(folders, architecture):
    model = made(folders[architecture])
    padded, one = gradients(model, batch(model))
    inputs = batch(model, packed=True, width=CONTEXT)
    assert len(inputs["input_ids"]) < 6
    packed, other = gradients(model, inputs)
    torch.testing.assert_close(packed.level_losses, padded.level_losses, **EXACT)
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-2, atol=1e-4)


def test_a_recurrent_model_refuses_packed_rows(folders):
    model = made(folders["mamba"])
    with pytest.raises(OptionError, match="MambaModel cannot keep the sequences of a packed row"):
        model(**batch(model, packed=True))


def test_attention_that_sees_the_text_before_refuses_packed_rows():
    """OPT takes positions, and masks without them."""
    config = transformers.OPTConfig(
        vocab_size=20, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=CONTEXT, word_embed_proj_dim=32, init_std=0.25,
    )  # fmt: skip
    stack = LayerStack(transformers.AutoModel.from_config(config).train())
    assert stack.takes_positions
    assert not stack.can_pack
    assert stack.backbone.training


def test_checkpointing_changes_no_gradient(model):
    model.train()
    _, one = gradients(model, batch(model))
    model.backbone.activation_checkpointing_enable()
    _, other = gradients(model, batch(model))
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, **EXACT)


def test_blocks_above_the_highest_level_do_not_train(folders):
    model = made(folders["llama"], layers="1,2,2")
    _, grads = gradients(model, batch(model))
    touched = {int(n.split(".")[2]) for n in grads if ".layers." in n}
    assert touched == {0, 1}


def test_weights_by_hand_scale_the_levels(folders):
    equal = made(folders["qwen2"])
    byhand = made(folders["qwen2"], weights=[0.5, 0, 2])
    with torch.no_grad():
        losses = equal(**batch(equal)).level_losses
        out = byhand(**batch(byhand))
    torch.testing.assert_close(out.level_losses, losses)
    torch.testing.assert_close(out.loss, 0.5 * losses[0] + 2 * losses[2])
    assert equal.log_variance is None
    assert byhand.log_variance is None


def test_learned_weights_settle_at_half_over_the_loss(folders):
    """The minimum over s of exp(-s) L + s / 2 is at exp(-s) = 1 / (2 L)."""
    model = made(folders["qwen2"], weights="learned")
    with torch.no_grad():
        losses = model(**batch(model)).level_losses
        model.log_variance.copy_((2 * losses).log())
    _, grads = gradients(model, batch(model))
    torch.testing.assert_close(grads["log_variance"], torch.zeros(3), rtol=0, atol=1e-5)
    # A larger loss would be weighted down further.
    model.log_variance.data.sub_(0.5)
    assert (gradients(model, batch(model))[1]["log_variance"] < 0).all()


@pytest.mark.parametrize("wrong", [[1, 1], [1, -1, 1], [0, 0, 0], [1, 1, float("inf")], "odd"])
def test_weights_that_make_no_sense_are_refused(folders, wrong):
    with pytest.raises(OptionError, match="loss weights"):
        made(folders["gpt2"], weights=wrong)


def test_a_level_without_tokens_costs_nothing(folders):
    model = made(folders["llama"])
    leaf = model.taxonomy.index(("sport",))
    inputs = SequenceCollator(0)(model.format.examples(["a"], [[leaf]]))
    out, grads = gradients(model, inputs)
    assert out.level_losses[1:].tolist() == [0, 0]
    assert out.loss == out.level_losses[0]
    assert all(torch.isfinite(g).all() for g in grads.values())


def test_a_level_without_tokens_does_not_move_its_weight(folders):
    model = made(folders["llama"], weights="learned")
    leaf = model.taxonomy.index(("sport",))
    _, grads = gradients(model, SequenceCollator(0)(model.format.examples(["a"], [[leaf]])))
    assert grads["log_variance"][0] != 0
    assert grads["log_variance"][1:].tolist() == [0, 0]


def test_half_precision_trains(folders):
    model = made(folders["llama"])
    with torch.no_grad():
        full = model(**batch(model)).level_losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, grads = gradients(model, batch(model))
    assert out.level_losses.dtype == torch.float32
    torch.testing.assert_close(out.level_losses, full, rtol=0.05, atol=0.05)
    assert all(torch.isfinite(g).all() for g in grads.values())


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("gpt2", {"heads": "free", "weights": "learned"}),
        ("qwen3", {"lora": {"rank": 8}, "heads": "lora"}),
    ],
)
def test_training_teaches_the_answers(folders, architecture, options):
    torch.manual_seed(0)  # adapters and dropout draw: of six seeds one ends with two wrong
    model = made(folders[architecture], **options)
    texts = [f"{a} {b}" for a in "abcd" for b in "xy"]
    ends = [[model.taxonomy.index(path)] for path in PATHS]
    data = SequenceCollator(0)(model.format.examples(texts, ends))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-2 if "lora" in options else 5e-3, weight_decay=0.0)
    for _ in range(50):
        optimizer.zero_grad()
        model(**data).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    answers = model.eval().answer(texts, width=2)
    right = [
        model.taxonomy.path(best[0].nodes[-1]) == path
        for best, path in zip(answers.best, PATHS, strict=True)
    ]
    assert sum(right) >= len(PATHS) - 1
    # Words without a trie are labels as well by now.
    said = model.answer(texts, constrained=False).best
    named = [model.taxonomy.path(a.nodes[-1]) for (a,) in said if a.nodes[-1] >= 0]
    assert len(set(named) & set(PATHS)) >= len(PATHS) - 2


def test_logits_of_all_levels_without_targets(folders):
    model = made(folders["llama"])
    inputs = batch(model, 2)
    with torch.no_grad():
        out = model(inputs["input_ids"], inputs["attention_mask"])
        assert out.loss is None
        rows, width = inputs["input_ids"].shape
        assert out.logits.shape == (3, rows, width, len(model.tokenizer))
        ids = inputs["input_ids"][0][inputs["attention_mask"][0].bool()].tolist()
        for level, layer in enumerate(model.layers, start=1):
            torch.testing.assert_close(
                out.logits[level - 1, 0, len(ids) - 1],
                next_scores(model, ids, level, layer),
                rtol=1e-3, atol=1e-4,
            )  # fmt: skip
