"""Where formulas break first: far out, steps of any length and of none, the boundary."""

import math

import pytest
import torch
from tiny_spaces import CURVATURES, HYPERBOLIC, each_dtype, each_hyperbolic, tangents

from hyperlm.manifolds import PoincareBall, TangentBall


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("kind", HYPERBOLIC)
@pytest.mark.parametrize("radius", [8.0, 12.0, 16.0, 20.0, 22.0, 26.0])
def test_near_points_far_out_are_joined_by_their_geodesic(kind, radius, c):
    """In float64, as far out as ``projx`` lets points be: what subtracting costs shows here."""
    space = kind(c)
    out = radius / c**0.5
    gen = torch.Generator().manual_seed(0)
    u = torch.randn(40, 3, dtype=torch.float64, generator=gen)
    u = u / u.norm(dim=-1, keepdim=True) * out
    aside = torch.randn(40, 3, dtype=torch.float64, generator=gen)
    v = u + aside * 2 * math.exp(-radius) * out  # at a distance of about 1
    v = v / v.norm(dim=-1, keepdim=True) * out
    x, y = space.from_polar(u), space.from_polar(v)
    whole = space.dist(x, y)
    assert 0.05 < float(whole.median() * c**0.5) < 5
    loose = {"atol": 1e-6 + math.exp(radius - 36), "rtol": 1e-3}  # eps exp(radius) of rounding
    arrow = space.logmap(x, y)
    torch.testing.assert_close(space.norm(x, arrow), whole, **loose)
    middle = space.geodesic(0.5, x, y)
    torch.testing.assert_close(space.dist(x, middle), whole / 2, **loose)
    torch.testing.assert_close(space.dist(middle, y), whole / 2, **loose)
    w = space.proju(x, arrow + space.logmap(x, x.roll(1, 0)) / radius)
    moved = space.transp(x, y, w)
    torch.testing.assert_close(space.norm(y, moved), space.norm(x, w), **loose)
    arrived = space.inner(y, space.transp(x, y, arrow), space.logmap(y, x))
    torch.testing.assert_close(arrived, -whole.square(), **loose)


@each_hyperbolic
@each_dtype
def test_the_longest_step_ends_inside_and_in_its_direction(space, dtype):
    u = tangents(space, dtype)
    x = space.from_polar(u)
    towards = space.proju(x, torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).to(x))
    length = space.norm(x, towards, keepdim=True)
    ends = [
        space.retr(x, towards / length * far / float(space.c) ** 0.5)
        for far in (60.0, 100.0, 360.0, 800.0, 1e5, 1e30)
    ]
    for end in ends:
        space.check_points(end)
        directions = (torch.nn.functional.normalize(space.to_polar(p)) for p in (end, ends[0]))
        torch.testing.assert_close(*directions, atol=1e-4, rtol=0)


@pytest.mark.parametrize("c", CURVATURES)
@each_dtype
def test_ball_points_never_round_to_the_boundary(dtype, c):
    for space in (PoincareBall(c), PoincareBall(c, max_radius=60.0)):
        generator = torch.Generator().manual_seed(0)
        for radius in (15.0, 17.0, 20.0, 40.0):
            x = space.random(500, 3, radius=radius / c**0.5, dtype=dtype, generator=generator)
            space.check_points(x)
        on = torch.nn.functional.normalize(torch.randn(500, 3, dtype=dtype)) / c**0.5
        space.check_points(space.projx(on))
        assert space.dist0(space.projx(on)).isfinite().all()


@each_hyperbolic
def test_steps_of_nothing_and_transport_to_the_same_point_have_their_derivatives(space):
    """Where directions are undefined: the derivatives are those of nearby steps and points."""
    x = space.from_polar(tangents(space, torch.float64)[:-1])
    u = space.proju(x, torch.randn(x.shape, dtype=x.dtype))
    w = space.proju(x, torch.randn(x.shape, dtype=x.dtype))
    small = torch.tensor(1e-6, dtype=x.dtype)

    def along(move):
        """Derivative at 0 by autograd, and the central difference beside it."""
        t = torch.zeros((), dtype=x.dtype, requires_grad=True)
        out = move(t)
        exact = torch.stack([
            torch.autograd.grad(part, t, retain_graph=True)[0] for part in out.reshape(-1)
        ])  # fmt: skip
        around = (move(small) - move(-small)).reshape(-1) / (2 * small)
        return exact, around.detach()

    exact, around = along(lambda t: space.retr(x, t * u))
    torch.testing.assert_close(exact, around, rtol=1e-4, atol=1e-6)
    assert exact.abs().max() > 0.1
    polar_x = space.to_polar(x)
    aside = torch.randn(polar_x.shape, dtype=x.dtype)
    exact, around = along(lambda t: space.transp(x, space.from_polar(polar_x + t * aside), w))
    assert exact.abs().max() > 0.01
    torch.testing.assert_close(exact, around, rtol=1e-4, atol=1e-5 * float(around.abs().max()))


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("radius", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("length", [-6.0, -4.0, -1.0, -0.3, 0.0, 0.4, 6.0])
def test_radial_steps_of_tangent_vectors_have_all_their_derivatives(c, radius, length):
    """By point and by step; also from the origin and to it, and of no length."""
    space = TangentBall(c)
    x = torch.zeros(3, dtype=torch.float64)
    u = torch.zeros(3, dtype=torch.float64)
    x[0], u[0] = radius / c**0.5, length / c**0.5
    x.requires_grad_(), u.requires_grad_()
    assert torch.autograd.gradcheck(space.expmap, (x, u), eps=1e-5, atol=1e-6, rtol=1e-5)
