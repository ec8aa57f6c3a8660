"""Heads of every geometry over a small tree, and batches for them."""

import torch

from hyperlm import HyperbolicHead
from hyperlm.taxonomy import Taxonomy

WIDTH = 12

# Geometry and coordinates of every kind of head with points.
SPACES = [("poincare", "tangent"), ("poincare", "native"), ("lorentz", "tangent"),
          ("lorentz", "native"), ("euclidean", "tangent")]  # fmt: skip
LEARNABLE = [("poincare", "tangent"), ("lorentz", "tangent")]  # with a curvature to learn
LOSSES = ("level", "path", "leaf")


def tree() -> Taxonomy:
    return Taxonomy.from_paths(
        [(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"] + [("z", "z1")]
    )


def make(geometry="poincare", coordinates="tangent", **options):
    options = {"dim": 6, "dropout": 0.0, **options}
    return HyperbolicHead(
        WIDTH,
        options.pop("taxonomy", tree()),
        geometry=geometry,
        coordinates=coordinates,
        **options,
    )


def batch(taxonomy: Taxonomy, rows: int = 32, seed: int = 0):
    """Hidden states that cluster by end node, and the end nodes."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.tensor(taxonomy.terminals)
    ends = ends[torch.randint(len(ends), (rows,), generator=generator)]
    centres = torch.randn(len(taxonomy), WIDTH, generator=torch.Generator().manual_seed(99))
    return centres[ends] + 0.1 * torch.randn(rows, WIDTH, generator=generator), ends
