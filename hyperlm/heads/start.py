"""Where node points start: near the origin, arranged like the tree.

Leaves: ``(N, d)`` float32 tangent vectors at the origin in Riemannian length.
"""

from typing import Literal

import torch
from torch import Tensor

from hyperlm.manifolds.construct import sarkar
from hyperlm.taxonomy import Taxonomy

__all__ = ["start_points"]


def start_points(
    taxonomy: Taxonomy,
    dim: int,
    *,
    how: Literal["tree", "random"],
    step: float,
    seed: int,
    c: float = 1.0,
) -> Tensor:
    """Starting points of the nodes.

    Args:
        how: ``tree``, the training-free construction with edges of length ``step``; or ``random``,
            directions at random, all at the mean radius that the tree start would have.
        step: distance from parent to child. Heads that start far out do not train: keep the deepest
            node within a radius of about 1.
        c: of the space, of curvature ``-c``.
    """
    if how == "tree":
        return sarkar(taxonomy, dim, step, c=c, seed=seed).float()
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(len(taxonomy), dim, generator=generator, device="cpu")
    radius = step * float(taxonomy.depth.mean())
    return directions / directions.norm(dim=1, keepdim=True) * radius
