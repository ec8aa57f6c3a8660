"""geoopt's Riemannian Adam on every geometry: inside, model-independent, savable."""

import copy

import pytest
import torch

from hyperlm.manifolds import Euclidean, Lorentz, PoincareBall, TangentBall

# After hyperlm.manifolds, which silences the deprecation warnings of geoopt's import.
import geoopt  # isort: skip

HYPERBOLIC = [PoincareBall, Lorentz, TangentBall]


def train(space, u, target, steps, lr):
    point = geoopt.ManifoldParameter(space.from_polar(u.clone()), manifold=space)
    optimiser = geoopt.optim.RiemannianAdam([point], lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        space.dist(point, space.from_polar(target)).square().sum().backward()
        optimiser.step()
    return space.to_polar(point.detach()), optimiser, point


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_adam_takes_the_same_steps_in_every_model(c):
    gen = torch.Generator().manual_seed(0)
    u, target = torch.randn(2, 6, 3, dtype=torch.float64, generator=gen) / c**0.5
    ends = [train(space(c), u, target, 30, 0.1)[0] for space in HYPERBOLIC]
    # Second moments are elementwise in no model: geoopt keeps one norm per point.
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(ends[1], ends[2], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("space", [*HYPERBOLIC, Euclidean])
def test_adam_reaches_a_target(space):
    space = space()
    gen = torch.Generator().manual_seed(0)
    u, target = torch.randn(2, 6, 3, generator=gen)
    end, _, _ = train(space, u, target, 400, 0.05)
    torch.testing.assert_close(end, target, atol=2e-2, rtol=2e-2)


def outward(space, x):
    """Euclidean gradient of minus the distance to the origin, in closed form."""
    if space.name == "PoincareBall":
        return -x / x.norm(dim=-1, keepdim=True) * space.lambda_x(x, keepdim=True)
    if space.name == "Lorentz":
        z = x[:, 1:] / x[:, 1:].norm(dim=-1, keepdim=True)
        return torch.cat([torch.zeros_like(x[:, :1]), -z / x[:, :1]], 1)
    return -x / x.norm(dim=-1, keepdim=True)


# The full 10,000 on the ball; by 2,000 each has been at its limit for long.
@pytest.mark.parametrize(
    ("space", "lr", "steps"),
    [
        (PoincareBall, 1.0, 10_000),
        (PoincareBall, 0.01, 2_000),
        (Lorentz, 1.0, 2_000),
        (TangentBall, 1.0, 2_000),
        (TangentBall, 0.02, 1_200),
    ],
)
def test_ten_thousand_outward_steps_stay_inside(space, lr, steps):
    space = space(1.0)
    u = 0.1 * torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    point = geoopt.ManifoldParameter(space.from_polar(u), manifold=space)
    optimiser = geoopt.optim.RiemannianAdam([point], lr=lr)
    for _ in range(steps):
        point.grad = outward(space, point.detach())
        optimiser.step()
    space.check_points(point.detach())
    limit = space.radius_limit(torch.float32)
    radius = space.dist0(point.detach())
    assert (radius <= limit * (1 + 1e-2)).all()
    assert (radius >= limit * 0.9).all()
    assert torch.isfinite(space.pairwise_dist(point.detach(), point.detach())).all()


def test_tangent_ball_moves_at_radius_20_in_float32():
    """Where ball coordinates are stuck: an inward pull moves the radius by the step."""
    space = TangentBall(1.0)
    u = torch.tensor([[12.0, 16.0]])
    end, _, _ = train(space, u, torch.zeros(1, 2), 10, 0.1)
    assert 18.8 < end.norm() < 19.2
    torch.testing.assert_close(end / end.norm(), u / 20)


@pytest.mark.parametrize("space", HYPERBOLIC)
def test_optimiser_state_survives_save_and_load(space):
    space = space(1.0)
    gen = torch.Generator().manual_seed(0)
    u, target = torch.randn(2, 4, 3, generator=gen)
    _, optimiser, point = train(space, u, target, 5, 0.1)
    twin = geoopt.ManifoldParameter(point.detach().clone(), manifold=space)
    other = geoopt.optim.RiemannianAdam([twin], lr=0.1)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for p, o in ((point, optimiser), (twin, other)):
        o.zero_grad()
        space.dist(p, space.from_polar(target)).square().sum().backward()
        o.step()
    # torch turns the step count into a float32 tensor on loading, an ulp of difference.
    torch.testing.assert_close(twin.detach(), point.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("space", HYPERBOLIC)
def test_sparse_adam_moves_only_the_rows_that_were_used(space):
    space = space(1.0)
    table = geoopt.ManifoldParameter(space.random(20, 3), manifold=space)
    before = table.detach().clone()
    optimiser = geoopt.optim.SparseRiemannianAdam([table], lr=0.1)
    rows = torch.nn.functional.embedding(torch.tensor([3, 5]), table, sparse=True)
    space.dist0(rows).sum().backward()
    optimiser.step()
    moved = (table.detach() != before).any(1).nonzero().flatten()
    assert moved.tolist() == [3, 5]


@pytest.mark.parametrize("space", [*HYPERBOLIC, Euclidean])
def test_manifold_parameters_copy_with_their_space(space):
    point = geoopt.ManifoldParameter(space().random(3, 2), manifold=space())
    twin = copy.deepcopy(point)
    assert type(twin.manifold) is space
    assert torch.equal(twin, point)
    assert repr(space()).startswith(space.__name__)
