"""A start for entailment cones: every node's cone holds those of its children.

In: a taxonomy. Out: tangent vectors at the origin, ``c = 1``. A cone with its apex at radius r and
half-aperture psi meets the boundary in a cap of half-angle ``2 atan(exp(-r) tan(psi/2))``; with
``sin(psi) = 2K/sinh(r)`` the radius follows from the cap. A child's cap shrinks with its share of
the parent's subtree, and its middle lies where the whole cap fits into the parent's.
"""

import numpy as np
import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds.cones import cone_min_radius
from hyperlm.manifolds.spread import spread_directions
from hyperlm.taxonomy import Taxonomy

__all__ = ["nested_cones"]

CONE_CONSTANT = 0.1
LEAST_STEP = 0.02  # outward from parent to child, so that a chain keeps its order


def nested_cones(taxonomy: Taxonomy, dim: int, *, tightness: float = 0.4, seed: int = 0) -> Tensor:
    """Points whose cones are nested like the taxonomy; siblings' cones may overlap.

    A DAG is laid out along ``taxonomy.parent``.

    Args:
        dim: Dimension, at least 2.
        tightness: Factor on every cap, at most 1: smaller ones overlap less and lie further out.
        seed: Of the places of children within their parent's cone.
    Returns:
        ``(N, dim)`` float64 tangent vectors at the origin, for ``c = 1``.
    """
    if dim < 2:
        raise OptionError(f"dim = {dim}: a tree needs at least 2 dimensions.")
    random = np.random.default_rng(seed)
    parent, count = taxonomy.parent, len(taxonomy)
    size = np.ones(count + 1)  # the last entry is the root's
    for level in taxonomy.level_slices[::-1]:
        np.add.at(size, parent[level], size[:-1][level])
    radii = np.linspace(cone_min_radius(1.0, CONE_CONSTANT) + 1e-6, 20, 20_000)
    aperture = np.arcsin(np.minimum(1, 2 * CONE_CONSTANT / np.sinh(radii)))
    caps = 2 * np.arctan(np.exp(-radii) * np.tan(aperture / 2))
    cap, radius = np.full(count + 1, np.pi), np.zeros(count + 1)
    direction = np.zeros((count, dim))
    for depth, level in enumerate(taxonomy.level_slices):
        above = parent[level]
        share = (size[:-1][level] / size[above]) ** (1 / (dim - 1))
        wanted = np.interp(-np.minimum(cap[above] * share * tightness, caps[0]), -caps, radii)
        radius[:-1][level] = np.minimum(np.maximum(wanted, radius[above] + LEAST_STEP), radii[-1])
        cap[:-1][level] = np.interp(radius[:-1][level], radii, caps)
        if depth == 0:
            direction[level] = spread_directions(len(above), dim, seed=seed)
            continue
        # Evenly within the cap that is left: a direction across the parent's, and an angle.
        across = random.standard_normal((len(above), dim))
        across -= (across * direction[above]).sum(1, keepdims=True) * direction[above]
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        room = np.maximum(cap[above] - cap[:-1][level], 0)
        angle = (room * random.random(len(above)) ** (1 / (dim - 1)))[:, None]
        direction[level] = np.cos(angle) * direction[above] + np.sin(angle) * across
    return torch.from_numpy(direction * radius[:-1, None])
