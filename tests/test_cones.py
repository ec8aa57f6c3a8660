"""Entailment cones: both forms against Ganea's formulas, orientation, gradients, negatives."""

import math

import mpmath
import numpy as np
import pytest
import torch

from hyperlm.errors import OptionError
from hyperlm.manifolds import NegativeSampler, PoincareBall, TangentBall, cones

# After hyperlm.manifolds, which silences the deprecation warnings of geoopt's import.
import geoopt  # isort: skip

CURVATURES = [0.25, 1.0, 4.0]


def ganea_angle(x, y, c):
    """Exterior angle as published, in 50 digits; c = 1 after scaling."""
    with mpmath.workdps(50):
        x, y = ([mpmath.sqrt(mpmath.mpf(c)) * mpmath.mpf(float(t)) for t in z] for z in (x, y))
        xx, yy = sum(t * t for t in x), sum(t * t for t in y)
        xy = sum(s * t for s, t in zip(x, y, strict=True))
        gap = mpmath.sqrt(sum((s - t) ** 2 for s, t in zip(x, y, strict=True)))
        below = mpmath.sqrt(xx) * gap * mpmath.sqrt(1 + xx * yy - 2 * xy)
        return float(mpmath.acos((xy * (1 + xx) - xx * (1 + yy)) / below))


@pytest.mark.parametrize("c", CURVATURES)
def test_angles_match_the_published_formulas(c):
    ball = PoincareBall(c)
    x, y = (ball.random(15, 3, std=1 / c**0.5, dtype=torch.float64) for _ in range(2))
    expected = torch.tensor(
        [ganea_angle(a, b, c) for a, b in zip(x, y, strict=True)], dtype=x.dtype
    )
    torch.testing.assert_close(cones.exterior_angle(x, y, c=c), expected)
    u, v = ball.to_polar(x), ball.to_polar(y)
    torch.testing.assert_close(cones.polar_exterior_angle(u, v, c=c), expected)
    square = c * (x * x).sum(-1)
    sine = (0.1 * (1 - square) / square.sqrt()).clamp_max(1)
    torch.testing.assert_close(cones.half_aperture(x, c=c), sine.asin(), atol=5e-4, rtol=1e-9)
    torch.testing.assert_close(cones.half_aperture(x, c=c), cones.polar_half_aperture(u, c=c))


@pytest.mark.parametrize("radius", [1.0, 10.0, 20.0])
def test_polar_angles_are_exact_in_float32_at_any_radius(radius):
    gen = torch.Generator().manual_seed(1)
    u = torch.randn(30, 4, generator=gen)
    u = u / u.norm(dim=-1, keepdim=True) * radius
    v = 1.1 * u + 0.1 * torch.randn(30, 4, generator=gen)
    low = cones.polar_exterior_angle(u, v)
    torch.testing.assert_close(
        low.double(), cones.polar_exterior_angle(u.double(), v.double()), rtol=1e-6, atol=1e-6
    )
    # The triangle's other two sides give the same angle, by the law of sines in 100 digits.
    with mpmath.workdps(100):
        for i in range(0, 30, 10):
            a, b = ([mpmath.mpf(float(t)) for t in w[i]] for w in (u, v))
            ra, rb = (mpmath.sqrt(sum(t * t for t in w)) for w in (a, b))
            cos = sum(s * t for s, t in zip(a, b, strict=True)) / (ra * rb)
            d = mpmath.acosh(
                mpmath.cosh(ra) * mpmath.cosh(rb) - mpmath.sinh(ra) * mpmath.sinh(rb) * cos
            )
            inner = (mpmath.cosh(ra) * mpmath.cosh(d) - mpmath.cosh(rb)) / (
                mpmath.sinh(ra) * mpmath.sinh(d)
            )
            assert abs(float(mpmath.pi - mpmath.acos(inner)) - float(low[i])) < 1e-6


def test_cones_open_away_from_the_origin():
    u = torch.tensor([[1.0, 0.0]])
    assert cones.polar_exterior_angle(u, 2 * u).item() == 0
    assert cones.polar_exterior_angle(u, 0.5 * u).item() == pytest.approx(math.pi)
    assert cones.polar_exterior_angle(u, 0 * u).item() == pytest.approx(math.pi)
    assert cones.polar_cone_energy(u, 2 * u).item() == 0
    assert cones.polar_cone_energy(2 * u, u).item() > 2


@pytest.mark.parametrize("c", CURVATURES)
def test_cones_are_nested(c):
    """A child inside the parent's cone has its whole cone inside."""
    gen = torch.Generator().manual_seed(0)
    parent, child, grandchild = (
        torch.randn(4000, 2, dtype=torch.float64, generator=gen) / c**0.5 for _ in range(3)
    )
    # Small steps outwards: most land in the cone, many do not.
    child = 1.5 * parent + 0.1 * child
    grandchild = 1.5 * child + 0.1 * grandchild
    clear = parent.norm(dim=-1) > cones.cone_min_radius(c)
    first = cones.polar_cone_energy(parent, child, c=c) == 0
    second = cones.polar_cone_energy(child, grandchild, c=c) == 0
    chain = clear & first & second
    assert 100 < chain.sum() < 3900
    assert (cones.polar_cone_energy(parent, grandchild, c=c)[chain] < 1e-9).all()


def test_half_aperture_saturates_near_the_origin_and_falls_outwards():
    radius = torch.linspace(0, 20, 500).unsqueeze(1)
    angle = cones.polar_half_aperture(radius)
    assert (angle.diff() <= 0).all()
    assert angle[0] == pytest.approx(math.pi / 2, abs=1e-3)
    assert (angle > 0).all()
    x = 2 * 0.1 / (1 + math.sqrt(1 + 4 * 0.01))
    assert PoincareBall().dist0(torch.tensor([x])).item() == pytest.approx(cones.cone_min_radius())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_are_finite_everywhere(dtype):
    rows = torch.tensor(
        [
            [0.0, 0],
            [1e-20, 0],
            [0.2, 0],
            [1, 0],
            [1, 1],
            [2, 2],
            [12, 16],
            [16, 12],
            [-40, 0],
            [0, 100],
        ]
    ).to(dtype)
    u = rows.repeat_interleave(len(rows), 0).requires_grad_()
    v = rows.repeat(len(rows), 1).requires_grad_()
    (cones.polar_exterior_angle(u, v).sum() + cones.polar_half_aperture(u).sum()).backward()
    assert torch.isfinite(u.grad).all()
    assert torch.isfinite(v.grad).all()
    x = PoincareBall().from_polar(rows).repeat_interleave(len(rows), 0).requires_grad_()
    y = PoincareBall().from_polar(rows).repeat(len(rows), 1).requires_grad_()
    cones.cone_energy(x, y).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(y.grad).all()


def test_gradcheck():
    gen = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 5, 3, dtype=torch.float64, generator=gen)
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda u, v, c: cones.polar_exterior_angle(u, v, c=c) - cones.polar_half_aperture(u, c=c),
        (u.requires_grad_(), v.requires_grad_(), c),
    )


def test_nan_rows_stay_in_their_rows():
    u, v = torch.ones(2, 2), torch.ones(2, 2)
    v[1, 0] = math.nan
    energy = cones.polar_cone_energy(u, v)
    assert torch.isfinite(energy[0])
    assert torch.isnan(energy[1])


def ancestors_csr(parents):
    """CSR of strict ancestors of a DAG given as lists of parents, brute force."""
    closure = []
    for above in parents:
        closure.append(sorted({a for p in above for a in [p, *closure[p]]}))
    return (
        np.cumsum([0, *map(len, closure)]),
        np.array([a for row in closure for a in row]),
        closure,
    )


DAG = [[], [], [0], [0], [0, 1], [2], [2, 3], [4], [4, 5]]


@pytest.mark.parametrize("direction", ["children", "parents"])
def test_negatives_are_never_true(direction):
    indptr, indices, closure = ancestors_csr(DAG)
    sampler = NegativeSampler(indptr, indices, seed=0)
    fixed = np.repeat(np.arange(len(DAG)), 3)
    drawn = getattr(sampler, f"false_{direction}")(fixed, 40)
    seen = {node: set() for node in range(len(DAG))}
    for node, row in zip(fixed, drawn, strict=True):
        seen[int(node)] |= set(row.tolist())
    for node, found in seen.items():
        if direction == "children":
            allowed = {n for n in range(len(DAG)) if n != node and node not in closure[n]}
        else:
            allowed = {n for n in range(len(DAG)) if n != node and n not in closure[node]}
        assert found == allowed  # nothing forbidden, and nothing left out


def test_negatives_that_do_not_exist_are_marked():
    indptr, indices, _ = ancestors_csr([[], [0], [0]])
    sampler = NegativeSampler(indptr, indices)
    assert (sampler.false_children([0], 4) == -1).all()
    assert set(sampler.false_children([1], 50)[0].tolist()) == {0, 2}
    with pytest.raises(OptionError, match="root is not a node"):
        sampler.false_children([-1], 4)
    with pytest.raises(OptionError, match="do not fit"):
        NegativeSampler([0, 2], [0])


def test_training_puts_parents_inside_and_children_in_their_cones():
    # A binary tree of 30 nodes under an implicit root.
    parents = [[], []] + [[(n - 2) // 2] for n in range(2, 30)]
    indptr, indices, closure = ancestors_csr(parents)
    sampler = NegativeSampler(indptr, indices, seed=0)
    pairs = torch.tensor([(a, n) for n, row in enumerate(closure) for a in row])
    space = TangentBall(1.0, max_radius=8.0)
    gen = torch.Generator().manual_seed(0)
    start = 0.5 * torch.nn.functional.normalize(torch.randn(30, 5, generator=gen), dim=-1)
    point = geoopt.ManifoldParameter(start, manifold=space)
    optimiser = geoopt.optim.RiemannianAdam([point], lr=0.03)
    for _ in range(300):
        false = torch.from_numpy(sampler.false_children(pairs[:, 0].numpy(), 5))
        optimiser.zero_grad()
        cones.cone_margin_loss(
            point[pairs[:, 0]], point[pairs[:, 1]], point[false], margin=0.1
        ).backward()
        optimiser.step()
    u = point.detach()
    radius = u.norm(dim=-1)
    assert (radius[pairs[:, 0]] < radius[pairs[:, 1]]).float().mean() > 0.95
    held = cones.polar_cone_energy(u[pairs[:, 0]], u[pairs[:, 1]])
    turned = cones.polar_cone_energy(u[pairs[:, 1]], u[pairs[:, 0]])
    assert (held < 0.05).float().mean() > 0.9
    assert (turned > 0.5).all()


def test_loss_is_the_same_in_ball_coordinates():
    ball = PoincareBall(2.0)
    u, v = torch.randn(2, 6, 3, dtype=torch.float64)
    n = torch.randn(6, 4, 3, dtype=torch.float64)
    x = [ball.from_polar(t) for t in (u, v, n)]
    torch.testing.assert_close(
        cones.cone_margin_loss(*x, c=2.0, ball=True), cones.cone_margin_loss(u, v, n, c=2.0)
    )


@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 3, 64])
def test_points_that_coincide_have_no_angle_and_no_gradient(dim, dtype, c):
    """As where a label without texts starts on its parent: whole batches must not be lost to it."""
    gen = torch.Generator().manual_seed(dim)
    rows = torch.randn(500, dim, dtype=dtype, generator=gen) / dim**0.5
    rows = torch.cat([rows, rows * 1e-30, rows * 8])
    u, v = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    angle = cones.polar_exterior_angle(u, v, c=c)
    assert not angle.any()
    for gradient in torch.autograd.grad(angle.sum(), (u, v)):
        assert not gradient.any()
    energy = cones.polar_cone_energy(u, v, c=c)
    assert not energy.any()
    near = (rows * (1 + 1e-6)).requires_grad_()
    cones.polar_cone_energy(u, near, c=c).sum().backward()
    assert u.grad.isfinite().all()
    assert near.grad.isfinite().all()
