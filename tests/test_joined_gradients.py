"""Gradients through joined levels: finite differences, checkpointing, dtypes, adapters."""

import pytest
import torch
from joined_models import GOLD, HEADS, awake, encoded, gradients, made, named
from tiny_models import DECODERS

from hyperlm.optim import build_optimizer

pytest_plugins = ["backbone_fixtures"]


@pytest.mark.parametrize("head", HEADS, ids=named)
def test_gradients_are_those_of_finite_differences(head, backbone_of):
    """Along random directions, for the new maps and for the points that speak through them."""
    model = awake(made(backbone_of("llama"), head={"dropout": 0.0, **head}), size=0.5)
    batch = encoded(model)
    found = gradients(model, batch)
    random = torch.Generator().manual_seed(2)
    names = ["head.conditioning.weight", "head.projections.0.linear.weight"]
    for name in names + (["head.log_temperature"] if "geometry" in head else ["head.weight"]):
        parameter = model.get_parameter(name)
        along = torch.randn(parameter.shape, generator=random)
        # Mostly along the gradient, so that the slope stands out of float32's noise.
        along = along / along.norm() + 2 * found[name] / found[name].norm()
        step, losses = 5e-3, []
        start = parameter.detach().clone()
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(start + sign * step * along)
                losses.append(float(model(**batch, targets=GOLD).loss))
        with torch.no_grad():
            parameter.copy_(start)
        slope = (losses[0] - losses[1]) / (2 * step)
        assert float((found[name] * along).sum()) == pytest.approx(slope, rel=2e-2, abs=2e-3), name


def test_lower_levels_teach_the_upper_head_through_the_maps(backbone_of):
    """No teacher forcing: the loss of the finest level alone moves the first level's points."""
    model = awake(made(backbone_of("llama"), head={"loss": "level", "dropout": 0.0}))
    out = model(**encoded(model))
    leaves = model.taxonomy.level_slices[-1]
    out.logits[:, leaves].log_softmax(1)[:, 0].sum().backward()
    top = model.taxonomy.level_slices[0]
    assert model.head.points.grad[top].abs().amax(1).min() > 0
    assert model.head.projections[0].linear.weight.grad.any()


def test_the_prediction_that_conditions_is_without_dropout(backbone_of):
    model = awake(made(backbone_of("llama"), head={"dropout": 0.5}))
    batch = encoded(model)
    with torch.no_grad():
        calm = model.pooled_states(**batch)
        assert torch.equal(model.train().pooled_states(**batch), calm)
    assert all(part.training for part in model.head.modules())


@pytest.mark.parametrize("architecture", DECODERS)
def test_gradient_checkpointing_changes_no_gradient(architecture, backbone_of):
    grads = []
    for checkpointing in (False, True):
        model = awake(made(backbone_of(architecture), lora={"rank": 2, "dropout": 0.0})).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.backbone.activation_checkpointing_enable()
        grads.append(gradients(model))
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_bf16_states_and_float32_maps(backbone_of):
    model = awake(made(backbone_of("llama")), size=0.3)
    batch = encoded(model)
    with torch.inference_mode():
        exact = model(**batch).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(**batch).logits
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(model)["head.conditioning.weight"]
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert found.any()


@pytest.mark.parametrize("adapter", ["lora", "hyplora"])
def test_the_maps_train_beside_adapters_at_the_rate_of_the_head(adapter, backbone_of):
    model = made(backbone_of("llama"), lora={"rank": 2, "adapter": adapter}).train()
    optimizer = build_optimizer(
        model, learning_rate=1e-5, head_learning_rate=7e-3, point_learning_rate=1e-2
    )
    maps = model.conditioning.weight
    (group,) = [g for g in optimizer.param_groups if any(p is maps for p in g["params"])]
    assert group["lr"] == 7e-3
    model(**encoded(model), targets=GOLD).loss.backward()
    optimizer.step()
    assert float(maps.detach().abs().max()) == pytest.approx(7e-3, rel=0.1)  # Adam's first step
