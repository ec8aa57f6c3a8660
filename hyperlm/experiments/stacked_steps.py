"""The optimiser of heads that train together: learning rates and clipping of each head's own.

Enters: :class:`~.stacked.StackedHeads` with gradients. Leaves: parameters a step further, as if the
optimisers of ``hyperlm train`` had moved each head alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyperlm.experiments.stacked import StackedHeads
from hyperlm.manifolds import ManifoldParameter

__all__ = ["StackedOptimizer"]


class StackedOptimizer:
    """AdamW and Riemannian Adam, with learning rates of each head's own.

    Args:
        heads: what to train.
        head_lr, node_lr: R rates each; see :class:`~.settings.HeadRun`.
        decays: names of the parameters with weight decay.
    """

    def __init__(
        self,
        heads: StackedHeads,
        head_lr: Sequence[float],
        node_lr: Sequence[float],
        *,
        weight_decay: float,
        decays: Sequence[str],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.heads, self.betas, self.eps, self.steps = heads, betas, eps, 0
        self.weight_decay, self.decays = weight_decay, frozenset(decays)
        self.head_lr = torch.tensor(list(head_lr), dtype=torch.float64)
        self.node_lr = torch.tensor(list(node_lr), dtype=torch.float64)
        self.moments = {
            name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in heads.flat.items()
        }
        if heads.points is not None:
            table = heads.points
            self.moments["points"] = (torch.zeros_like(table), torch.zeros_like(table[:, :1]))

    @torch.no_grad()
    def step(self, factor: float, max_norm: float) -> None:
        """Clip each head's gradients, then one step at ``factor`` times the learning rates.

        As :func:`hyperlm.optim.clip_gradients` clips: ordinary gradients by their joint norm, those
        of points by their Riemannian norm. Gradients are gone afterwards.
        """
        self.steps += 1
        gradients = {name: p.grad for name, p in self.heads.flat.items() if p.grad is not None}
        square = torch.stack([g.flatten(1).square().sum(1) for g in gradients.values()]).sum(0)
        clip = (max_norm / (square.sqrt() + 1e-6)).clamp(max=1.0)
        one, two = (1 - beta**self.steps for beta in self.betas)
        for name, gradient in gradients.items():
            p = self.heads.flat[name]
            gradient.mul_(_column(clip, p))
            rate = _column((self.node_lr if name == "weight" else self.head_lr) * factor, p)
            mean, second = self.moments[name]
            if name in self.decays:
                p.mul_((1 - rate * self.weight_decay).to(p.dtype))
            mean.lerp_(gradient, 1 - self.betas[0])
            second.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
            below = second.sqrt().div_(two**0.5).add_(self.eps)
            p.sub_((mean / below).mul_((rate / one).to(p.dtype)))
            p.grad = None
        if self.heads.points is not None:
            self._step_points(self.heads.points, factor, max_norm)

    def _step_points(self, points: ManifoldParameter, factor: float, max_norm: float) -> None:
        """Riemannian Adam as geoopt has it, with the gradient of the clipping used again."""
        size, manifold = self.heads.size, points.manifold
        mean, second = self.moments["points"]
        gradient = manifold.egrad2rgrad(points, points.grad)
        # Its squared Riemannian length, for one of the two metrics in it undoes the other; to 1e-7
        # exp(radius), which is what rounding the gradient leaves.
        square = (points.grad * gradient).sum(1, keepdim=True).clamp_(min=0)  # (R N, 1)
        length = square.view(size, -1).sum(1).sqrt()
        clip = (max_norm / length.clamp(min=max_norm)).to(points.dtype)
        clip = clip.repeat_interleave(len(points) // size).unsqueeze(1)
        mean.mul_(self.betas[0]).add_(gradient * clip, alpha=1 - self.betas[0])
        second.mul_(self.betas[1]).add_(square * clip.square(), alpha=1 - self.betas[1])
        one, two = (1 - beta**self.steps for beta in self.betas)
        rate = (self.node_lr * factor).float().repeat_interleave(len(points) // size).unsqueeze(1)
        time = -rate / one / ((second / two).sqrt() + self.eps)
        moved, carried = manifold.glide(points, mean, time)
        points.copy_(moved)
        mean.copy_(carried)
        points.grad = None


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.dim() - 1))
