"""Hyperbolic adapters: the update against the hyperboloid's own maps, and the life of a model.

Nothing at the start, only adapters learn, saved and loaded they answer the same, and merging is
refused.
"""

import json
import math

import pytest
import torch
import transformers
from hdlm_models import save_causal
from hdlm_models import tree as words
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_backbones import encoded, tree
from tiny_models import _config, save_backbone
from torch import nn
from torch.nn.functional import linear

import hyperlm
from hyperlm import HierarchicalLM
from hyperlm.errors import CurvatureWarning, ModelError, OptionError
from hyperlm.heads.hyperbolic import CURVATURE_BOUNDS
from hyperlm.lm.decoder import HierarchicalDecoder
from hyperlm.lm.hyplora import (
    MAX_RADIUS,
    HypLoraLinear,
    adapter_curvatures,
    curvature_log,
    update,
)
from hyperlm.lm.lora import inject_lora, lora_targets, merge_lora
from hyperlm.manifolds import Lorentz
from hyperlm.optim import build_optimizer
from hyperlm.options import TrainingOptions
from hyperlm.run import train

ARCHITECTURES = ("bert", "gpt2", "llama", "mamba")
HYPLORA = {"rank": 2, "dropout": 0.0, "adapter": "hyplora"}
TARGETS = torch.tensor([6, 7, 8])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {a: str(save_backbone(a, tmp_path_factory.mktemp(a))) for a in ARCHITECTURES}


def made(folder, **options):
    torch.manual_seed(0)
    settings = {"head": {"dim": 4, "dropout": 0.0}, "lora": HYPLORA} | options
    return HierarchicalLM.from_backbone(folder, tree(), **settings).eval()


def disturb(model, seed=1):
    """Adapters as after some training: nothing is zero and every curvature is another."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3, generator=generator)
        elif "lora_curvature_logit" in name:
            nn.init.uniform_(parameter, -1, 1, generator=generator)


def maps(width=6, out=5, rank=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    return torch.randn(rank, width, **draw), torch.randn(out, rank, **draw)


# -- the update --------------------------------------------------------------------------------


@given(
    c=st.floats(0.05, 20),
    length=st.floats(0, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_the_update_is_exp_then_the_maps_then_log(c, length, seed):
    """Against the hyperboloid's points with their time, restored after each map."""
    down, up = maps(seed=seed)
    x = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x * length * min(1.0, MAX_RADIUS / (length * c**0.5 * 3 + 1e-9))
    space, unit = Lorentz(c), math.sqrt(6)
    point = space.expmap0(torch.nn.functional.pad(x / unit, (1, 0)))
    for matrix in (down, up):
        moved = linear(point[:, 1:], matrix)
        time = (1 / c + moved.square().sum(1, keepdim=True)).sqrt()
        point = torch.cat([time, moved], dim=1)
    expected = space.logmap0(point)[:, 1:] * unit
    torch.testing.assert_close(update(x, down, up, c), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("c", [0.1, 1.0, 7.0])
def test_gradients_of_the_update(c):
    """Finite differences: a zero input, the origin's neighbourhood, and beyond the last radius."""
    down, up = maps()
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x[0] = 0
    x[1] *= 1e-3
    x[3] *= 3 * MAX_RADIUS / c**0.5
    inputs = (x, down, up, torch.tensor(c, dtype=torch.float64))
    inputs = [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(update, inputs)


def test_a_zero_up_map_gives_zero_and_lets_gradients_through():
    down, up = maps()
    up.zero_().requires_grad_()
    x = torch.ones(2, 6, dtype=torch.float64)
    out = update(x, down, up, 2.0)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert up.grad.abs().min() > 0


def test_without_curvature_it_is_ordinary_lora():
    down, up = maps()
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    flat = linear(linear(x, down), up)
    gaps = [(update(x, down, up, c) - flat).abs().max() for c in (1e-2, 1e-4)]
    assert gaps[0] > 1e-4  # curved it is another map
    assert gaps[1] < 2e-2 * gaps[0]  # and the difference is of order c
    torch.testing.assert_close(update(x, down, up, 1e-12), flat, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e4, 1e15])
def test_tiny_and_enormous_states_have_finite_updates_and_gradients(scale):
    down, up = (m.float() for m in maps())
    x = (scale * torch.ones(1, 6)).requires_grad_()
    c = torch.tensor(CURVATURE_BOUNDS[1], requires_grad=True)
    out = update(x, down, up, c)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert c.grad.isfinite()


def test_autocast_does_not_reach_the_update():
    down, up = (m.float() for m in maps())
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)).bfloat16()
    plain = update(x, down, up, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = update(x, down, up, 2.0)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)


# -- in a model --------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_starts_as_the_backbone_and_adapts_what_lora_adapts(architecture, folders):
    model, plain = made(folders[architecture]), made(folders[architecture], lora=None)
    batch = encoded(model)
    with torch.inference_mode():
        # Where states lie in memory decides about the last bit of a sum.
        torch.testing.assert_close(
            model(**batch).logits, plain(**batch).logits, rtol=1e-6, atol=1e-5
        )
    targets = lora_targets(plain.backbone)
    assert targets == sorted(
        name for name, module in model.backbone.named_modules() if isinstance(module, HypLoraLinear)
    )
    curvatures = list(adapter_curvatures(model))
    assert len(curvatures) == len(targets)
    torch.testing.assert_close(torch.stack(curvatures), torch.ones(len(targets)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapters_train_alone_and_load_to_identical_answers(architecture, folders, tmp_path):
    model = made(folders[architecture])
    batch = encoded(model)
    before = {n: p.detach().clone() for n, p in model.backbone.named_parameters()}
    optimizer = build_optimizer(model, learning_rate=0.02, point_learning_rate=0.02)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(**batch, targets=TARGETS).loss
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    for name, value in model.backbone.named_parameters():
        assert ("lora_" in name) == value.requires_grad == (value.grad is not None), name
        assert ("lora_" in name) != torch.equal(value, before[name]), name

    with torch.inference_mode():
        expected = model(**batch).logits
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    loaded = HierarchicalLM.from_pretrained(tmp_path).eval()
    for value, other in zip(loaded.parameters(), model.parameters(), strict=True):
        assert torch.equal(value, other)
    with torch.inference_mode():
        # Equal weights; where they lie in memory decides about the last bit of a sum.
        torch.testing.assert_close(loaded(**batch).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_merging_is_refused_and_changes_nothing(architecture, folders):
    model = made(folders[architecture])
    disturb(model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for merge in (model.merge_lora, lambda: merge_lora(model.backbone)):
        with pytest.raises(ModelError, match="not linear in the input"):
            merge()
    assert model.config.lora == HYPLORA
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_it_is_not_linear_and_dropout_and_scale_are_those_of_lora():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(_config("llama")).eval()
    inject_lora(model, rank=2, alpha=6, dropout=0.5, adapter="hyplora")
    layer = model.get_submodule("layers.0.mlp.up_proj")
    disturb(model)
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        layer.eval()
        change = layer(x) - layer.base_layer(x)
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        torch.testing.assert_close(
            change, 3.0 * update(x, down, up, layer.c()), rtol=1e-4, atol=1e-5
        )
        twice = layer(2 * x) - layer.base_layer(2 * x)
        assert (twice - 2 * change).abs().max() > 1e-2
        layer.train()
        assert not torch.equal(layer(x), layer(x))


def test_bf16_autocast_is_finite_and_close(folders):
    model = made(folders["llama"])
    disturb(model)
    batch = encoded(model)
    exact = model(**batch, targets=TARGETS).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch, targets=TARGETS).loss
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0.1)
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(grad.isfinite().all() for grad in trained.values())
    logits = [grad for n, grad in trained.items() if "lora_curvature_logit" in n]
    assert logits
    assert all(grad.dtype == torch.float32 and grad != 0 for grad in logits)


def test_curvatures_stay_inside_their_bounds_without_weight_decay_and_are_logged(folders):
    model = made(folders["bert"])
    optimizer = build_optimizer(model, learning_rate=0.1, point_learning_rate=0.1, weight_decay=0.5)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert rate[id(parameter)] == 0.1
            assert decay[id(parameter)] == (0.0 if "curvature" in name else 0.5), name
    figures = curvature_log(model)
    assert figures["adapter_curvature"] == pytest.approx(1.0)
    assert curvature_log(made(folders["bert"], lora={"rank": 2})) == {}
    for end, bound in zip((-1e4, 1e4), CURVATURE_BOUNDS, strict=True):
        layer = next(m for m in model.modules() if isinstance(m, HypLoraLinear))
        nn.init.constant_(layer.lora_curvature_logit["default"], end)
        assert layer.c().item() == pytest.approx(bound)
        with pytest.warns(CurvatureWarning, match="sits on a bound"):
            figures = curvature_log(model)
        assert bound == pytest.approx(
            figures["adapter_curvature_min" if end < 0 else "adapter_curvature_max"]
        )


def test_a_decoder_in_words_takes_them_as_well(tmp_path):
    folder = str(save_causal("gpt2", tmp_path / "causal"))
    model = HierarchicalDecoder.from_backbone(folder, words(), lora=HYPLORA, max_length=64)
    disturb(model)
    assert all("lora_" in n for n, p in model.backbone.named_parameters() if p.requires_grad)
    model.save_pretrained(tmp_path)
    loaded = HierarchicalDecoder.from_pretrained(tmp_path)
    assert loaded.config.lora == HYPLORA
    for (name, value), (other, twin) in zip(
        loaded.named_parameters(), model.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(value, twin)
        assert value.requires_grad == twin.requires_grad, name
    with pytest.raises(ModelError, match="not linear in the input"):
        loaded.merge_lora()


# -- options and runs --------------------------------------------------------------------------


def test_options_that_do_not_fit_are_refused(folders, tmp_path):
    with pytest.raises(OptionError, match="--adapter hyplora .* --lora RANK"):
        TrainingOptions(adapter="hyplora")
    with pytest.raises(
        OptionError, match="--adapter 'odd' is unknown; choose one of lora, hyplora"
    ):
        TrainingOptions(adapter="odd", lora=4)
    with pytest.raises(OptionError, match="^adapter 'odd' is unknown"):
        made(folders["bert"], lora={"rank": 2, "adapter": "odd"})
    options = TrainingOptions(adapter="hyplora", lora=4)
    with pytest.raises(OptionError, match="--merge: .* not linear in the input"):
        train(options, tmp_path / "run", merge=True)
    assert not (tmp_path / "run").exists()
    assert "--lora 4 --adapter hyplora" in options.command("out")
    assert options.lora_options() == {"rank": 4, "adapter": "hyplora"}
    # Plain adapters are configured as ever.
    assert TrainingOptions(lora=4).lora_options() == {"rank": 4}
    assert TrainingOptions().lora_options() is None


def test_a_run_killed_after_an_epoch_resumes_exactly(
    tiny_backbone, demo_like, tmp_path, monkeypatch
):
    from hyperlm.progress import TrainingProgress

    class Killed(BaseException):
        pass

    options = TrainingOptions(
        data=str(demo_like), backbone=str(tiny_backbone), dim=4, epochs=2, lora=2,
        adapter="hyplora", learning_rate=3e-3, precision="fp32", init="tree",
    )  # fmt: skip
    train(options, tmp_path / "whole", progress=False)
    original = TrainingProgress.on_step_end

    def stop(self, args, state, control, **rest):
        original(self, args, state, control, **rest)
        if state.global_step == 10:
            raise Killed

    monkeypatch.setattr(TrainingProgress, "on_step_end", stop)
    with pytest.raises(Killed):
        train(options, tmp_path / "killed", progress=False)
    monkeypatch.setattr(TrainingProgress, "on_step_end", original)
    train(None, tmp_path / "killed", resume=True, progress=False)
    whole, resumed = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed")
    )
    assert whole.keys() == resumed.keys()
    assert any("lora_curvature_logit" in name for name in whole)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert hyperlm.load(tmp_path / "killed").model.config.lora == options.lora_options()
    log = (tmp_path / "whole/train_log.jsonl").read_text().splitlines()
    curvatures = [r["adapter_curvature"] for r in map(json.loads, log) if "adapter_curvature" in r]
    assert curvatures
    assert all(c != 1.0 for c in curvatures)  # learned from the first step on
