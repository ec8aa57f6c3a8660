"""The attention that trains fastest on a processor: when it is taken, and that nothing changes."""

import pytest
import torch
from transformers import BertConfig, BertModel

from hyperlm.training_setup import training_attention

CPU, BF16 = torch.device("cpu"), torch.bfloat16


def backbone(dropout: float = 0.1, attention: str = "sdpa") -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, attention_probs_dropout_prob=dropout, hidden_dropout_prob=0.0,
        attn_implementation=attention,
    )  # fmt: skip
    return BertModel(config).train()


def gradients(model: BertModel) -> dict[str, torch.Tensor]:
    ids = torch.arange(24).reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    torch.manual_seed(1)
    model(input_ids=ids, attention_mask=mask).last_hidden_state[
        mask.bool()
    ].square().sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_bf16_on_a_processor_trains_with_plain_products_and_leaves_nothing_behind() -> None:
    model = backbone()
    with training_attention(model, CPU, BF16):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(KeyboardInterrupt), training_attention(model, CPU, BF16):
        raise KeyboardInterrupt
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("model", "device", "precision"),
    [
        (backbone(dropout=0.0), CPU, BF16),  # fused, and faster than anything
        (backbone(), CPU, torch.float32),
        (backbone(), torch.device("cuda"), BF16),
    ],
)
def test_elsewhere_the_fused_attention_stays(
    model: BertModel, device: torch.device, precision: torch.dtype
) -> None:
    with training_attention(model, device, precision):
        assert model.config._attn_implementation == "sdpa"


def test_an_attention_that_somebody_chose_stays() -> None:
    model = backbone(attention="flex_attention")
    with training_attention(model, CPU, BF16):
        assert model.config._attn_implementation == "flex_attention"
    assert model.config._attn_implementation == "flex_attention"


def test_gradients_are_the_same_with_the_same_dropout() -> None:
    model = backbone(dropout=0.3)
    expected = gradients(model)
    with training_attention(model, CPU, BF16):
        found = gradients(model)
    assert expected.keys() == found.keys()
    assert any(value.abs().max() > 1e-2 for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    without = gradients(backbone(dropout=0.0))  # that dropout was at work
    assert not torch.allclose(
        without["embeddings.word_embeddings.weight"], found["embeddings.word_embeddings.weight"]
    )
