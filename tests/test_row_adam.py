"""Riemannian Adam on the rows of a batch: equal to the dense optimiser where all rows are used."""

import copy
import io

import pytest
import torch
from torch import nn

from hyperlm.errors import OptionError
from hyperlm.manifolds import (
    Euclidean,
    Lorentz,
    ManifoldParameter,
    PoincareBall,
    RiemannianAdam,
    TangentBall,
)
from hyperlm.manifolds.row_adam import RowAdam

SPACES = [PoincareBall, Lorentz, TangentBall]


def table(space, rows=6, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = space.random(rows, dim, dtype=torch.float64, generator=generator)
    return ManifoldParameter(points, manifold=space)


def gradients(points, steps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(points.shape, dtype=points.dtype, generator=generator) for _ in range(steps)
    ]


def sparse(grad, rows):
    rows = torch.as_tensor(rows)
    return torch.sparse_coo_tensor(rows[None], grad[rows], grad.shape, check_invariants=True)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("kind", SPACES)
def test_with_every_row_used_the_steps_are_those_of_the_dense_optimiser(kind, c):
    ours, dense = table(kind(c)), table(kind(c))
    mine = RowAdam([ours], lr=0.05)
    theirs = RiemannianAdam([dense], lr=0.05, betas=(0.9, 0.999), eps=1e-8)
    for grad in gradients(ours, 8):
        ours.grad, dense.grad = sparse(grad, range(len(grad))), grad.clone()
        mine.step()
        theirs.step()
    torch.testing.assert_close(ours.detach(), dense.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", SPACES)
def test_a_row_moves_as_if_it_were_alone(kind):
    """Rows used at different times: each takes the dense steps of its own gradients."""
    space = kind(1.0)
    points = table(space)
    start = points.detach().clone()
    optimizer = RowAdam([points], lr=0.1)
    uses = [[0, 1], [1, 3], [0, 3], [3], [1]]
    grads = gradients(points, len(uses))
    for grad, rows in zip(grads, uses, strict=True):
        points.grad = sparse(grad, rows)
        optimizer.step()
    for row in range(len(points)):
        alone = ManifoldParameter(start[row : row + 1].clone(), manifold=space)
        single = RiemannianAdam([alone], lr=0.1)
        for grad, rows in zip(grads, uses, strict=True):
            if row in rows:
                alone.grad = grad[row : row + 1].clone()
                single.step()
        torch.testing.assert_close(points.detach()[row], alone.detach()[0], rtol=1e-9, atol=1e-11)
    for untouched in (2, 4, 5):
        assert torch.equal(points.detach()[untouched], start[untouched])
        assert optimizer.state[points]["step"][untouched] == 0


def test_gradients_of_an_embedding_with_a_row_used_twice():
    space = TangentBall(1.0)
    layer = nn.Embedding(5, 3, sparse=True, dtype=torch.float64)
    layer.weight = table(space, rows=5)
    dense = table(space, rows=5)
    mine, theirs = RowAdam(layer.parameters(), lr=0.1), RowAdam([dense], lr=0.1)
    used = torch.tensor([1, 1, 4])
    layer(used).square().sum().backward()
    assert layer.weight.grad.is_sparse
    dense[used].square().sum().backward()
    assert not dense.grad.is_sparse
    mine.step()
    theirs.step()
    torch.testing.assert_close(layer.weight.detach(), dense.detach())


@pytest.mark.parametrize(
    ("steps", "lr", "dtype"), [(2_000, 1.0, torch.float32), (1_000, 0.1, torch.float64)]
)
def test_thousands_of_outward_steps_stay_inside(steps, lr, dtype):
    space = TangentBall(1.0)
    points = ManifoldParameter(0.1 * torch.eye(4, dtype=dtype), manifold=space)
    optimizer = RowAdam([points], lr=lr)
    rows = torch.tensor([[0, 2]])
    side = torch.full((2, 4), 1e-3, dtype=dtype)
    for _ in range(steps):
        outward = -points.detach()[rows[0]] + side
        points.grad = torch.sparse_coo_tensor(
            rows, outward, points.shape, is_coalesced=True, check_invariants=False
        )
        optimizer.step()
    assert torch.isfinite(points).all()
    assert points.norm(dim=1).max() <= space.radius_limit(dtype) * (1 + 1e-6)
    # Either takes them to the edge: staying inside is not for want of moving.
    assert points.norm(dim=1)[rows[0]].min() > 0.99 * space.radius_limit(dtype)


def test_state_survives_save_and_load():
    space = TangentBall(1.0)
    whole, cut = table(space), table(space)
    grads = gradients(whole, 6)
    uses = [[0, 1], [1, 2], [2, 0], [1], [0, 2], [2]]
    first, second = RowAdam([whole], lr=0.2), RowAdam([cut], lr=0.2)
    for number, (grad, rows) in enumerate(zip(grads, uses, strict=True)):
        whole.grad, cut.grad = sparse(grad, rows), sparse(grad, rows)
        if number == 3:
            file = io.BytesIO()
            torch.save(second.state_dict(), file)
            file.seek(0)
            cut = ManifoldParameter(cut.detach().clone(), manifold=space)
            cut.grad = sparse(grad, rows)
            second = RowAdam([cut], lr=0.7)
            second.load_state_dict(torch.load(file, weights_only=True))
        first.step()
        second.step()
    assert torch.equal(whole.detach(), cut.detach())


def test_a_closure_is_called_with_gradients_on():
    points = table(TangentBall(1.0))
    optimizer = RowAdam([points], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = points.square().sum()
        loss.backward()
        return float(loss.detach())

    before = optimizer.step(closure)
    assert float(points.detach().square().sum()) < before


def test_wrong_arguments_are_explained():
    points = table(TangentBall(1.0))
    for options in ({"lr": -1.0}, {"lr": float("nan")}, {"betas": (1.0, 0.9)}, {"eps": 0.0}):
        with pytest.raises(OptionError, match=next(iter(options))):
            RowAdam([points], **options)
    with pytest.raises(OptionError, match="no geometry"):
        RowAdam([nn.Parameter(torch.zeros(2, 2))])
    with pytest.raises(OptionError, match=r"\(N, d\)"):
        RowAdam([ManifoldParameter(torch.zeros(3), manifold=Euclidean())])


@pytest.mark.parametrize("kind", SPACES)
def test_tables_in_half_precision_move_as_those_in_full(kind):
    full = table(kind(1.0)).detach().float()
    half = ManifoldParameter(full.bfloat16(), manifold=kind(1.0))
    full = ManifoldParameter(half.detach().float(), manifold=kind(1.0))
    for points in (half, full):
        optimizer = RowAdam([points], lr=0.05)
        points.grad = gradients(full, 1)[0].to(points.dtype)
        optimizer.step()
        assert optimizer.state[points]["exp_avg"].dtype == torch.float32
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        points.grad = gradients(full, 1)[0].to(points.dtype)
        optimizer.step()
    torch.testing.assert_close(half.detach().float(), full.detach(), rtol=2e-2, atol=2e-2)
