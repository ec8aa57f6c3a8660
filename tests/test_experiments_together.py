"""Heads trained together are heads trained alone.

Features are synthetic: a random centre per class and a little noise.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from experiment_data import BASE, DAG, TREE, features, head_of

from hyperlm.errors import OptionError
from hyperlm.experiments.fitting import fit_alone, fit_together, schedule, training_rows
from hyperlm.experiments.measure import node_logits
from hyperlm.experiments.settings import HeadRun
from hyperlm.experiments.stacked import StackedHeads
from hyperlm.experiments.stacked_distances import Acosh, Lift, Root, squares
from hyperlm.lm.batches import targets_of
from hyperlm.manifolds import polar

SHAPES = {
    "poincare": replace(BASE, curvature=1.0),
    "poincare, c = 4": replace(BASE, curvature=4.0, init="tree"),
    "poincare, native": replace(BASE, coordinates="native", curvature=0.25),
    "lorentz": replace(BASE, geometry="lorentz", coordinates="native"),
    "euclidean": replace(BASE, geometry="euclidean", max_radius=0.6),
    "linear": replace(BASE, head="linear"),
    "path loss": replace(BASE, loss="path"),
    "leaf loss, no dropout": replace(BASE, loss="leaf", dropout=0.0),
    "half of the texts": replace(BASE, train_share=0.5),
    "one temperature": replace(BASE, temperatures="shared"),
    "temperature fixed": replace(BASE, temperatures="fixed", geometry="euclidean"),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("taxonomy", [TREE, DAG], ids=["tree", "DAG"])
def test_heads_trained_together_are_heads_trained_alone(name, taxonomy):
    shape = SHAPES[name]
    runs = [
        replace(shape, seed=3),
        replace(shape, seed=4, head_lr=3e-3),
        replace(shape, seed=4, node_lr=0.1),
    ]
    x, ends = features(taxonomy)
    together, alone = ([head_of(run, taxonomy) for run in runs] for _ in range(2))
    fit_together(together, x, ends, runs)
    for head, run in zip(alone, runs, strict=True):
        fit_alone(head, x, ends, run)
    start = node_logits(head_of(runs[0], taxonomy), x)
    for one, other in zip(together, alone, strict=True):
        got, wanted = node_logits(one, x), node_logits(other, x)
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
    assert float((node_logits(together[0], x) - start).abs().max()) > 0.1, "nothing was learnt"


def test_several_gold_paths_train_together_as_alone():
    x, ends = features(TREE)
    gold = [np.array(sorted({int(end), int(TREE.terminals[0])})) for end in ends]
    targets = targets_of(gold, TREE)
    assert targets.shape == (len(x), len(TREE))
    runs = [replace(BASE, seed=seed) for seed in (0, 1)]
    together, alone = ([head_of(run, TREE) for run in runs] for _ in range(2))
    fit_together(together, x, targets, runs)
    for one, other, run in zip(together, alone, runs, strict=True):
        fit_alone(other, x, targets, run)
        torch.testing.assert_close(node_logits(one, x), node_logits(other, x), rtol=1e-3, atol=1e-3)


def test_the_company_of_a_run_does_not_matter():
    x, ends = features(TREE)
    runs = [replace(BASE, seed=seed, head_lr=rate) for seed, rate in ((0, 1e-2), (1, 3e-3), (2, 1))]
    heads = [head_of(run, TREE) for run in runs]
    fit_together(heads, x, ends, runs)
    single = head_of(runs[1], TREE)
    fit_together([single], x, ends, runs[1:2])
    torch.testing.assert_close(
        node_logits(heads[1], x), node_logits(single, x), rtol=1e-4, atol=1e-4
    )


def test_the_rate_of_the_nodes_is_that_of_points_or_of_node_weights():
    x, ends = features(TREE)
    for shape in (SHAPES["poincare"], SHAPES["linear"]):
        run = replace(shape, node_lr=1e-12)
        head, name = head_of(run, TREE), "points" if shape.head == "points" else "weight"
        before = {key: value.clone() for key, value in head.state_dict().items()}
        fit_together([head], x, ends, [run])
        after = head.state_dict()
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
        assert not torch.allclose(after["bias"], before["bias"], atol=1e-3)


@pytest.mark.parametrize("together", [True, False])
def test_temperatures_are_learnt_by_level_as_one_or_not(together):
    x, ends = features(TREE)
    found = {}
    for kind in ("level", "shared", "fixed"):
        run = replace(BASE, temperatures=kind, temperature=7.0)
        head = head_of(run, TREE)
        if together:
            fit_together([head], x, ends, [run])
        else:
            fit_alone(head, x, ends, run)
        found[kind] = head.log_temperature.detach().exp()
        assert not head.log_temperature._backward_hooks
    assert found["level"][0] != found["level"][1]
    assert found["shared"][0] == found["shared"][1]
    assert abs(found["shared"][0] - 7) > 1e-3
    torch.testing.assert_close(found["fixed"], torch.full((2,), 7.0))


@pytest.mark.parametrize("kind", ["riemannian", "adamw"])
def test_a_first_step_moves_points_by_a_length_or_coordinates_by_themselves(kind):
    x, ends = features(TREE, count=400)
    run = replace(BASE, point_optimizer=kind, epochs=1, batch_size=400, warmup=0.0, node_lr=1e-3)
    assert run.stackable == (kind == "riemannian")
    head = head_of(run, TREE)
    before = head.node_tangents().detach().clone()
    fit_alone(head, x, ends, run)
    after = head.node_tangents().detach()
    if kind == "adamw":  # Adam's first step is the sign of the gradient, times the rate
        torch.testing.assert_close((after - before).abs(), torch.full_like(before, 1e-3))
    else:
        lengths = head.storage().dist(before, after)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 1e-3), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (replace(BASE, dim=8), "different shapes"),
        (replace(BASE, geometry="euclidean"), "different shapes"),
        (replace(BASE, cone_weight=1.0), "cone loss"),
        (replace(BASE, learn_curvature=True), "learned curvature"),
    ],
)
def test_what_does_not_fit_together_is_refused(other, match):
    assert other.stackable == ("different" in match)
    with pytest.raises(OptionError, match=match):
        StackedHeads([head_of(BASE, TREE), head_of(other, TREE)])


def test_runs_that_cannot_share_steps_train_alone():
    x, ends = features(TREE)
    for change in ({"cone_weight": 0.5, "text_cone_weight": 0.1}, {"learn_curvature": True}):
        run = replace(BASE, **change)
        head = head_of(run, TREE)
        fit_alone(head, x, ends, run)
        first = node_logits(head, x)
        again = head_of(run, TREE)
        fit_alone(again, x, ends, run)
        assert torch.equal(first, node_logits(again, x))
        assert float((first.argmax(1) >= 0).float().mean()) == 1.0


def test_learning_rates_rise_and_fall():
    factors = [schedule(step, 100, 0.1) for step in range(100)]
    assert factors[0] == 0
    assert max(factors) == factors[10] == 1
    assert factors[99] == pytest.approx(1 / 90)
    assert np.all(np.diff(factors[10:]) < 0)


def test_a_share_of_the_texts_is_drawn_by_the_seed():
    run = replace(BASE, train_share=0.25)
    rows = training_rows(40, run)
    assert len(rows) == len(set(rows.tolist())) == 10
    assert rows.tolist() == training_rows(40, run).tolist()
    assert rows.tolist() != training_rows(40, replace(run, seed=1)).tolist()
    assert training_rows(40, BASE).tolist() == list(range(40))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(OptionError, match="no points"):
        HeadRun(head="linear", init="tree")
    with pytest.raises(OptionError, match="train_share"):
        HeadRun(train_share=0.0)
    with pytest.raises(OptionError, match="head_lr"):
        HeadRun(head_lr=0)
    with pytest.raises(OptionError, match="'each' is unknown: level or shared or fixed"):
        HeadRun(temperatures="each")
    with pytest.raises(OptionError, match="Use tangent coordinates"):
        HeadRun(point_optimizer="adamw", coordinates="native")
    with pytest.raises(OptionError, match="without whitening"):
        HeadRun(point_optimizer="adamw", whiten=True)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("radius", [0.0, 1e-4, 0.5, 6.0])
def test_distances_of_many_heads_are_those_of_the_geometry_with_their_gradients(c, radius):
    random = torch.Generator().manual_seed(0)
    texts, nodes, weight = (torch.randn(2, n, 5, generator=random) for n in (7, 4, 7))
    texts = radius * texts / texts.norm(dim=-1, keepdim=True)
    weight = weight[..., :4]
    for ours, theirs in (
        (_in_the_ball(c), lambda x, y: polar.pairwise_dist(x.double(), y.double(), c)),
        (_in_flat_space, lambda x, y: torch.cdist(x.double(), y.double())),
    ):
        x, y = texts.clone().requires_grad_(), nodes.clone().requires_grad_()
        got = ours(x, y)
        wanted = torch.stack([theirs(x[head], y[head]) for head in range(2)])
        torch.testing.assert_close(got.double(), wanted, rtol=1e-6, atol=1e-6)
        grads = torch.autograd.grad((got * weight).sum(), (x, y))
        for one, other in zip(
            grads, torch.autograd.grad((wanted * weight).sum(), (x, y)), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_coinciding_points_have_no_distance_and_no_gradient():
    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for ours in (_in_the_ball(1.0), _in_flat_space):
        dist = ours(x, x.detach())
        assert float(dist.detach().diagonal(dim1=1, dim2=2).max()) < 1e-6
        same = dist.diagonal(dim1=1, dim2=2)
        (grad,) = torch.autograd.grad(same[same == 0].sum(), x)
        assert not grad.any()
        assert bool((same == 0).any())


def _in_the_ball(c):
    def dist(x, y):
        scale = c**0.5
        return Acosh.apply(Lift.apply(x, scale, 1.0) @ Lift.apply(y, scale, -1.0).mT) / scale

    return dist


def _in_flat_space(x, y):
    return Root.apply(squares(x) @ squares(y, against=True).mT)
