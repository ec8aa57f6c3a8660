"""Two optimisers behind one interface: schedulers, checkpoints and clipping find what they need."""

import copy
import pickle

import pytest
import torch
from torch import nn

from hyperlm import HyperbolicHead, LinearHead
from hyperlm.errors import ModelError, OptionError
from hyperlm.heads import start_from_texts
from hyperlm.manifolds import ManifoldParameter, PoincareBall, RiemannianAdam
from hyperlm.optim import SplitOptimizer, build_optimizer, clip_gradients, points_of
from hyperlm.taxonomy import Taxonomy


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b) for a in "xy" for b in "pqr"])


class Model(nn.Module):
    """A body with a matrix, a bias and a norm, and a head."""

    def __init__(self, head: nn.Module | None = None, **options) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
        self.head = head or HyperbolicHead(8, tree(), 4, dropout=0.0, **options)

    def forward(self, x, targets=None):
        return self.head(self.body(x), targets)


def batch(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 8, generator=generator), torch.randint(2, 8, (16,), generator=generator)


def steps(model, optimizer, seeds, scheduler=None):
    losses = []
    for seed in seeds:
        optimizer.zero_grad()
        loss = model(*batch(seed)).loss
        loss.backward()
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


def built(model, **rates):
    return build_optimizer(
        model, **{"learning_rate": 1e-2, "point_learning_rate": 3e-2, "weight_decay": 0.1, **rates}
    )


# --- groups --------------------------------------------------------------------------------------


def group_of(optimizer: SplitOptimizer, parameter: nn.Parameter) -> dict:
    (group,) = [
        group for group in optimizer.param_groups if any(p is parameter for p in group["params"])
    ]
    return group


def test_every_parameter_has_one_group_and_its_own_rates():
    model = Model(learn_curvature=True)
    optimizer = built(model, head_learning_rate=5e-3)
    head, body = model.head, model.body
    for name, parameter in model.named_parameters():
        group = group_of(optimizer, parameter)
        if parameter is head.points:
            assert group["lr"] == 3e-2
        else:
            assert group["lr"] == (5e-3 if name.startswith("head.") else 1e-2), name
    decayed = {
        name
        for name, parameter in model.named_parameters()
        if group_of(optimizer, parameter).get("weight_decay")
    }
    assert decayed == {"body.0.weight", "head.projections.0.linear.weight"}
    assert isinstance(optimizer.parts["flat"], torch.optim.AdamW)
    assert isinstance(optimizer.parts["points"], RiemannianAdam)
    assert points_of(model) == [head.points]
    assert body[0].weight is not head.points


def test_a_bare_head_and_a_linear_head_have_optimisers_too():
    bare = HyperbolicHead(8, tree(), 4)
    assert group_of(built(bare, head_learning_rate=7e-3), bare.bias)["lr"] == 7e-3
    model = Model(LinearHead(8, tree(), 4))
    for rate, nodes in ((None, 7e-3), (0.05, 0.05), (0.0, 0.0)):
        optimizer = built(model, head_learning_rate=7e-3, point_learning_rate=rate)
        assert list(optimizer.parts) == ["flat"]
        assert group_of(optimizer, model.head.weight)["lr"] == nodes
        assert group_of(optimizer, model.head.weight)["weight_decay"] == 0.1
        projection = model.head.projections[0].linear.weight
        assert group_of(optimizer, projection)["lr"] == 7e-3
    assert group_of(optimizer, model.head.bias)["weight_decay"] == 0


def test_frozen_parameters_are_left_out():
    model = Model()
    model.body.requires_grad_(False)
    optimizer = built(model)
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert inside == {id(p) for p in model.head.parameters()}


def test_points_alone_can_be_trained():
    model = Model()
    model.requires_grad_(False)
    model.head.points.requires_grad_()
    optimizer = built(model)
    assert list(optimizer.parts) == ["points"]
    before = model.head.points.detach().clone()
    steps(model, optimizer, range(2))
    assert not torch.equal(model.head.points, before)


def test_weight_decay_pulls_neither_points_nor_biases():
    """With no gradient, decay is all that an optimiser does."""
    model = Model()
    optimizer = built(model, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"body.0.weight", "head.projections.0.linear.weight"}


def test_points_that_a_load_made_plain_or_flat_are_put_back():
    model = Model()
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    model.head.points = nn.Parameter(model.head.points.data)
    bare = HyperbolicHead(8, tree(), 4, coordinates="native")
    bare.points = ManifoldParameter(bare.points.data)  # as accelerate makes it: in flat space
    for found, head in ((model, model.head), (bare, bare)):
        points = built(found).parts["points"]
        assert isinstance(points, RiemannianAdam)
        assert points.param_groups[0]["params"] == [head.points]
        assert type(head.points.manifold) is type(head.storage())


# --- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", ["poincare", "lorentz", "euclidean"])
@pytest.mark.parametrize("coordinates", ["tangent", "native"])
def test_a_restored_run_continues_identically(geometry, coordinates, tmp_path):
    model = Model(geometry=geometry, coordinates=coordinates)
    optimizer = built(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    steps(model, optimizer, range(3), scheduler)
    torch.save(
        {"m": model.state_dict(), "o": optimizer.state_dict(), "s": scheduler.state_dict()},
        tmp_path / "state.pt",
    )
    expected = steps(model, optimizer, range(3, 8), scheduler)

    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    other = Model(geometry=geometry, coordinates=coordinates)
    resumed = built(other)
    later = torch.optim.lr_scheduler.LambdaLR(resumed, lambda step: 1 / (1 + step))
    other.load_state_dict(stored["m"])
    resumed.load_state_dict(stored["o"])
    later.load_state_dict(stored["s"])
    assert steps(other, resumed, range(3, 8), later) == expected
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_state_of_another_kind_of_model_is_refused():
    linear = built(Model(LinearHead(8, tree(), 4)))
    with pytest.raises(ModelError, match=r"holds \['flat'\], this run needs \['flat', 'points'\]"):
        built(Model()).load_state_dict(linear.state_dict())


def test_a_scheduler_reaches_both_parts_also_after_a_restore():
    model = Model()
    optimizer = built(model)
    for part in optimizer.parts.values():
        assert all(any(g is h for h in optimizer.param_groups) for g in part.param_groups)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step else 1.0)
    steps(model, optimizer, [0], scheduler)  # the step after which the rate is zero
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}
    before = [p.detach().clone() for p in model.parameters()]
    steps(model, optimizer, [1])
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_closures_zero_grad_and_state_are_those_of_an_optimiser():
    model = Model()
    optimizer = built(model)
    assert isinstance(optimizer, torch.optim.Optimizer)

    def closure():
        optimizer.zero_grad()
        loss = model(*batch(0)).loss
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) > 0
    assert set(optimizer.state) == set(model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_steps_equal_those_of_the_two_optimisers_by_themselves():
    one, two = Model(), Model()
    optimizer = built(one)
    points = [two.head.points]
    others = [p for p in two.parameters() if p is not two.head.points]
    decays = [p for p in others if p.dim() > 1]
    adamw = torch.optim.AdamW(
        [
            {"params": decays, "weight_decay": 0.1},
            {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=1e-2,
    )
    riemannian = RiemannianAdam(points, lr=3e-2)
    for seed in range(5):
        for model, parts in ((one, [optimizer]), (two, [adamw, riemannian])):
            model.zero_grad()
            model(*batch(seed)).loss.backward()
            for part in parts:
                part.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


# --- clipping ------------------------------------------------------------------------------------


def point_near_the_boundary(length: float) -> ManifoldParameter:
    ball = PoincareBall(1.0)
    return ManifoldParameter(ball.from_polar(torch.tensor([[length, 0.0]])), manifold=ball)


def test_points_are_clipped_by_their_riemannian_norm_and_leave_the_rest_alone():
    flat = nn.Parameter(torch.zeros(3))
    flat.grad = torch.tensor([0.3, 0.0, 0.4])
    point = point_near_the_boundary(8.0)
    factor = float(PoincareBall(1.0).lambda_x(point.detach()))
    point.grad = torch.tensor([[5.0 * factor, 0.0]])  # Riemannian norm 5, Euclidean thousands
    assert point.grad.norm() > 1000
    norm = clip_gradients([flat, point], 1.0)
    assert float(norm) == pytest.approx(0.5)
    torch.testing.assert_close(flat.grad, torch.tensor([0.3, 0.0, 0.4]))  # below the limit
    gradient = point.manifold.egrad2rgrad(point.detach(), point.grad)
    assert float(point.manifold.norm(point.detach(), gradient)) == pytest.approx(1.0, rel=1e-4)


def test_small_gradients_are_left_alone_and_large_ones_keep_their_direction():
    flat = nn.Parameter(torch.zeros(2))
    flat.grad = torch.tensor([30.0, 40.0])
    point = point_near_the_boundary(0.5)
    small = torch.tensor([[1e-3, 2e-3]])
    point.grad = small.clone()
    assert float(clip_gradients([flat, point], 2.0)) == pytest.approx(50.0)
    torch.testing.assert_close(flat.grad, torch.tensor([1.2, 1.6]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(point.grad, small)


def test_no_limit_clips_nothing_and_gives_the_norm():
    flat, point = nn.Parameter(torch.zeros(2)), point_near_the_boundary(2.0)
    flat.grad, point.grad = torch.tensor([3.0, 4.0]), torch.tensor([[50.0, 1.0]])
    assert float(clip_gradients([flat, point], float("inf"))) == pytest.approx(5.0)
    assert flat.grad.tolist() == [3.0, 4.0]
    assert point.grad.tolist() == [[50.0, 1.0]]
    point.grad = torch.zeros(1, 2)
    clip_gradients([point], 0.0)
    assert point.grad.tolist() == [[0.0, 0.0]]


def test_clipping_nothing_at_all():
    assert float(clip_gradients([nn.Parameter(torch.zeros(2))], 1.0)) == 0
    point = point_near_the_boundary(1.0)
    point.grad = torch.ones(1, 2)
    assert float(clip_gradients([point], 1.0)) == 0


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_is_whole(again):
    model = Model()
    optimizer = build_optimizer(model, learning_rate=1e-2)
    steps(model, optimizer, range(2))
    other = again(optimizer)
    assert list(other.parts) == list(optimizer.parts)
    assert [group["lr"] for group in other.param_groups] == [1e-2, 1e-2, 1e-2, 1e-2, 3e-2]
    assert len(other.state) == len(optimizer.state)


def test_groups_that_are_added_move():
    model = Model()
    optimizer = build_optimizer(model, learning_rate=1e-2)
    extra, head = nn.Linear(8, 8), HyperbolicHead(8, tree(), 4)
    optimizer.add_param_group({"params": extra.parameters(), "lr": 0.5})
    optimizer.add_param_group({"params": head.points, "lr": 0.25})
    before = [extra.weight.detach().clone(), head.points.detach().clone()]
    (extra.weight.sum() + head.points.sum()).backward()
    optimizer.step()
    assert not torch.equal(before[0], extra.weight)
    assert not torch.equal(before[1], head.points)
    assert {0.5, 0.25} <= {group["lr"] for group in optimizer.param_groups}
    with pytest.raises(ModelError, match="either points or other parameters"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1)), head.points]})
    flat = build_optimizer(nn.Linear(2, 2), learning_rate=1e-2)
    with pytest.raises(ModelError, match="has \\['flat'\\]"):
        flat.add_param_group({"params": [HyperbolicHead(8, tree(), 4).points]})


def test_a_rate_of_zero_is_zero():
    model = Model()
    optimizer = build_optimizer(model, learning_rate=1e-2, head_learning_rate=0.0)
    before = [value.detach().clone() for value in model.head.projections.parameters()]
    steps(model, optimizer, range(2))
    for old, new in zip(before, model.head.projections.parameters(), strict=True):
        assert torch.equal(old, new)


def test_points_that_are_placed_anew_stay_those_of_their_optimiser():
    """An optimiser that was made before start_from_texts() must not hold others."""
    model = Model()
    optimizer = built(model)
    (held,) = points_of(model)
    hidden, ends = batch(0)
    start_from_texts(model.head, hidden, ends)
    assert model.head.points is held
    before = held.detach().clone()
    steps(model, optimizer, range(3))
    assert (held - before).norm(dim=1).min() > 0


def test_schedulers_that_turn_the_betas_and_closures_find_what_they_need():
    model = Model()
    optimizer = built(model)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    before = [group["betas"] for group in optimizer.param_groups]
    steps(model, optimizer, range(3), scheduler)
    assert all(
        group["betas"] != old for group, old in zip(optimizer.param_groups, before, strict=True)
    )

    def closure():
        optimizer.zero_grad()
        loss = model(*batch(0)).loss
        loss.backward()
        return loss

    with torch.no_grad():  # as schedulers and loggers around a step may have it
        assert optimizer.step(closure).requires_grad


@pytest.mark.parametrize("rate", [-1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["learning_rate", "point_learning_rate", "weight_decay"])
def test_rates_out_of_range_are_refused(name, rate):
    with pytest.raises(OptionError, match=name):
        built(Model(), **{name: rate})
