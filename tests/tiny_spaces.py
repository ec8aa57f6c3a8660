"""Geometries of several curvatures, and small tangent vectors for their laws."""

import pytest
import torch

from hyperlm.manifolds import Euclidean, Lorentz, PoincareBall, TangentBall

CURVATURES = [0.25, 1.0, 4.0]
HYPERBOLIC = [PoincareBall, Lorentz, TangentBall]
SPACES = [
    pytest.param(space(c), id=f"{space.__name__}-{c}") for space in HYPERBOLIC for c in CURVATURES
]
ALL = [*SPACES, pytest.param(Euclidean(), id="Euclidean")]
DTYPES = [torch.float32, torch.float64]
# For points of scaled radius up to about 3: absolute and relative.
TOLERANCE = {
    torch.float32: {"atol": 2e-4, "rtol": 2e-4},
    torch.float64: {"atol": 1e-10, "rtol": 1e-10},
}

each_space = pytest.mark.parametrize("space", ALL)
each_hyperbolic = pytest.mark.parametrize("space", SPACES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def tangents(space, dtype, rows=12, dim=3, seed=0):
    """Tangent vectors at the origin with scaled radius up to about 3, one row zero."""
    gen = torch.Generator().manual_seed(seed)
    u = torch.randn(rows, dim, dtype=torch.float64, generator=gen) / (space.c or 1) ** 0.5
    u[-1] = 0
    return u.to(dtype)
