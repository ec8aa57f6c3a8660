"""Polar distances against long arithmetic, closed forms, and whatever a caller may pass."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import _polar_ops, nearest, polar

CURVATURES = [0.25, 1.0, 4.0]
DTYPES = [torch.float32, torch.float64]
# Relative error allowed in a distance, by dtype; geometry.md asks for 1e-5 in float32.
RELATIVE = {torch.float32: 2e-7, torch.float64: 1e-11}


def oracle(u, v, c):
    """Hyperbolic law of cosines in plain form, at 60 digits beyond what cancels."""
    with mpmath.workdps(250):
        u, v = ([mpmath.mpf(float(t)) for t in w] for w in (u, v))
        s = mpmath.sqrt(mpmath.mpf(c))
        a, b = (s * mpmath.sqrt(sum(t * t for t in w)) for w in (u, v))
        if a == 0 or b == 0:
            return (a + b) / s
        cos = s * s * sum(x * y for x, y in zip(u, v, strict=True)) / (a * b)
        x = mpmath.cosh(a) * mpmath.cosh(b) - mpmath.sinh(a) * mpmath.sinh(b) * cos
        return mpmath.acosh(max(x, mpmath.mpf(1))) / s


def hard_points(radius, dtype, dim=4):
    """Rows far apart, nearly coincident, coincident, opposite, at the origin."""
    gen = torch.Generator().manual_seed(int(radius * 10))
    u = torch.randn(6, dim, dtype=dtype, generator=gen)
    u = u / u.norm(dim=-1, keepdim=True) * radius
    noise = torch.randn(6, dim, dtype=dtype, generator=gen)
    return u, torch.cat(
        [
            u,
            u * (1 + 1e-6 * noise),
            u * (1 + 1e-4 * noise),
            u + 1e-2 * noise,
            u * (1 - 2**-10),
            -u[:2],
            noise[:2],
            torch.zeros(1, dim, dtype=dtype),
        ]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c", CURVATURES)
@pytest.mark.parametrize("scaled_radius", [1e-3, 1, 5, 8, 10, 20])
def test_distances_match_long_arithmetic_at_every_radius(scaled_radius, c, dtype):
    u, v = hard_points(scaled_radius / c**0.5, dtype)
    paired = polar.dist(u[:, None], v[None], c)
    for found in (polar.pairwise_dist(u, v, c), paired):
        for i in range(len(u)):
            for j in range(len(v)):
                exact = oracle(u[i], v[j], c)
                assert abs(float(found[i, j]) - exact) <= RELATIVE[dtype] * exact + 1e-14


def test_float32_holds_up_to_radius_80():
    u, v = hard_points(80.0, torch.float32)
    found = polar.pairwise_dist(u, v, 1.0)
    for i in range(6):
        for j in range(0, len(v), 3):
            exact = oracle(u[i], v[j], 1.0)
            assert abs(float(found[i, j]) - exact) <= 1e-6 * exact + 1e-14


def test_tiling_does_not_show(monkeypatch):
    u, v = hard_points(6.0, torch.float64)
    whole = polar.pairwise_dist(u, v)
    monkeypatch.setattr(_polar_ops, "_TILE", 7)
    monkeypatch.setattr(_polar_ops, "_PAIR_ELEMENTS", 8)
    torch.testing.assert_close(polar.pairwise_dist(u, v), whole)
    big = torch.randn(600, 3, dtype=torch.float64)
    monkeypatch.setattr(_polar_ops, "_TILE", 1 << 10)
    torch.testing.assert_close(
        polar.pairwise_dist(big, v[:, :3]), polar.pairwise_dist(v[:, :3], big).T
    )


@pytest.mark.parametrize("c", CURVATURES)
def test_gradcheck_reaches_points_and_curvature(c):
    gen = torch.Generator().manual_seed(0)
    u = torch.randn(4, 3, dtype=torch.float64, generator=gen).requires_grad_()
    v = torch.randn(5, 3, dtype=torch.float64, generator=gen)
    v[0] = u[0].detach() * (1 + 1e-3)
    v.requires_grad_()
    curvature = torch.tensor(c, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(polar.pairwise_dist, (u, v, curvature))
    assert torch.autograd.gradcheck(polar.dist, (u[:, None], v, curvature))
    # One point at the origin: smooth there, as long as the other is elsewhere.
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(polar.pairwise_dist, (zero, v, curvature))


@pytest.mark.parametrize("radius", [0.5, 8.0, 20.0])
def test_float32_gradients_of_close_pairs_match_float64_of_dist(radius):
    u, v = hard_points(radius, torch.float32)
    v = v[6:]  # without the exact copies, which have no gradient
    weight = torch.rand(len(u), len(v))
    u32, v32 = u.clone().requires_grad_(), v.clone().requires_grad_()
    (polar.pairwise_dist(u32, v32) * weight).sum().backward()
    u64, v64 = u.double().requires_grad_(), v.double().requires_grad_()
    (polar.dist(u64[:, None], v64[None]) * weight.double()).sum().backward()
    for found, exact in ((u32, u64), (v32, v64)):
        error = (found.grad - exact.grad).norm(dim=-1) / exact.grad.norm(dim=-1)
        assert error.max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", [polar.pairwise_dist, polar.dist])
def test_gradients_are_finite_at_the_origin_at_coincidence_and_far_out(function, dtype):
    rows = torch.tensor([[0.0, 0, 0], [1e-30, 0, 0], [1, 2, 2], [1, 2, 2], [12, 16, 0], [0, 0, 40]])
    u = rows.to(dtype).requires_grad_()
    v = rows.to(dtype).requires_grad_()
    c = torch.tensor(1.0, requires_grad=True)
    out = function(u, v, c)
    assert out.dtype == torch.float32
    out.sum().backward()
    for tensor in (out, u.grad, v.grad, c.grad):
        assert torch.isfinite(tensor).all()
    assert u.grad.dtype == dtype


def test_coincident_points_have_distance_zero_and_gradient_zero():
    u = torch.tensor([[3.0, 4.0]], requires_grad=True)
    out = polar.pairwise_dist(u, u.detach(), 1.0)
    out.sum().backward()
    assert out.item() == 0
    assert (u.grad == 0).all()


def test_at_the_origin_the_gradient_points_away_from_the_other_point():
    u = torch.zeros(1, 2, requires_grad=True)
    polar.pairwise_dist(u, torch.tensor([[0.0, 9.0]]), 1.0).sum().backward()
    torch.testing.assert_close(u.grad, torch.tensor([[0.0, -1.0]]))


def test_autocast_changes_nothing():
    u, v = torch.randn(5, 8), torch.randn(7, 8)
    plain = polar.pairwise_dist(u, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = polar.pairwise_dist(u, v)
        half = polar.pairwise_dist(u.bfloat16(), v)
    assert torch.equal(inside, plain)
    torch.testing.assert_close(half, plain, rtol=0.05, atol=0.05)


def test_bad_rows_stay_in_their_rows_and_are_named():
    u = torch.randn(5, 3)
    u[1, 0], u[3, 2] = math.nan, math.inf
    out = polar.pairwise_dist(u, torch.randn(4, 3))
    assert torch.isnan(out[[1, 3]]).all()
    assert torch.isfinite(out[[0, 2, 4]]).all()
    with pytest.raises(OffManifoldError, match=r"hidden: 2 of 5 rows .*rows 1, 3"):
        polar.check_finite(u, "hidden")
    polar.check_finite(torch.randn(4, 3))


def test_huge_finite_inputs_give_finite_distances():
    out = polar.pairwise_dist(torch.tensor([[1e30, 0.0], [3e38, 3e38]]), torch.eye(2))
    assert torch.isfinite(out).all()


def test_wrong_arguments_are_explained():
    with pytest.raises(OptionError, match=r"\(N, d\) and \(M, d\), got \(2, 3\) and \(2, 4\)"):
        polar.pairwise_dist(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(OptionError, match="must be positive"):
        polar.dist(torch.zeros(2, 3), torch.zeros(2, 3), -1.0)


def test_empty_inputs_give_empty_results():
    assert polar.pairwise_dist(torch.zeros(0, 3), torch.zeros(4, 3)).shape == (0, 4)
    assert polar.dist(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)


def test_flat_limit():
    u, v = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(
        polar.pairwise_dist(u, v, 1e-10), torch.cdist(u, v), rtol=1e-8, atol=0
    )


vectors = st.lists(st.floats(-10, 10, width=32), min_size=9, max_size=9)


@settings(max_examples=60, deadline=None)
@given(vectors, st.sampled_from(CURVATURES), st.sampled_from(DTYPES))
def test_metric_axioms(values, c, dtype):
    u = torch.tensor(values, dtype=dtype).reshape(3, 3)
    d = polar.pairwise_dist(u, u, c)
    slack = 1e-6 * float(d.max()) + 1e-12
    assert (d.diagonal() == 0).all()
    assert (d >= 0).all()
    assert ((d - d.T).abs() <= slack).all()
    assert (d[:, None, :] <= d[:, :, None] + d[None] + slack).all()


class Scores(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.points = torch.nn.Parameter(torch.randn(7, 3))
        self.log_c = torch.nn.Parameter(torch.zeros(()))

    def forward(self, u):
        c = self.log_c.exp()
        return -polar.pairwise_dist(u, self.points, c), polar.dist(u, u.flip(0), c)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own tracing
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_to_one_graph_with_gradients(backend):
    torch._dynamo.reset()
    scores, u = Scores(), torch.randn(5, 3)
    expected = scores(u)
    found = torch.compile(scores, fullgraph=True, backend=backend)(u)
    torch.testing.assert_close(found, expected)
    found[0].sum().backward()
    compiled = scores.points.grad.clone(), scores.log_c.grad.clone()
    scores.zero_grad()
    expected[0].sum().backward()
    torch.testing.assert_close(compiled, (scores.points.grad, scores.log_c.grad))


def test_exports_with_a_dynamic_batch():
    scores = Scores()
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(scores, (torch.randn(5, 3),), dynamic_shapes=({0: batch},))
    u = torch.randn(11, 3)
    torch.testing.assert_close(exported.module()(u), scores(u))


def test_operators_pass_torchs_own_checks():
    u = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    v = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    c = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    # AOT dynamic-shape checks are covered, more cheaply, by the export test above.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_polar_ops.pairwise, (u, v, c), test_utils=checks)
    torch.library.opcheck(_polar_ops.paired, (u, v, c), test_utils=checks)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("ask", [torch.func.jvp, torch.autograd.functional.jvp, "dual"])
@pytest.mark.parametrize("argument", [0, 1, 2])
@pytest.mark.parametrize("distances", [polar.dist, polar.pairwise_dist])
def test_forward_mode_is_refused_and_never_zero(distances, argument, ask):
    values = [torch.randn(3, 2, dtype=torch.float64) for _ in range(2)]
    values.append(torch.tensor(0.7, dtype=torch.float64))
    direction = torch.ones_like(values[argument])

    def function(x):
        return distances(*values[:argument], x, *values[argument + 1 :])

    def derivative():
        if ask != "dual":
            return ask(function, (values[argument],), (direction,))[1]
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(values[argument], direction)
            return forward_ad.unpack_dual(function(dual)).tangent

    with pytest.raises((NotImplementedError, RuntimeError), match="forward|no autograd formula"):
        derivative()


@pytest.mark.parametrize("k", [1, 3, 50])
def test_nearest_in_blocks_equals_sorting_everything(k):
    gen = torch.Generator().manual_seed(0)
    queries = 5 * torch.randn(4, 6, generator=gen)
    points = 5 * torch.randn(50, 6, generator=gen)
    dist, index = nearest(queries, points, k, block=40)
    expected = polar.pairwise_dist(queries, points).sort(dim=1)
    torch.testing.assert_close(dist, expected.values[:, :k])
    assert torch.equal(index, expected.indices[:, :k])
    with pytest.raises(OptionError, match="k = 51"):
        nearest(queries, points, 51)
