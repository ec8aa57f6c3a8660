"""Distances of every geometry inside torch.compile(fullgraph=True) and torch.export."""

import pytest
import torch
from torch import Tensor, nn

from hyperlm.manifolds import Euclidean, Lorentz, PoincareBall, TangentBall

SPACES = [PoincareBall(0.25), PoincareBall(4.0), Lorentz(0.25), Lorentz(4.0), TangentBall(4.0)]
SPACES.append(Euclidean())


class Distances(nn.Module):
    def __init__(self, space) -> None:
        super().__init__()
        self.space = space

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.space.dist(x, y[:1]), self.space.pairwise_dist(x, y)


def points(space):
    generator = torch.Generator().manual_seed(0)
    x = space.from_polar(torch.randn(5, 3, generator=generator))
    y = space.from_polar(torch.randn(4, 3, generator=generator))
    y[0] = x[0]  # a coincident pair takes the exact path
    return x, y


@pytest.mark.parametrize("space", SPACES, ids=lambda s: f"{type(s).__name__}-{float(s.c):g}")
def test_compiles_in_one_graph_with_equal_values_and_gradients(space):
    module = Distances(space)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    found, expected = [], []
    for call, results in ((compiled, found), (module, expected)):
        x, y = (part.clone().requires_grad_() for part in points(space))
        one, all_pairs = call(x, y)
        (one.sum() + all_pairs.sum()).backward()
        results += [one.detach(), all_pairs.detach(), x.grad, y.grad]
    for got, want in zip(found, expected, strict=True):
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: f"{type(s).__name__}-{float(s.c):g}")
def test_exports_with_a_dynamic_number_of_rows(space):
    module = Distances(space)
    x, y = points(space)
    rows = torch.export.Dim("rows", min=2, max=512)
    program = torch.export.export(module, (x, y), dynamic_shapes=({0: rows}, None))
    fresh = torch.cat([x, x.flip(0)])
    for got, want in zip(program.module()(fresh, y), module(fresh, y), strict=True):
        torch.testing.assert_close(got, want)
