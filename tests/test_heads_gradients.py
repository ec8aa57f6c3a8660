"""Gradients of heads, and curvatures that are learned."""

import math

import pytest
import torch
from tiny_heads import LEARNABLE, LOSSES, SPACES, WIDTH, batch, make

from hyperlm.heads.hyperbolic import CURVATURE_BOUNDS
from hyperlm.optim import build_optimizer

# --- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("geometry", "coordinates"), SPACES)
def test_gradient_of_the_loss_agrees_with_finite_differences(geometry, coordinates, loss):
    """Directional derivatives: the head computes in float32, so steps and tolerances are wide."""
    learn = (geometry, coordinates) in LEARNABLE
    head = make(geometry, coordinates, loss=loss, learn_curvature=learn)
    hidden, ends = batch(head.taxonomy, 8)
    hidden = hidden.double().requires_grad_()
    parameters = [p for n, p in head.named_parameters() if n != "points"]
    loss_now = head(hidden, ends).loss
    grads = torch.autograd.grad(loss_now, [hidden, *parameters])
    generator = torch.Generator().manual_seed(1)
    for value, grad in zip([hidden, *parameters], grads, strict=True):
        direction = torch.randn(value.shape, generator=generator).to(value.dtype)
        direction = direction / direction.norm().clamp(min=1e-12)
        step = 1e-2
        with torch.no_grad():
            start = value.clone()
            value.copy_(start + step * direction)
            high = head(hidden, ends).loss.item()
            value.copy_(start - step * direction)
            low = head(hidden, ends).loss.item()
            value.copy_(start)
        assert (high - low) / (2 * step) == pytest.approx(
            float((grad * direction).sum()), abs=3e-3, rel=3e-2
        )


@pytest.mark.parametrize(("geometry", "coordinates"), SPACES)
def test_gradients_are_finite_at_the_origin_at_coincidence_and_far_out(geometry, coordinates):
    head = make(geometry, coordinates)
    with torch.no_grad():
        far = torch.zeros(len(head.taxonomy), head.dim)
        far[1, 0] = 8.0  # row 0 sits at the origin
        head.set_node_tangents(far)
        hidden = torch.zeros(2, WIDTH)  # projects to the origin as well
    hidden.requires_grad_()
    head(hidden, torch.tensor(head.taxonomy.terminals[:2].copy())).loss.backward()
    for value in (hidden, *head.parameters()):
        assert value.grad is not None
        assert torch.isfinite(value.grad).all()


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-24, 1e-21, 1e-18, 1.0, 1e4])
@pytest.mark.parametrize("max_radius", [0.5, float("inf"), None])
def test_gradients_of_short_and_long_hidden_states_are_finite(size, max_radius):
    head = make(max_radius=max_radius)
    hidden, ends = batch(head.taxonomy, 8)
    hidden = (size * hidden).requires_grad_()
    head(hidden, ends).loss.backward()
    assert hidden.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("bound", CURVATURE_BOUNDS)
def test_a_curvature_may_start_next_to_a_bound(bound):
    inside = math.nextafter(bound, 1.0)
    head = make(curvature=inside, learn_curvature=True)
    assert float(head.c.detach()) == pytest.approx(inside, rel=1e-4)
    learned = make(curvature=2.0, learn_curvature=True).bfloat16()
    assert learned.c.dtype == torch.float32


def test_a_text_beyond_the_clip_is_moved_back_to_it():
    head = make(max_radius=2.0, start_radius=100.0)
    hidden, _ = batch(head.taxonomy)
    radius = head.space().dist0(head(hidden).points)
    torch.testing.assert_close(radius, torch.full_like(radius, 2.0), atol=1e-3, rtol=0)


# --- curvature ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("geometry", "coordinates"), LEARNABLE)
def test_learned_curvature_gets_a_gradient_and_the_points_manifold_follows(geometry, coordinates):
    head = make(geometry, coordinates, learn_curvature=True, curvature=1.5)
    assert head.c.item() == pytest.approx(1.5, rel=1e-5)
    optimizer = build_optimizer(head, learning_rate=0.1, point_learning_rate=0.01)
    hidden, ends = batch(head.taxonomy)
    for _ in range(3):
        optimizer.zero_grad()
        head(hidden, ends).loss.backward()
        assert head.curvature_logit.grad.abs() > 0
        optimizer.step()
    assert abs(head.c.item() - 1.5) > 1e-3
    head(hidden)
    assert float(head.points.manifold.c) == pytest.approx(head.c.item())
    assert not getattr(head.points.manifold.c, "requires_grad", False)
    inside, reason = head.points.manifold.check_point_on_manifold(
        head.points.detach(), explain=True, atol=1e-4
    )
    assert inside, reason


@pytest.mark.parametrize("sign", [-1, 1])
def test_learned_curvature_stays_within_its_bounds(sign):
    head = make(learn_curvature=True)
    optimizer = torch.optim.SGD([head.curvature_logit], lr=1e3)
    for _ in range(5):
        optimizer.zero_grad()
        (sign * head.c).backward()
        optimizer.step()
    low, high = CURVATURE_BOUNDS
    assert low * 0.999 <= head.c.item() <= high * 1.001
    hidden, ends = batch(head.taxonomy)
    assert torch.isfinite(head(hidden, ends).loss)


@pytest.mark.parametrize(("geometry", "coordinates"), LEARNABLE)
def test_a_changing_curvature_keeps_points_in_the_space(geometry, coordinates):
    """c from 1 to nearly 20 shrinks the ball; points must still be points of the new one."""
    head = make(geometry, coordinates, learn_curvature=True, init_step=0.3)
    optimizer = build_optimizer(head, learning_rate=0.3, point_learning_rate=0.01)
    hidden, ends = batch(head.taxonomy)
    for _ in range(20):
        optimizer.zero_grad()
        loss = head(hidden, ends).loss - 10 * head.c
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    head(hidden)
    assert head.c.item() > 10
    inside, reason = head.points.manifold.check_point_on_manifold(
        head.points.detach(), explain=True, atol=1e-4
    )
    assert inside, reason
