"""Riemannian Adam that touches only the rows a batch has used: for tables of many points.

In: tables of points ``(N, d)`` on a :class:`hyperlm.manifolds.base.Geometry` with sparse gradients,
as ``nn.Embedding(sparse=True)`` gives them. Out: the rows in the gradient take one step of
Riemannian Adam (Becigneul and Ganea 2019, arXiv 1810.00760), all others keep their place, their
momentum and their count of steps. geoopt's dense optimiser would move every row by its old
momentum, at a cost that grows with N instead of with the batch.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds.base import Geometry, ManifoldParameter

__all__ = ["RowAdam"]


class RowAdam(torch.optim.Optimizer):
    """Riemannian Adam with momentum, second moment and step count kept per row.

    Where every row is in every gradient the steps are those of geoopt's ``RiemannianAdam``. A row's
    first step has length ``lr``, whenever it comes. Its state lives in ``state_dict`` like that of
    any optimiser of torch.

    Args:
        params: ``ManifoldParameter`` tables ``(N, d)`` on a geometry of this package.
        lr: step length, Riemannian.
        betas: decay of the mean gradient and of its mean squared length.
        eps: added to the root of the latter.
    Raises:
        OptionError: an option out of range, or a parameter that is no table on a geometry.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not lr >= 0:
            raise OptionError(f"lr = {lr} must not be negative.")
        if not all(0 <= beta < 1 for beta in betas):
            raise OptionError(f"betas = {betas} must lie in [0, 1).")
        if not eps > 0:
            raise OptionError(f"eps = {eps} must be positive; 1e-8 is usual.")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        for group in self.param_groups:
            for table in group["params"]:
                _check_table(table)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step for every row in a gradient; a dense gradient holds all rows."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._step_rows(table, *_rows(table.grad), group)
        return loss

    def _step_rows(self, table: Any, rows: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state, geometry = self.state[table], table.manifold
        if not state:
            state["step"] = torch.zeros(len(table), 1, dtype=torch.long, device=table.device)
            # In half precision the geometry computes, and momentum is kept, in float32.
            wide = torch.promote_types(table.dtype, torch.float32)
            state["exp_avg"] = torch.zeros_like(table, dtype=wide)
            state["exp_avg_sq"] = torch.zeros_like(table[:, :1], dtype=wide)
        for name in ("exp_avg", "exp_avg_sq"):  # loading a state gives it the type of the table
            state[name] = state[name].to(torch.promote_types(table.dtype, torch.float32))
        beta1, beta2 = group["betas"]
        x = table[rows]
        step = state["step"][rows] + 1
        grad = geometry.egrad2rgrad(x, grad)
        mean = state["exp_avg"][rows].lerp_(grad, 1 - beta1)
        square = geometry.inner(x, grad, keepdim=True)
        square = state["exp_avg_sq"][rows].lerp_(square, 1 - beta2)
        count = step.to(square.dtype)
        bottom = (square / (1 - beta2**count)).sqrt_().add_(group["eps"])
        x, mean = geometry.glide(x, mean, -group["lr"] / ((1 - beta1**count) * bottom))
        table[rows] = x.to(table.dtype)
        state["step"][rows] = step
        state["exp_avg"][rows] = mean
        state["exp_avg_sq"][rows] = square


def _rows(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers, each once, and their gradients."""
    if not grad.is_sparse:
        return torch.arange(len(grad), device=grad.device), grad
    grad = grad.coalesce()
    return grad.indices()[0], grad.values()


def _check_table(table: Any) -> None:
    if not isinstance(table, ManifoldParameter) or not isinstance(table.manifold, Geometry):
        raise OptionError(
            f"{type(table).__name__} of shape {tuple(table.shape)} has no geometry; wrap the "
            "points as ManifoldParameter(points, manifold=TangentBall(c))."
        )
    if table.dim() != 2:
        raise OptionError(f"RowAdam moves tables (N, d), got points of shape {tuple(table.shape)}.")
