"""Attention and dropout inside the backbone while it trains, and that nothing of it stays."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from hyperlm import training
from hyperlm.data import load_data
from hyperlm.errors import OptionError
from hyperlm.lm.lora import inject_lora
from hyperlm.options import TrainingOptions
from hyperlm.run_start import build_model
from hyperlm.training_setup import training_attention, training_dropout

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


@pytest.mark.parametrize(
    ("asked", "attention", "dropout"),
    [(None, "eager", 0.1), (0.2, "eager", 0.2), (0.0, "sdpa", 0.0)],
)
def test_training_takes_both(
    asked: float | None,
    attention: str,
    dropout: float,
    run_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def run_trainer(trainer: Any, *_: Any, **__: Any) -> None:
        found = trainer.model.backbone
        drops = {m.p for m in found.modules() if isinstance(m, nn.Dropout)}
        seen.append((found.config._attn_implementation, drops))

    monkeypatch.setattr(training, "run_trainer", run_trainer)
    told = run_settings | {"precision": "bf16", "backbone_dropout": asked}
    options = TrainingOptions(**told)
    bundle = load_data(options.data)
    model = build_model(options, bundle)
    own = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    training.fit(model, bundle, options, tmp_path, progress=False)
    assert seen == [(attention, {dropout})]
    assert model.backbone.config._attn_implementation == "sdpa"
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == own


def test_without_dropout_every_pass_is_the_same_and_afterwards_all_is_as_before() -> None:
    config = {"hidden_dropout_prob": 0.4, "attention_probs_dropout_prob": 0.4}
    model = BertModel(BertConfig(**{**backbone().config.to_dict(), **config})).train()
    ids = torch.arange(24).reshape(2, 12)

    def states() -> torch.Tensor:
        return model(input_ids=ids).last_hidden_state

    assert not torch.equal(states(), states())
    with training_dropout(model, 0.0):
        assert torch.equal(states(), states())
    assert not torch.equal(states(), states())
    with pytest.raises(KeyboardInterrupt), training_dropout(model, 0.0):
        raise KeyboardInterrupt
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.4}
    with training_dropout(model, None):
        assert not torch.equal(states(), states())


def test_dropout_that_is_no_module_is_set_and_that_of_adapters_stays() -> None:
    settings = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48}
    config = LlamaConfig(
        **settings, num_hidden_layers=1, num_attention_heads=2, attention_dropout=0.3
    )
    model = LlamaModel(config)
    inject_lora(model, rank=2, dropout=0.25)
    attention = next(m for m in model.modules() if hasattr(m, "attention_dropout"))
    adapters = [m for n, m in model.named_modules() if "lora_dropout" in n and hasattr(m, "p")]
    assert adapters
    with training_dropout(model, 0.0):
        assert attention.attention_dropout == 0.0
        assert {m.p for m in adapters} == {0.25}
    assert attention.attention_dropout == 0.3
    attention.attention_dropout = 0  # as some configurations write it
    with training_dropout(model, 0.2):
        assert attention.attention_dropout == 0.2
    assert attention.attention_dropout == 0


def test_what_can_be_asked_for_the_backbone() -> None:
    assert "backbone-dropout" not in TrainingOptions().command("x")
    assert "--backbone-dropout 0.0" in TrainingOptions(backbone_dropout=0.0).command("x")
    for wrong in 1.0, -0.1, float("nan"):
        with pytest.raises(OptionError, match=f"--backbone-dropout {wrong}: must lie in"):
            TrainingOptions(backbone_dropout=wrong)
    with pytest.raises(OptionError, match="--backbone-dropout: with --freeze nothing"):
        TrainingOptions(freeze=True, backbone_dropout=0.0)
    with pytest.raises(OptionError, match="--backbone-dropout means nothing with --answer text"):
        TrainingOptions(answer="text", backbone_dropout=0.0)
