"""What a GPU asks of training, tested where there is none."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from hyperlm import HyperbolicHead, Taxonomy
from hyperlm.errors import HyperlmWarning
from hyperlm.optim import build_optimizer
from hyperlm.options import TrainingOptions
from hyperlm.training import HierarchicalTrainer
from hyperlm.training_setup import first_device, training_arguments, use_one_gpu

TREE = Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d", "e")])


def test_gradients_of_fp16_are_clipped_without_their_loss_scale():
    torch.manual_seed(0)
    head = HyperbolicHead(64, TREE, 16, dropout=0.0)
    optimizer = build_optimizer(head, learning_rate=1e-3)
    hidden, ends = 30 * torch.randn(8, 64), torch.randint(2, 5, (8,))
    loss = head(hidden, ends).loss
    plain = torch.autograd.grad(loss, head.projections[0].linear.weight, retain_graph=True)[0]

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    scaler.scale(loss).backward()
    accelerator = SimpleNamespace(unscale_gradients=lambda: scaler.unscale_(optimizer))
    trainer = SimpleNamespace(args=SimpleNamespace(max_grad_norm=0.5), accelerator=accelerator)
    norm = HierarchicalTrainer._clip_grad_norm(trainer, head)

    flat = [p.grad for name, p in head.named_parameters() if name != "points"]
    clipped = torch.cat([grad.flatten() for grad in flat]).norm()
    assert norm > 0.5
    torch.testing.assert_close(clipped, torch.tensor(0.5), rtol=1e-4, atol=0)
    torch.testing.assert_close(flat_weight(head), plain * (0.5 / norm), rtol=1e-4, atol=1e-7)


def flat_weight(head):
    return head.projections[0].linear.weight.grad


def test_one_process_trains_on_one_gpu_and_says_how_to_use_all(tmp_path):
    arguments = training_arguments(TrainingOptions(), tmp_path, has_val=True)
    arguments._n_gpu = 4
    with pytest.warns(HyperlmWarning, match="torchrun --nproc-per-node 4"):
        use_one_gpu(arguments)
    assert arguments.n_gpu == 1


@pytest.mark.parametrize(
    ("rank", "seen", "wanted"), [("1", 2, "cuda:1"), ("1", 1, "cuda:0"), ("-1", 2, "cuda:0")]
)
def test_a_process_embeds_on_the_gpu_it_trains_on(monkeypatch, rank, seen, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert str(first_device()) == wanted


@pytest.mark.parametrize("instructions", [True, False])
def test_slow_arithmetic_is_told_before_it_is_waited_for(tmp_path, monkeypatch, instructions):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for precision in ("auto", "fp32", "bf16"):
            training_arguments(TrainingOptions(precision=precision), tmp_path, has_val=True)
    slow = [str(one.message) for one in told if "no instructions for bf16" in str(one.message)]
    assert len(slow) == (0 if instructions else 1)
