"""Distances out of elementary functions, for ONNX, beside the exact ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperlm.manifolds import _polar_plain, polar


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    c=st.sampled_from([0.25, 1.0, 4.0]),
    radius=st.floats(0, 12),
    near=st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 1.0]),
)
def test_the_error_is_at_most_what_the_module_says(seed, c, radius, near) -> None:
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    u *= radius / c**0.5 / u.norm(dim=1, keepdim=True)
    v = u + near * torch.randn(5, 6, generator=generator, dtype=torch.float64)
    curvature = torch.tensor(c, dtype=torch.float64)
    radii_u, radii_v = c**0.5 * u.norm(dim=1), c**0.5 * v.norm(dim=1)
    paired = _polar_plain.paired(u, v, curvature), polar.dist(u, v, c), radii_u
    pairwise = (
        _polar_plain.pairwise(u, v, curvature),
        polar.pairwise_dist(u, v, c),
        radii_u[:, None],
    )
    for found, exact, a in (paired, pairwise):
        allowed = 1e-7 * (a.sinh() * radii_v.sinh()).sqrt() / c**0.5 + 1e-12 * exact
        assert ((found - exact).abs() <= allowed + 1e-12).all()


@pytest.mark.parametrize("c", [0.25, 4.0])
def test_origin_cap_and_type_are_those_of_the_exact_distances(c) -> None:
    u = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e6, 0.0]])
    found = _polar_plain.pairwise(u, u[:2], torch.tensor(c))
    torch.testing.assert_close(found, polar.pairwise_dist(u, u[:2], c))
    assert found.dtype == torch.float32
