"""The attention that trains fastest on a processor: when it is taken, and that nothing changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from hyperlm import training
from hyperlm.data import load_data
from hyperlm.options import TrainingOptions
from hyperlm.run import build_model
from hyperlm.training_setup import training_attention

pytest_plugins = ["run_fixtures"]

CPU, BF16 = torch.device("cpu"), torch.bfloat16


def backbone(dropout: float = 0.1, attention: str = "sdpa") -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, attention_probs_dropout_prob=dropout, hidden_dropout_prob=0.0,
        initializer_range=0.15,
        attn_implementation=attention,
    )  # fmt: skip
    return BertModel(config).train()


def gradients(model: BertModel, *, bf16: bool = False) -> dict[str, torch.Tensor]:
    ids = torch.arange(24).reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    torch.manual_seed(1)
    with torch.autocast("cpu", BF16, enabled=bf16):
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state
    (states.float() * torch.randn(states.shape))[mask.bool()].sum().backward()
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
    ("dropout", "device", "precision"),
    [
        (0.0, CPU, BF16),  # fused, and faster than anything
        (0.1, CPU, torch.float32),
        (0.1, torch.device("cuda"), BF16),
    ],
)
def test_elsewhere_the_fused_attention_stays(
    dropout: float, device: torch.device, precision: torch.dtype
) -> None:
    model = backbone(dropout)
    with training_attention(model, device, precision):
        assert model.config._attn_implementation == "sdpa"


def test_an_attention_that_somebody_chose_stays() -> None:
    model = backbone(attention="flex_attention")
    with training_attention(model, CPU, BF16):
        assert model.config._attn_implementation == "flex_attention"
    assert model.config._attn_implementation == "flex_attention"


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_are_the_same_with_the_same_dropout(bf16: bool) -> None:
    model = backbone(dropout=0.3)
    expected = gradients(model, bf16=bf16)
    with training_attention(model, CPU, BF16):
        found = gradients(model, bf16=bf16)
    assert expected.keys() == found.keys()

    def apart(others: dict[str, torch.Tensor]) -> float:
        """Distance of all gradients over their length."""
        total = sum(float((others[n] - expected[n]).square().sum()) for n in expected)
        return float((total / sum(float(g.square().sum()) for g in expected.values())) ** 0.5)

    assert apart(found) < (2e-2 if bf16 else 1e-4)
    assert apart(gradients(backbone(dropout=0.0), bf16=bf16)) > 0.1  # dropout was at work


def test_training_takes_it(
    run_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run_trainer(trainer: Any, *_: Any, **__: Any) -> None:
        seen.append(trainer.model.backbone.config._attn_implementation)

    monkeypatch.setattr(training, "run_trainer", run_trainer)
    options = TrainingOptions(**{**run_settings, "precision": "bf16"})
    bundle = load_data(options.data)
    model = build_model(options, bundle)
    training.fit(model, bundle, options, tmp_path, progress=False)
    assert seen == ["eager"]
    assert model.backbone.config._attn_implementation == "sdpa"
