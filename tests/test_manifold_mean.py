"""The Frechet mean: balance, batches, weights, and its gradient against finite differences."""

import math

import pytest
import torch

from hyperlm.errors import OptionError
from hyperlm.manifolds import Euclidean, Lorentz, PoincareBall, TangentBall

CURVATURES = [0.25, 1.0, 4.0]
HYPERBOLIC = [PoincareBall, Lorentz, TangentBall]
SPACES = [
    pytest.param(space(c), id=f"{space.__name__}-{c}") for space in HYPERBOLIC for c in CURVATURES
]
ALL = [*SPACES, pytest.param(Euclidean(), id="Euclidean")]


def sets(space, *size, seed=0, spread=1.0):
    u = torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return space.from_polar(spread * u / (space.c or 1) ** 0.5)


@pytest.mark.parametrize("space", ALL)
def test_arrows_from_the_mean_balance(space):
    x = sets(space, 3, 10, 3)
    weights = torch.rand(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean = space.frechet_mean(x, weights)
    arrows = space.logmap(mean.unsqueeze(1).expand_as(x), x)
    pull = (weights.unsqueeze(-1) * arrows).sum(1)
    assert (space.norm(mean, pull) < 1e-10).all()
    # A batch is its sets one by one, and weights count as repetitions.
    torch.testing.assert_close(mean[1], space.frechet_mean(x[1], weights[1]))
    twice = torch.cat([x[0], x[0, :4]])
    counts = torch.ones(10, dtype=torch.float64)
    counts[:4] = 2
    torch.testing.assert_close(space.frechet_mean(x[0], counts), space.frechet_mean(twice))


@pytest.mark.parametrize("space", ALL)
def test_the_mean_of_two_points_is_between_them(space):
    x = sets(space, 6, 2, 3, spread=2.0)
    torch.testing.assert_close(
        space.frechet_mean(x), space.geodesic(0.5, x[:, 0], x[:, 1]), atol=1e-8, rtol=1e-8
    )
    alone = x[:, :1]
    torch.testing.assert_close(space.frechet_mean(alone), alone[:, 0], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("c", CURVATURES)
def test_models_agree_and_far_points_converge(c):
    u = sets(TangentBall(c), 4, 7, 3, spread=5.0)
    expected = TangentBall(c).frechet_mean(u)
    for space in (PoincareBall(c), Lorentz(c)):
        found = space.to_polar(space.frechet_mean(space.from_polar(u)))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("space", ALL)
def test_gradients_reach_points_and_weights(space):
    u = space.to_polar(sets(space, 2, 5, 3)).requires_grad_()
    weights = (0.5 + torch.rand(2, 5, dtype=torch.float64)).requires_grad_()

    def mean(u, weights):
        return space.to_polar(space.frechet_mean(space.from_polar(u), weights))

    assert torch.autograd.gradcheck(mean, (u, weights))


@pytest.mark.parametrize("space", HYPERBOLIC)
def test_gradients_reach_curvature(space):
    u = torch.randn(5, 3, dtype=torch.float64)
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def mean(c):
        return space(c).to_polar(space(c).frechet_mean(space(c).from_polar(u)))

    assert torch.autograd.gradcheck(mean, (c,))


@pytest.mark.parametrize("space", ALL)
def test_float32_and_coincident_points(space):
    x = sets(space, 4, 3).float().requires_grad_()
    mean = space.frechet_mean(x)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(
        mean.double(), space.frechet_mean(x.detach().double()), atol=1e-5, rtol=1e-5
    )
    same = x[:1].detach().expand(4, -1).clone().requires_grad_()
    mean = space.frechet_mean(same)
    torch.testing.assert_close(mean, same[0], atol=1e-6, rtol=1e-6)
    zero = space.origin(4, 3).requires_grad_()
    for points in (same, zero):
        space.to_polar(space.frechet_mean(points)).sum().backward()
        assert torch.isfinite(points.grad).all()


@pytest.mark.parametrize("space", ALL)
def test_nan_stays_in_its_set_and_bad_weights_are_refused(space):
    x = sets(space, 3, 4, 2)
    x[1, 2] = math.nan
    mean = space.frechet_mean(x)
    assert torch.isnan(mean[1]).any()
    assert torch.isfinite(mean[[0, 2]]).all()
    with pytest.raises(OptionError, match="weights of a Frechet mean"):
        space.frechet_mean(x, torch.tensor([1.0, 0, -1, 2]))
    with pytest.raises(OptionError, match="nor all of them zero"):
        space.frechet_mean(x, torch.zeros(4))
