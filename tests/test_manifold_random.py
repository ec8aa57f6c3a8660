"""Random points: radii as asked for, and the volume law against its closed form."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from hyperlm.errors import OptionError
from hyperlm.manifolds import Euclidean, Lorentz, PoincareBall, TangentBall

CURVATURES = [0.25, 1.0, 4.0]


def volume_law(dim, within, c):
    """Distribution function of the radius: closed forms in 2 and 3 dimensions, else quadrature."""
    s = c**0.5
    if c == 0:
        return lambda r: (r / within) ** dim
    if dim == 2:
        return lambda r: (np.cosh(s * r) - 1) / (np.cosh(s * within) - 1)
    if dim == 3:
        volume = lambda r: np.sinh(2 * s * r) / (4 * s) - r / 2  # noqa: E731
        return lambda r: volume(r) / volume(within)
    # Scaled by the density at the rim, which would overflow.
    density = lambda r: (np.sinh(s * r) / np.sinh(s * within)) ** (dim - 1)  # noqa: E731
    grid = np.linspace(0, within, 20_001)
    total = integrate.cumulative_simpson(density(grid), x=grid, initial=0)
    return lambda r: np.interp(r, grid, total / total[-1])


@pytest.mark.parametrize("within", [0.1, 2.0, 12.0])
@pytest.mark.parametrize("dim", [1, 2, 3, 16])
@pytest.mark.parametrize("c", [0.0, *CURVATURES])
def test_points_are_uniform_by_volume(c, dim, within):
    space = TangentBall(c) if c else Euclidean()
    generator = torch.Generator().manual_seed(dim)
    x = space.random(20, 200, dim, within=within, dtype=torch.float64, generator=generator)
    assert x.shape == (20, 200, dim)
    radius = space.dist0(x).flatten().numpy()
    assert radius.max() <= within
    assert stats.kstest(radius, volume_law(dim, within, c)).pvalue > 1e-3
    # Directions are uniform: a coordinate of a unit vector has variance 1/d.
    direction = (x / x.norm(dim=-1, keepdim=True)).reshape(-1, dim)
    assert direction.mean(0).abs().max() < 5 / (4000 * dim) ** 0.5
    assert (dim * direction.square().mean(0) - 1).abs().max() < 0.1


def test_the_law_is_not_the_flat_one():
    radius = TangentBall(1.0).random(4000, 3, within=3.0, dtype=torch.float64).norm(dim=1)
    assert stats.kstest(radius.numpy(), volume_law(3, 3.0, 0.0)).pvalue < 1e-6


@pytest.mark.parametrize("space", [PoincareBall, Lorentz])
def test_every_model_draws_the_same_points(space):
    draws = [
        kind(4.0).random(6, 3, within=1.0, generator=torch.Generator().manual_seed(1))
        for kind in (space, TangentBall)
    ]
    torch.testing.assert_close(space(4.0).to_polar(draws[0]), draws[1], rtol=1e-5, atol=1e-6)


def test_wrong_laws_are_explained():
    for arguments in ({"within": 1.0, "radius": 1.0}, {"within": 0.0}, {"within": float("inf")}):
        with pytest.raises(OptionError, match="give one of them"):
            PoincareBall().random(3, 2, **arguments)
