"""Heads that learn from few texts: how they start, what they are trained on, and for how long.

Enters: pooled features ``(n, D)`` of the drawn texts and ``(N, D)`` of the label names. Leaves:
trained heads. A head starts from the names and the texts or at random; several of one shape train
at a time (see :mod:`.stacked`), each on its own draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlm.decoding import Loss
from hyperlm.errors import OptionError
from hyperlm.experiments.fitting import schedule
from hyperlm.experiments.stacked import StackedHeads
from hyperlm.experiments.stacked_steps import StackedOptimizer
from hyperlm.heads import HierarchicalHead, HyperbolicHead, build_head
from hyperlm.heads.contrastive import contrastive_loss
from hyperlm.lm.names import start_from_features
from hyperlm.manifolds import polar
from hyperlm.taxonomy import Taxonomy

__all__ = ["Draw", "HeadSettings", "fit", "started"]


@dataclass(frozen=True)
class Draw:
    """Texts to learn from.

    Attributes:
        features: ``(n, D)``.
        ends: ``(n,)`` end nodes of their gold paths.
    """

    features: Tensor
    ends: Tensor


@dataclass(frozen=True)
class HeadSettings:
    """How a head is made and trained.

    Attributes:
        kind: ``points`` or ``linear``.
        start: from ``names``, a linear head as the flat twin of points; or ``random``.
        loss: what it is trained with; ``decoding`` what its scores are read as.
        steps: batches; from few texts an epoch is a step or two.
        name_weight: how many texts a name counts for at the start.
        names_as_texts: names are trained on as well, each as a text of its node.
        contrast: weight of the hierarchical contrastive loss between projected texts.
    """

    kind: str = "points"
    start: str = "names"
    geometry: str = "poincare"
    dim: int = 256
    loss: Loss = "leaf"
    decoding: Loss = "leaf"
    steps: int = 60
    head_lr: float = 1e-3
    node_lr: float = 5e-3
    batch_size: int = 128
    dropout: float = 0.1
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    name_weight: float = 3.0
    names_as_texts: bool = True
    contrast: float = 0.0

    def shape(self) -> tuple[object, ...]:
        """What heads that train together have in common: all but the learning rates."""
        own = ("head_lr", "node_lr")
        return tuple(v for name, v in asdict(self).items() if name not in own)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "HeadSettings":
        """Those of a trial, which may have more."""
        known = {field.name for field in fields(cls)}
        return cls(**{k: v for k, v in settings.items() if k in known})


def started(
    settings: HeadSettings, taxonomy: Taxonomy, draw: Draw, names: Tensor, *, seed: int
) -> HierarchicalHead:
    """A head before training.

    Args:
        names: ``(N, D)`` features of the label names.
    """
    points = settings.kind == "points"
    space: dict[str, Any] = {"geometry": settings.geometry, "init": "random"} if points else {}
    head = build_head(
        settings.kind,
        hidden_size=draw.features.shape[1],
        taxonomy=taxonomy,
        dim=settings.dim,
        loss=settings.loss,
        dropout=settings.dropout,
        seed=seed,
        **space,
    )
    if settings.start == "names":
        start_from_features(
            head,
            draw.features.unsqueeze(1),
            names.unsqueeze(1),
            ends=draw.ends,
            name_weight=settings.name_weight,
        )
    return head


def fit(
    heads: Sequence[HierarchicalHead],
    draws: Sequence[Draw],
    names: Tensor,
    settings: Sequence[HeadSettings],
    seeds: Sequence[int],
) -> None:
    """Train heads in place, all at once, each on its own texts and by its own numbers.

    Args:
        heads: of one shape, as are ``settings``; the draws are of one size.
        names: ``(N, D)``, for heads that train on names too.
        seeds: of the order of the texts and of dropout.
    Raises:
        OptionError: shapes or sizes that differ.
    """
    first = settings[0]
    if len({s.shape() for s in settings}) > 1 or len({len(draw.ends) for draw in draws}) > 1:
        raise OptionError("heads train together if their settings and the sizes of draws agree.")
    stacked = StackedHeads(heads)
    optimizer = StackedOptimizer(
        stacked,
        [s.head_lr for s in settings],
        [s.node_lr for s in settings],
        weight_decay=first.weight_decay,
        decays=[name for name in stacked.flat if name.endswith("weight")],
    )
    texts = [_with_names(draw, names) if first.names_as_texts else draw for draw in draws]
    normal = [F.layer_norm(t.features, t.features.shape[-1:]) for t in texts]
    cuts, keep = heads[0].cuts(torch.device("cpu")), 1 - first.dropout
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    orders = [
        _Batches(len(t.ends), first.batch_size, seed) for t, seed in zip(texts, seeds, strict=True)
    ]
    for step in range(first.steps):
        rows = [order.next() for order in orders]
        states = torch.stack([part[at] for part, at in zip(normal, rows, strict=True)])
        targets = torch.stack([t.ends[at] for t, at in zip(texts, rows, strict=True)])  # (R, B)
        if first.dropout:
            for r, generator in enumerate(noise):
                mask = torch.empty_like(states[r]).bernoulli_(keep, generator=generator)
                states[r].mul_(mask.div_(keep))
        loss = stacked.losses([states], targets)
        if first.contrast:
            loss = loss + first.contrast * _contrast(stacked, states, cuts.member_at[targets])
        loss.backward()
        optimizer.step(schedule(step, first.steps, first.warmup), first.max_grad_norm)
    stacked.write_back()
    for head in heads:
        head.eval()


class _Batches:
    """Rows of each batch, without end: a new order when one is used up, no text twice in it."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self.count, self.size = count, min(size, count)
        self.random = np.random.default_rng([seed, 0])
        self.left = self.random.permutation(count)

    def next(self) -> Tensor:
        if len(self.left) < self.size:
            self.left = self.random.permutation(self.count)
        rows, self.left = self.left[: self.size], self.left[self.size :]
        return torch.from_numpy(rows)


def _with_names(draw: Draw, names: Tensor) -> Draw:
    """The texts and behind them one text per node: its name, moved to where texts are."""
    moved = names + (draw.features.mean(0) - names.mean(0))
    nodes = torch.arange(len(names))
    return Draw(torch.cat([draw.features, moved]), torch.cat([draw.ends, nodes]))


def _contrast(stacked: StackedHeads, states: Tensor, classes: Tensor) -> Tensor:
    """The contrastive loss of every head's projected texts, summed.

    Args:
        states: ``(S, B, D)``. classes: ``(R, B, L)``.
    """
    first = stacked.first
    tangents = stacked.projected(0, states)
    flat = not isinstance(first, HyperbolicHead) or first.geometry == "euclidean"
    c = 1.0 if flat else float(first.c)  # type: ignore[arg-type]
    dist = [_pairwise(part, part, c, flat) for part in tangents]
    return contrastive_loss(torch.stack(dist), classes).sum()


def _pairwise(u: Tensor, v: Tensor, c: float, flat: bool) -> Tensor:
    if flat:
        return torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist")
    return polar.pairwise_dist(u, v, c)
