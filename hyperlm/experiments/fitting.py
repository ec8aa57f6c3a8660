"""Training heads on frozen features: many together, or one alone, with the same result.

Enters: heads, pooled features ``(n, taps, D)`` and where the gold paths end. Leaves: the heads,
trained. Order of texts and dropout follow from a head's seed, learning rates are its own, so that
what a run gives does not depend on the company it trained in.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.stacked import StackedHeads
from hyperlm.experiments.stacked_steps import StackedOptimizer
from hyperlm.heads import HierarchicalHead, HyperbolicHead
from hyperlm.heads.discriminant import whitening
from hyperlm.optim import SplitOptimizer, build_optimizer, clip_gradients

__all__ = ["fit_alone", "fit_together", "schedule", "training_rows"]

_Frames = list[tuple[Tensor, Tensor]]  # per tap, see :func:`whitening`


def training_rows(count: int, run: HeadRun) -> np.ndarray:
    """The texts a run learns from: all, or the share of them that its seed draws."""
    if run.train_share >= 1:
        return np.arange(count)
    size = max(1, round(run.train_share * count))
    return np.sort(np.random.default_rng([run.seed, 1]).permutation(count)[:size])


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rates: up in a line over a share of the steps, then down to zero."""
    rise = warmup * steps
    return step / rise if step < rise else (steps - step) / max(1.0, steps - rise)


def fit_together(
    heads: Sequence[HierarchicalHead],
    features: Tensor,
    targets: Tensor,
    runs: Sequence[HeadRun],
) -> None:
    """Train the heads of runs of one shape in place, all at once.

    Args:
        heads: one per run, as built; see :class:`~.stacked.StackedHeads`.
        features: ``(n, taps, D)``.
        targets: end nodes ``(n,)``, or ``(n, N)`` booleans where texts have several gold paths.
    """
    # What is drawn follows from the seed: runs that differ in learning rates alone see the same
    # texts with the same features dropped, which are made once.
    seeds = list(dict.fromkeys(run.seed for run in runs))
    pairs = sorted(zip(heads, runs, strict=True), key=lambda pair: seeds.index(pair[1].seed))
    heads, runs = [head for head, _ in pairs], [run for _, run in pairs]
    first = runs[0]
    draws = [next(run for run in runs if run.seed == seed) for seed in seeds]
    owner = torch.tensor([seeds.index(run.seed) for run in runs])
    tables = _normalised(features)
    shift = torch.zeros(len(seeds), 1, dtype=torch.int64)  # where a seed's rows begin in the tables
    frames: list[_Frames] = []
    if first.whiten:
        by_seed = _frames(heads[0], features, targets, draws)
        frames = [by_seed[at] for at in owner.tolist()]
        for head, run, frame in zip(heads, runs, frames, strict=True):
            # A random projection is as random in these coordinates; any other must be kept.
            if run.init in ("names", "texts"):
                _enter(head, frame)
        own = by_seed if first.train_share < 1 else by_seed[:1]
        tables = [
            torch.cat([((table - m) @ A).float() for A, m in (frame[tap] for frame in own)])
            for tap, table in enumerate(tables)
        ]
        if len(own) > 1:
            shift = len(features) * torch.arange(len(seeds)).unsqueeze(1)
    stacked = StackedHeads(heads, [sum(run.seed == seed for run in runs) for seed in seeds])
    _tie_temperatures(stacked.flat.get("log_temperature"), first)
    optimizer = StackedOptimizer(
        stacked,
        [run.head_lr for run in runs],
        [run.node_lr for run in runs],
        weight_decay=first.weight_decay,
        decays=[name for name in stacked.flat if name.endswith("weight")],
    )
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    orders = [_batches(len(features), run) for run in draws]
    steps = _steps(len(features), first)
    for step in range(steps):
        rows = torch.stack([next(order) for order in orders])  # (S, B), a row for each seed
        at = (rows + shift).view(-1)
        states = [table[at].view(*rows.shape, -1) for table in tables]
        if first.dropout:
            _drop_out(states, first.dropout, noise)
        stacked.losses(states, targets[rows[owner]]).backward()
        optimizer.step(schedule(step, steps, first.warmup), first.max_grad_norm)
    stacked.write_back()
    for head, frame in zip(heads, frames, strict=False):
        _leave(head, frame)


def fit_alone(head: HierarchicalHead, features: Tensor, targets: Tensor, run: HeadRun) -> None:
    """Train one head in place, by its own forward pass and the optimisers of ``hyperlm train``."""
    optimizer = _optimizer(head, run)
    tied = _tie_temperatures(dict(head.named_parameters()).get("log_temperature"), run)
    rates = [group["lr"] for group in optimizer.param_groups]
    steps = _steps(len(features), run)
    head.train()
    cone_loss = head.cone_loss if isinstance(head, HyperbolicHead) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)  # dropout draws from torch's own generator
        for step, rows in enumerate(_batches(len(features), run)):
            if step == steps:
                break
            if cone_loss is not None and step * run.epochs % steps < run.epochs:
                cone_loss.reseed((run.seed, step))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, steps, run.warmup)
            loss = head(features[rows].unbind(1), targets[rows]).loss
            loss.backward()
            clip_gradients(head.parameters(), run.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
    if tied is not None:
        tied.remove()
    head.eval()


def _tie_temperatures(logarithms: Tensor | None, run: HeadRun) -> RemovableHandle | None:
    """Make the levels' temperatures move as one, or not at all.

    Adam takes no notice of how large a gradient is: copies that get the same make the same steps.
    Each gets the sum over the square root of their number, whose norm is that of a single one.

    Args:
        logarithms: ``(..., L)``; None for a linear head, which has none.
    """
    if logarithms is None or run.temperatures == "level":
        return None
    keep = float(run.temperatures == "shared")
    share = keep / logarithms.shape[-1] ** 0.5
    return logarithms.register_hook(lambda g: share * g.sum(-1, keepdim=True).expand_as(g))


def _optimizer(head: HierarchicalHead, run: HeadRun) -> SplitOptimizer:
    if isinstance(head, HyperbolicHead) and run.point_optimizer == "riemannian":
        return build_optimizer(
            head,
            learning_rate=run.head_lr,
            head_learning_rate=run.head_lr,
            point_learning_rate=run.node_lr,
            weight_decay=run.weight_decay,
        )
    # The nodes, points or the weights of a linear head, get a learning rate of their own.
    groups = [
        {
            "params": [parameter],
            "lr": run.node_lr if name in ("weight", "points") else run.head_lr,
            "weight_decay": run.weight_decay if name.endswith("weight") else 0.0,
        }
        for name, parameter in head.named_parameters()
    ]
    return SplitOptimizer(torch.optim.AdamW(groups, fused=True), None)


def _steps(count: int, run: HeadRun) -> int:
    return run.epochs * -(-len(training_rows(count, run)) // run.batch_size)


def _batches(count: int, run: HeadRun) -> Iterator[Tensor]:
    """Rows of each batch, ``(B,)``, without end; the last of an epoch may be shorter."""
    random, rows = np.random.default_rng([run.seed, 0]), training_rows(count, run)
    while True:
        order = torch.from_numpy(random.permutation(rows))
        yield from order.split(run.batch_size)


def _normalised(features: Tensor) -> list[Tensor]:
    """What a projection makes of the features before its dropout, one ``(n, D)`` per tap."""
    width = features.shape[-1]
    return [F.layer_norm(part.float(), (width,)).contiguous() for part in features.unbind(1)]


def _frames(
    head: HierarchicalHead, features: Tensor, targets: Tensor, runs: Sequence[HeadRun]
) -> list[_Frames]:
    """The whitened coordinates of each run, from the texts it learns from."""
    cuts = head.cuts(features.device)
    found: dict[bytes, _Frames] = {}
    frames = []
    for run in runs:
        rows = training_rows(len(features), run)
        key = rows.tobytes()
        if key not in found:
            found[key] = whitening(features[rows], targets[rows], cuts)
        frames.append(found[key])
    return frames


@torch.no_grad()
def _enter(head: HierarchicalHead, frames: _Frames) -> None:
    """Write the projections for whitened states ``z = (x - m) A``, so that they give the same."""
    for projection, (A, m) in zip(head.each_projection(), frames, strict=True):
        weight, bias = projection.linear.weight, projection.linear.bias
        bias.add_((weight.double() @ m).float())
        weight.copy_(torch.linalg.solve(A, weight.double().T).T)  # A is symmetric


@torch.no_grad()
def _leave(head: HierarchicalHead, frames: _Frames) -> None:
    """The reverse of :func:`_enter`: projections of plain states, with the same answers."""
    for projection, (A, m) in zip(head.each_projection(), frames, strict=True):
        weight, bias = projection.linear.weight, projection.linear.bias
        weight.copy_(weight.double() @ A)
        bias.sub_((weight.double() @ m).float())


def _drop_out(states: list[Tensor], probability: float, noise: Sequence[torch.Generator]) -> None:
    """Zero features in place, as :class:`torch.nn.Dropout` does, by a generator per seed."""
    keep = 1 - probability
    for r, generator in enumerate(noise):
        for state in states:
            mask = torch.empty_like(state[r]).bernoulli_(keep, generator=generator)
            state[r].mul_(mask.div_(keep))
