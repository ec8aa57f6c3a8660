"""Points of a construction moved towards the distances of the whole taxonomy.

In: a taxonomy (``len``, ``distance``) and its nodes' tangent vectors at the origin, as
:func:`hyperlm.manifolds.construct.sarkar` places them. Out: such vectors again. A construction
follows one parent per node; in a DAG the shortest ways over the other parents are what it gets
wrong. A short descent on sampled pairs makes up for part of it.

Every point may move only a fraction of an edge in all: the construction's neighbourhoods then stay
as they are, while a longer optimisation of distances trades them away. Measurements of both are in
``docs/geometry.md``.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds import polar
from hyperlm.manifolds.base import ManifoldParameter, RiemannianAdam
from hyperlm.manifolds.fidelity import best_scale, sample_pairs
from hyperlm.manifolds.tangent import TangentBall

__all__ = ["refine"]

_MAX_RADIUS = 36.0  # scaled; float64 keeps nothing apart beyond
_PAIRS = 20_000  # at most per step, and four per node
_SOFT = 0.1  # relative errors below this count quadratically: no rattling near the optimum


def refine(
    taxonomy: Any,
    points: Tensor,
    *,
    c: float = 1.0,
    reach: float = 0.3,
    steps: int = 200,
    seed: int = 0,
) -> Tensor:
    """Lessen ``|dist / (scale * distance in the taxonomy) - 1|`` over random pairs.

    Riemannian Adam in normal coordinates, its learning rate falling linearly to zero. ``scale`` is
    the best one for the points given, and stays.

    Args:
        taxonomy: Tree or DAG; distances go over whichever common ancestor is nearest.
        points: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        c: Positive; curvature is ``-c``.
        reach: About how far a point may move in all, in edges.
        steps: Of the optimiser.
        seed: Of the pairs.
    Returns:
        ``(N, d)`` float64; ``points`` stay as they are.
    Raises:
        OptionError: ``points`` do not fit, ``reach`` or ``steps`` is not positive.
    """
    if points.dim() != 2 or len(points) != len(taxonomy):
        raise OptionError(
            f"points are {tuple(points.shape)}, the taxonomy has {len(taxonomy)} nodes: "
            "one row per node is needed, in the taxonomy's numbering."
        )
    if not (reach > 0 and steps > 0):
        raise OptionError(f"reach = {reach} and steps = {steps} must both be positive.")
    start = points.detach().to(torch.float64, copy=True)
    if len(taxonomy) < 2:
        return start
    generator = np.random.default_rng(seed)
    pairs = min(4 * len(taxonomy), _PAIRS)
    first, second, hops = sample_pairs(taxonomy, _PAIRS, generator)
    scale = best_scale(polar.dist(start[first], start[second], c).cpu() / hops)
    space = TangentBall(c, max_radius=_MAX_RADIUS / c**0.5)
    moving = ManifoldParameter(start, manifold=space)
    optimiser = RiemannianAdam([moving], lr=1.0, betas=(0.9, 0.99))
    for step in range(steps):
        # Steps have about the length of the learning rate, and half of them count on average.
        rate = 2 * reach * float(scale) / steps * (1 - step / steps)
        optimiser.param_groups[0]["lr"] = rate
        first, second, hops = sample_pairs(taxonomy, pairs, generator)
        with torch.enable_grad():
            dist = polar.dist(moving[first], moving[second], c)
            error = dist / (scale * hops).to(dist.device) - 1
            loss = (error.square() + _SOFT**2).sqrt().sum()
            (moving.grad,) = torch.autograd.grad(loss, moving)
        optimiser.step()
    return moving.detach()
