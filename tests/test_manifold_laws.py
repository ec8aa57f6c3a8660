"""One suite of laws over every geometry; geoopt and closed forms as oracles."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_spaces import (
    CURVATURES,
    HYPERBOLIC,
    TOLERANCE,
    each_dtype,
    each_hyperbolic,
    each_space,
    tangents,
)

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import (
    Euclidean,
    Lorentz,
    PoincareBall,
    TangentBall,
    lorentz_to_poincare,
    poincare_to_lorentz,
    polar,
)


@each_space
@each_dtype
def test_polar_form_and_points_are_inverse(space, dtype):
    u = tangents(space, dtype)
    x = space.from_polar(u)
    assert x.dtype == dtype
    torch.testing.assert_close(space.to_polar(x), u, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(space.expmap0(space.logmap0(x)), x, rtol=1e-5, atol=1e-6)
    space.check_points(x)
    torch.testing.assert_close(space.dist0(x), u.norm(dim=-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize(
    ("space", "dtype", "radius"),
    [
        (PoincareBall, torch.float32, 8),
        (PoincareBall, torch.float64, 28),
        (Lorentz, torch.float32, 80),
        (Lorentz, torch.float64, 300),
        (TangentBall, torch.float32, 80),
    ],
)
def test_coordinates_hold_the_radius_that_is_promised(space, dtype, radius, c):
    u = torch.randn(50, 4, dtype=dtype)
    u = u / u.norm(dim=-1, keepdim=True) * radius / c**0.5
    back = space(c).to_polar(space(c).from_polar(u))
    assert ((back - u).norm(dim=-1) <= 1e-5 * u.norm(dim=-1)).all()


@each_space
@each_dtype
def test_logmap_inverts_expmap_and_has_the_length_of_the_distance(space, dtype):
    x = space.from_polar(tangents(space, dtype))
    y = space.from_polar(tangents(space, dtype, seed=1))
    arrow = space.logmap(x, y)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(space.norm(x, arrow), space.dist(x, y), **tolerance)
    reached = space.expmap(x, arrow)
    assert (space.dist(reached, y) <= (1e-2 if dtype == torch.float32 else 1e-7)).all()
    torch.testing.assert_close(space.logmap(x, x), torch.zeros_like(x), **tolerance)
    torch.testing.assert_close(space.expmap(x, torch.zeros_like(x)), x, **tolerance)


@pytest.mark.parametrize("radius", [6.0, 8.0, 10.0])
@pytest.mark.parametrize("c", CURVATURES)
def test_geodesics_of_tangent_vectors_hold_far_out_in_float32(c, radius):
    space = TangentBall(c)
    x, y = (space.random(20, 8, radius=r / c**0.5, generator=torch.Generator().manual_seed(k))
            for k, r in enumerate((radius, radius / 2)))  # fmt: skip
    whole = space.dist(x, y)
    for t in (0.0, 0.3, 0.9, 1.0):
        at = space.geodesic(t, x, y)
        assert at.dtype == torch.float32
        # What rounding the result itself costs: eps exp(radius).
        torch.testing.assert_close(space.dist(at, y), (1 - t) * whole, atol=0.02 / c**0.5, rtol=0.0)


@each_space
def test_lengths_and_glides_of_nothing_have_gradients(space):
    x = space.from_polar(tangents(space, torch.float64)).requires_grad_()
    still = torch.zeros_like(x).requires_grad_()
    for value in (space.norm(x, still), *space.glide(x, still, torch.ones(len(x), 1))):
        for gradient in torch.autograd.grad(
            value.sum(), [x, still], retain_graph=True, allow_unused=True
        ):
            assert gradient is None or gradient.isfinite().all()


@each_space
@each_dtype
def test_geodesics_divide_the_distance(space, dtype):
    x = space.from_polar(tangents(space, dtype))
    y = space.from_polar(tangents(space, dtype, seed=1))
    whole = space.dist(x, y)
    middle = space.geodesic(0.25, x, y)
    torch.testing.assert_close(space.dist(x, middle), whole / 4, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(space.dist(middle, y), whole * 0.75, atol=1e-3, rtol=1e-3)


@each_space
def test_transport_keeps_inner_products_and_carries_the_geodesic(space):
    x = space.from_polar(tangents(space, torch.float64))
    y = space.from_polar(tangents(space, torch.float64, seed=1))
    u = space.proju(x, torch.randn_like(x))
    v = space.proju(x, torch.randn_like(x))
    moved_u, moved_v = space.transp(x, y, u), space.transp(x, y, v)
    torch.testing.assert_close(space.inner(y, moved_u, moved_v), space.inner(x, u, v))
    torch.testing.assert_close(space.transp(y, x, moved_u), u, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(
        space.transp(x, y, space.logmap(x, y)), -space.logmap(y, x), atol=1e-8, rtol=1e-8
    )
    torch.testing.assert_close(space.transp(x, x, u), u)


@each_space
def test_riemannian_gradient_represents_the_differential(space):
    """``<grad f, w>_x`` is the derivative of f along w, for every tangent w."""
    x = space.from_polar(tangents(space, torch.float64)[:-1]).requires_grad_()
    target = space.from_polar(tangents(space, torch.float64, seed=1)[:-1])
    space.dist(x, target).sum().backward()
    gradient = space.egrad2rgrad(x.detach(), x.grad)
    x = x.detach()
    w = space.proju(x, torch.randn_like(x))
    w = 1e-5 * w / space.norm(x, w, keepdim=True)
    ahead, behind = space.dist(space.expmap(x, w), target), space.dist(space.expmap(x, -w), target)
    torch.testing.assert_close(
        (ahead - behind) / 2, space.inner(x, gradient, w), atol=1e-9, rtol=1e-4
    )
    # A distance function has slope one, towards the target.
    torch.testing.assert_close(space.norm(x, gradient), torch.ones(len(x), dtype=x.dtype))


@each_hyperbolic
def test_all_models_agree(space):
    """Steps, transports and logarithms mean the same in every coordinate system."""
    u, v, w = (tangents(space, torch.float64, seed=i) for i in range(3))
    reference = TangentBall(space.c)
    x, y, z = (space.from_polar(t) for t in (u, v, w))
    torch.testing.assert_close(space.dist(x, y), polar.dist(u, v, space.c), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        space.pairwise_dist(x, y), polar.pairwise_dist(u, v, space.c), rtol=1e-10, atol=1e-12
    )
    step = space.transp(x, y, space.logmap(x, z))
    expected = reference.transp(u, v, reference.logmap(u, w))
    torch.testing.assert_close(
        space.to_polar(space.expmap(y, 0.3 * step)), reference.expmap(v, 0.3 * expected)
    )


@pytest.mark.parametrize("c", CURVATURES)
def test_isometry_between_the_models(c):
    x = PoincareBall(c).random(20, 3, dtype=torch.float64)
    z = poincare_to_lorentz(x, c)
    # Stereographic projection, independently of the polar route.
    torch.testing.assert_close(z[:, 1:] / (1 + c**0.5 * z[:, :1]), x)
    torch.testing.assert_close(
        -(z[:, 0] ** 2) + (z[:, 1:] ** 2).sum(1), torch.full((20,), -1 / c, dtype=x.dtype)
    )
    torch.testing.assert_close(lorentz_to_poincare(z, c), x)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=9, max_size=9), st.sampled_from(CURVATURES))
def test_moebius_translation_is_an_isometry(values, c):
    ball = PoincareBall(c)
    a, x, y = ball.from_polar(torch.tensor(values, dtype=torch.float64).reshape(3, 1, 3) / c**0.5)
    moved = ball.dist(ball.mobius_add(a, x), ball.mobius_add(a, y))
    torch.testing.assert_close(moved, ball.dist(x, y), atol=1e-7, rtol=1e-9)
    torch.testing.assert_close(ball.mobius_add(-a, ball.mobius_add(a, x)), x, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("c", CURVATURES)
def test_geoopt_agrees_where_it_is_accurate(c):
    import geoopt

    # A float c would pass through a float32 softplus in geoopt and come back off by 1e-7.
    ours, theirs = PoincareBall(c), geoopt.PoincareBall(c=torch.tensor(c, dtype=torch.float64))
    x, y = (ours.random(20, 3, std=0.5, dtype=torch.float64) for _ in range(2))
    u = torch.randn_like(x)
    for name, args in {
        "dist": (x, y), "dist0": (x,), "mobius_add": (x, y), "logmap": (x, y),
        "expmap": (x, 0.1 * u / theirs.lambda_x(x, keepdim=True)),
        "expmap0": (0.3 * u,), "logmap0": (x,), "transp": (x, y, u), "egrad2rgrad": (x, u),
        "lambda_x": (x,),
    }.items():  # fmt: skip
        found, expected = getattr(ours, name)(*args), getattr(theirs, name)(*args)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-8)
    # Without keepdim geoopt 0.5.1 broadcasts (n, 1) against (n,).
    inner = theirs.inner(x, u, u, keepdim=True).squeeze(-1)
    torch.testing.assert_close(ours.inner(x, u, u), inner)
    ours, theirs = Lorentz(c), geoopt.Lorentz(k=torch.tensor(1 / c, dtype=torch.float64))
    x, y = (ours.random(20, 3, std=0.5, dtype=torch.float64) for _ in range(2))
    u = ours.proju(x, torch.randn_like(x))
    for name, args in {
        "dist": (x, y), "expmap": (x, u), "proju": (x, torch.ones_like(x)),
    }.items():  # fmt: skip
        found, expected = getattr(ours, name)(*args), getattr(theirs, name)(*args)
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("space", HYPERBOLIC)
def test_flat_limit(space):
    u, v = torch.randn(2, 10, 3, dtype=torch.float64)
    thin = space(1e-8)
    x, y = thin.from_polar(u), thin.from_polar(v)
    torch.testing.assert_close(thin.dist(x, y), (u - v).norm(dim=-1), rtol=1e-6, atol=1e-6)


@each_space
@each_dtype
def test_projx_keeps_inside_points_and_pulls_the_rest_in(space, dtype):
    x = space.from_polar(tangents(space, dtype))
    torch.testing.assert_close(space.projx(x), x, rtol=1e-6, atol=1e-6)
    space = copy.copy(space)
    space.max_radius = 1.5
    far = space.projx(100 * x)
    assert (space.dist0(far) <= 1.5 * (1 + 1e-4)).all()
    space.check_points(far)


@each_space
def test_gradients_are_finite_at_the_origin_and_at_the_edge(space):
    limit = min(space.radius_limit(torch.float32), 20)
    u = torch.tensor(
        [[0.0, 0, 0], [0, 0, 0], [limit, 0, 0], [0.6 * limit, 0.8 * limit, 0], [1, 1, 1]]
    )
    x = space.from_polar(u.clone()).requires_grad_()
    y = space.from_polar(u.roll(1, 0)).requires_grad_()
    (space.dist(x, y).sum() + space.pairwise_dist(x, y).sum() + space.dist0(x).sum()).backward()
    steps = space.egrad2rgrad(x.detach(), x.grad)
    for tensor in (x.grad, y.grad, steps, space.retr(x.detach(), -steps)):
        assert torch.isfinite(tensor).all()
    w = u.clone().requires_grad_()
    space.to_polar(
        space.expmap(space.from_polar(w), space.logmap(space.from_polar(w), y.detach()))
    ).sum().backward()
    assert torch.isfinite(w.grad).all()


@pytest.mark.parametrize("space", HYPERBOLIC)
def test_gradcheck_of_the_maps(space):
    space = space(0.7)
    u = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    v = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def way(u, v):
        x, y = space.from_polar(u), space.from_polar(v)
        return space.to_polar(space.expmap(x, 0.5 * space.logmap(x, y)))

    assert torch.autograd.gradcheck(way, (u, v))


@pytest.mark.parametrize("space", HYPERBOLIC)
def test_curvature_can_be_learned_and_is_never_registered(space):
    c = torch.nn.Parameter(torch.tensor(0.8, dtype=torch.float64))
    space = space(c)
    assert not list(space.parameters())
    assert not list(space.buffers())
    assert not space.state_dict()
    u, v = torch.randn(2, 4, 3, dtype=torch.float64)
    space.dist(space.from_polar(u), space.from_polar(v)).sum().backward()
    assert c.grad is not None
    eps = 1e-6
    slope = (polar.dist(u, v, 0.8 + eps) - polar.dist(u, v, 0.8 - eps)).sum() / (2 * eps)
    torch.testing.assert_close(c.grad, slope, rtol=1e-6, atol=1e-8)


@each_space
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(space, dtype):
    u = tangents(space, torch.float32).to(dtype)
    x = space.from_polar(u)
    assert x.dtype == torch.float32
    low = x.to(dtype)
    assert torch.isfinite(space.dist(low, x)).all()
    assert torch.isfinite(space.pairwise_dist(low, low)).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(space.pairwise_dist(x, x), space.pairwise_dist(x, x))
        assert space.dist(x, x.flip(0)).dtype == torch.float32


@each_space
def test_bad_rows_are_named(space):
    x = space.from_polar(tangents(space, torch.float32))
    x[2, 0], x[5, 1] = math.nan, math.inf
    assert not space.check_point_on_manifold(x)
    with pytest.raises(OffManifoldError, match="rows 2, 5"):
        space.check_points(x, "nodes")


def test_points_outside_are_named():
    with pytest.raises(OffManifoldError, match=r"PoincareBall\(c=4\): 1 of 2 .*rows 1.*projx"):
        PoincareBall(4.0).check_points(torch.tensor([[0.1, 0.1], [0.5, 0.1]]))
    with pytest.raises(OptionError, match="must be positive"):
        Lorentz(-1.0)
    with pytest.raises(OptionError, match="max_radius"):
        PoincareBall(1.0, max_radius=0.0)
    with pytest.raises(OptionError, match="c = 0"):
        Euclidean().c = 1.0


@each_space
def test_random_points_have_the_radii_asked_for(space):
    gen = torch.Generator().manual_seed(3)
    radius = torch.rand(500, generator=gen)
    x = space.random(500, 3, radius=radius, generator=gen)
    torch.testing.assert_close(space.dist0(x), radius, rtol=1e-5, atol=1e-6)
    assert space.to_polar(x).mean(0).abs().max() < 0.1
    assert (space.dist0(space.origin(4, 3)) == 0).all()


@pytest.mark.parametrize("space", [PoincareBall(0.25), PoincareBall(4.0), Lorentz(0.25)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_points_in_half_precision_are_pulled_inside(space, dtype):
    """Rounded to half precision a point far out lies on the boundary, as does the limit."""
    far = space.from_polar(torch.tensor([[4.0, 0.0, 0.0]]) / space.c**0.5)
    far = torch.tensor([[1.0 / space.c**0.5, 0.0, 0.0]]) if isinstance(space, PoincareBall) else far
    pulled = space.projx(far.to(dtype))
    assert pulled.dtype == torch.float32
    assert space._check_point_on_manifold(pulled)[0]
    assert space.dist0(pulled).isfinite().all()
    assert space.dist0(pulled).item() <= space.radius_limit(dtype) * 1.01


@each_space
def test_points_and_vectors_broadcast(space):
    x = space.from_polar(tangents(space, torch.float64))
    u = space.proju(x[:1], torch.randn_like(x[:1]))
    for call in (space.transp, space.logmap, space.geodesic, space.retr):
        given = {space.transp: (x[:1], x, u), space.logmap: (x[:1], x),
                 space.geodesic: (0.3, x[:1], x), space.retr: (x[:1], u)}[call]  # fmt: skip
        full = [a if isinstance(a, float) else a.expand_as(x) for a in given]
        torch.testing.assert_close(call(*given).expand_as(x), call(*full))
