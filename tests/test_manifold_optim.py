"""geoopt's Riemannian Adam on every geometry: inside, model-independent, savable."""

import copy

import pytest
import torch

from hyperlm.manifolds import Euclidean, Lorentz, PoincareBall, TangentBall
from hyperlm.manifolds._functions import _is_large_table

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
    end, _, _ = train(space, u, target, 200, 0.1)
    torch.testing.assert_close(end, target, atol=2e-2, rtol=2e-2)


def outward(space, x):
    """Euclidean gradient of minus the distance to the origin, in closed form."""
    if space.name == "PoincareBall":
        return -x / x.norm(dim=-1, keepdim=True) * space.lambda_x(x, keepdim=True)
    if space.name == "Lorentz":
        z = x[:, 1:] / x[:, 1:].norm(dim=-1, keepdim=True)
        return torch.cat([torch.zeros_like(x[:, :1]), -z / x[:, :1]], 1)
    return -x / x.norm(dim=-1, keepdim=True)


RATES = torch.tensor([1.0, 0.3, 0.1, 0.03, 0.003]).unsqueeze(1)


def with_rates(kind):
    """The geometry with a learning rate per row, so that one run tries all of them."""

    class Rated(kind):
        def retr_transp(self, x, u, v):
            return super().retr_transp(x, RATES * u, v)

    return Rated


@pytest.mark.parametrize(
    "space",
    [
        with_rates(PoincareBall)(1.0),
        with_rates(Lorentz)(1.0),
        with_rates(TangentBall)(1.0),
        with_rates(Euclidean)(max_radius=12.0),
    ],
    ids=lambda space: space.name,
)
def test_thousands_of_outward_steps_stay_inside(space):
    # So many that the least rate arrives.
    steps, start = (10_000, 0.1) if isinstance(space, PoincareBall) else (4000, 10.0)
    u = torch.randn(len(RATES), 2, generator=torch.Generator().manual_seed(0))
    u = start * torch.nn.functional.normalize(u, dim=1)
    point = geoopt.ManifoldParameter(space.from_polar(u), manifold=space)
    optimiser = geoopt.optim.RiemannianAdam([point], lr=1.0)
    for step in range(steps):
        point.grad = outward(space, point.detach())
        optimiser.step()
        if step % 1000 == 999:
            space.check_points(point.detach())
    limit = space.radius_limit(torch.float32)
    radius = space.dist0(point.detach())
    assert (radius <= limit * (1 + 1e-2)).all()
    assert (radius >= limit * 0.9).all()
    assert torch.isfinite(space.pairwise_dist(point.detach(), point.detach())).all()
    # Never sideways: the directions are still those of the start.
    torch.testing.assert_close(
        torch.nn.functional.normalize(space.to_polar(point.detach()), dim=1),
        torch.nn.functional.normalize(u, dim=1),
        atol=2e-2,
        rtol=0,
    )


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("kind", HYPERBOLIC)
def test_outward_steps_from_the_limit_stay_inside_in_both_dtypes(kind, c):
    space = with_rates(kind)(c)
    for dtype in (torch.float32, torch.float64):
        limit = space.radius_limit(dtype)
        start = space.random(len(RATES), 3, radius=0.99 * limit, dtype=dtype)
        point = geoopt.ManifoldParameter(start, manifold=space)
        optimiser = geoopt.optim.RiemannianAdam([point], lr=1.0)
        for _ in range(60):
            point.grad = outward(space, point.detach())
            optimiser.step()
        space.check_points(point.detach())
        assert (space.dist0(point.detach()) <= limit * (1 + 1e-2)).all()


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("kind", HYPERBOLIC)
@pytest.mark.parametrize("radius", [1.0, 8.0, 18.0])
def test_steps_carry_the_length_of_the_momentum(kind, c, radius):
    """Also where a step is radial to the last digit, far out: nothing leaks across the radius."""
    space = kind(c)
    gen = torch.Generator().manual_seed(1)
    x = space.random(40, 4, radius=radius / c**0.5, dtype=torch.float64, generator=gen)
    out = space.logmap(x, space.origin(40, 4, dtype=torch.float64))
    out = -out / space.norm(x, out, keepdim=True)
    aside = space.proju(x, torch.randn(x.shape, dtype=torch.float64, generator=gen))
    aside = aside - space.inner(x, aside, out, keepdim=True) * out
    aside = aside / space.norm(x, aside, keepdim=True)
    # Shares of the step across the radius, down to rounding.
    share = 10.0 ** -torch.arange(0, 20, 0.5, dtype=torch.float64).unsqueeze(1)
    step = 0.01 * (out + share * aside) / c**0.5
    momentum = out + share.flip(0) * aside
    length = space.norm(x, momentum)
    y, moved = space.retr_transp(x, step, momentum)
    # The hyperboloid's coordinates themselves lose what lies across, by eps exp(radius).
    tolerance = 1e-6 if kind is Lorentz or radius > 10 else 1e-9
    torch.testing.assert_close(space.norm(y, moved), length, rtol=tolerance, atol=0)
    torch.testing.assert_close(space.dist(x, y), space.norm(x, step), rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("radius", [0.0, 1e-5, 1.0, 6.0])
@pytest.mark.parametrize("time", [0.0, 0.3, -0.3, -2.0])
def test_gliding_is_a_step_whose_momentum_goes_with_it(c, radius, time):
    space = TangentBall(c)
    gen = torch.Generator().manual_seed(2)
    x = space.random(12, 4, radius=radius / c**0.5, dtype=torch.float64, generator=gen)
    v = torch.randn(x.shape, dtype=torch.float64, generator=gen)
    v[0], v[1], v[2] = x[0], -x[1], 0  # radial, outward and inward, and one at rest
    v = v / space.norm(x, v, keepdim=True).clamp_min(1e-300) / c**0.5
    times = torch.full((12, 1), time, dtype=torch.float64)
    y, moved = space.glide(x, v, times)
    wanted, carried = space.retr_transp(x, times * v, v)
    torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved, carried, rtol=1e-8, atol=1e-9 * float(carried.abs().max()))
    torch.testing.assert_close(space.norm(y, moved), space.norm(x, v), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("kind", HYPERBOLIC)
def test_a_step_to_the_origin_arrives_with_the_heading_it_left_with(kind, c):
    """No direction leads on from there; transport along a line through the origin turns nothing."""
    space, gen = kind(c), torch.Generator().manual_seed(3)
    ways = torch.nn.functional.normalize(torch.randn(200, 3, generator=gen).double(), dim=1)
    radius = torch.rand(200, 1, generator=gen).double() * 3 + 0.1
    x = space.from_polar(radius * ways)
    inward = space.logmap(x, space.origin(200, 3, dtype=torch.float64))
    for y, moved in (
        space.glide(x, inward, torch.ones(200, 1, dtype=torch.float64)),
        space.retr_transp(x, inward, inward),
    ):
        if kind is Lorentz:
            moved = moved[:, 1:]
        assert float(space.dist0(y).max()) < 1e-7
        heading = torch.nn.functional.normalize(moved, dim=1)
        torch.testing.assert_close(heading, -ways, rtol=0, atol=1e-6)


def test_gliding_stops_at_the_radius_limit_with_its_speed():
    space = TangentBall(1.0, max_radius=5.0)
    x = torch.tensor([[3.0, 0.0], [0.0, 4.9]], dtype=torch.float64)
    v = torch.tensor([[1.0, 0.1], [0.0, 2.0]], dtype=torch.float64)
    y, moved = space.glide(x, v, torch.full((2, 1), 4.0, dtype=torch.float64))
    torch.testing.assert_close(y.norm(dim=1), torch.full((2,), 5.0, dtype=torch.float64))
    torch.testing.assert_close(space.norm(y, moved), space.norm(x, v))


@pytest.mark.parametrize("radius", [0.0, 1e-320, 1e-200, 1e-160, 1e-156, 1e-8])
def test_gradients_and_steps_at_vanishing_radii_are_those_at_the_origin(radius):
    space = TangentBall(1.0)
    x, v = torch.tensor([[radius, 0.0], [0.6, 0.8]], dtype=torch.float64).split(1)
    torch.testing.assert_close(space.egrad2rgrad(x, v), v)
    y, moved = space.glide(x, v, torch.ones(1, 1, dtype=torch.float64))
    torch.testing.assert_close(y, v, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(space.norm(y, moved), torch.ones(1, dtype=torch.float64))


def test_gliding_in_flat_space_is_walking_straight_on():
    x, v = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    times = torch.linspace(-1, 1, 5).unsqueeze(1)
    y, moved = Euclidean().glide(x, v, times)
    torch.testing.assert_close(y, x + times * v)
    torch.testing.assert_close(moved, v)


def test_large_tables_glide_in_blocks_to_the_same_places():
    space, gen = TangentBall(2.0), torch.Generator().manual_seed(0)
    x, v = torch.randn(2, 5000, 16, generator=gen)
    times = torch.randn(5000, 1, generator=gen)
    assert _is_large_table((x, v, times))
    whole = space.glide(x, v, times)
    rows = torch.arange(0, 5000, 617)
    for one, other in zip(whole, space.glide(x[rows], v[rows], times[rows]), strict=True):
        torch.testing.assert_close(one[rows], other, rtol=0, atol=0)


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
