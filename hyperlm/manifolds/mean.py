"""The Frechet mean: the point of least weighted squared distance, with its gradient.

In: tangent vectors at the origin in Riemannian length, as points. Out: such a vector. Found by
descent, then one Newton step with gradients on: the mean solves ``sum w_i log_m(x_i) = 0``, and
the implicit function theorem differentiates exactly that step. Only the points, weights and
curvature of the last step are in the graph, whatever the number of iterations.
"""

import torch
from torch import Tensor

from hyperlm.manifolds._triangle import Step, arrow, radius_and_direction

__all__ = ["polar_mean"]

_NEAR = 0.3  # Newton steps (scaled) shorter than this converge; longer ones might overshoot


def polar_mean(x: Tensor, share: Tensor, *, steps: int, tol: float) -> Tensor:
    """Mean of ``x``, ``(..., n, d)``, with weights ``share``, ``(..., n)``, that sum to 1.

    Args:
        x: Float64, scaled by ``sqrt(c)``.
        steps: Of the descent, at most.
        tol: Stop when no mean moves further.
    Returns:
        ``(..., d)``, scaled as ``x``.
    """
    share = share.unsqueeze(-1)
    with torch.no_grad():
        mean = (share * x).sum(-2)
        for _ in range(steps):
            pull, newton, bend = _descent(mean, x, share)
            # The Hessian is at most `bend`, so this step never overshoots.
            step = torch.where(_length(newton) < _NEAR, newton, pull / bend)
            mean = _exp(mean, step)
            if not bool((_length(step) > tol).any()):
                break
    pull, newton, _ = _descent(mean, x, share)
    return _exp(mean, newton)


def _descent(mean: Tensor, x: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``sum w log_mean(x)``, the Newton step it asks for, and a bound of the Hessian.

    In the carried frame at the mean. In constant curvature the Hessian of ``dist^2/2`` is 1 along
    the geodesic and ``D coth D`` across it.
    """
    ahead, dist, _, _ = arrow(mean.unsqueeze(-2).expand_as(x), x)
    pull = (share * dist * ahead).sum(-2)  # (..., d)
    with torch.no_grad():
        bend = torch.where(dist > 1e-3, dist / torch.tanh(dist), 1 + dist.square() / 3)
        bound = (share * bend).sum(-2)
        hessian = torch.einsum("...ni,...nj->...ij", share * (1 - bend) * ahead, ahead)
        hessian = hessian + torch.diag_embed(bound.expand_as(mean))
        # A row of NaN stays NaN through the pull; a solver may refuse it.
        whole = torch.isfinite(hessian).all(-1, keepdim=True).all(-2, keepdim=True)
        hessian = torch.where(whole, hessian, torch.eye(x.shape[-1], dtype=x.dtype).to(x))
    return pull, torch.linalg.solve(hessian, pull), bound


def _exp(mean: Tensor, step: Tensor) -> Tensor:
    """Exponential map of a step given in the carried frame."""
    move = Step(*radius_and_direction(mean), step)
    return move.radius * move.towards(move.angle)


def _length(step: Tensor) -> Tensor:
    return torch.linalg.vector_norm(step, dim=-1, keepdim=True)
