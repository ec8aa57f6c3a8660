"""Heads as modules: what they say in every geometry, dtype and start, and what they refuse."""

import math

import pytest
import torch
from tiny_heads import LEARNABLE, LOSSES, SPACES, WIDTH, batch, make, tree
from torch import nn

from hyperlm import HyperbolicHead, LinearHead
from hyperlm.errors import HyperlmError, ModelError, OptionError
from hyperlm.heads import build_head, start_from_texts
from hyperlm.heads.hyperbolic import GEOMETRIES
from hyperlm.manifolds import Lorentz, ManifoldParameter, PoincareBall
from hyperlm.optim import build_optimizer

# What rounding the hidden state to a dtype may change in a logit of size about 5.
CLOSE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 2e-1}


# --- the four lines ----------------------------------------------------------------------------


def test_the_four_lines_of_the_readme():
    taxonomy = tree()
    head = HyperbolicHead(hidden_size=768, taxonomy=taxonomy, dim=64, geometry="poincare")
    out = head(torch.randn(5, 768), torch.tensor([1, 2, 3, 4, 5]))
    assert out.logits.shape == (5, len(taxonomy))
    assert out.points.shape == (5, 64)
    assert out.loss is not None
    assert out.loss.shape == ()
    known = {taxonomy.path(int(n)) for n in taxonomy.terminals}
    assert set(head.decode(out.logits)) <= known
    assert head(torch.randn(5, 768)).loss is None


class Plain(nn.Module):
    """Somebody else's model."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())
        self.classifier = head

    def forward(self, x, targets=None):
        return self.classifier(self.body(x), targets)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("geometry", "coordinates"), [*SPACES, ("linear", "")])
def test_every_head_learns_inside_a_plain_module(geometry, coordinates, loss):
    taxonomy = tree()
    head = (
        LinearHead(WIDTH, taxonomy, 6, loss=loss, dropout=0.0)
        if geometry == "linear"
        else make(geometry, coordinates, loss=loss)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Plain(head)
    optimizer = build_optimizer(model, learning_rate=0.02, point_learning_rate=0.02)
    hidden, ends = batch(taxonomy, 64)
    first = model(hidden, ends).loss.item()
    for _ in range(60):
        optimizer.zero_grad()
        loss_now = model(hidden, ends).loss
        loss_now.backward()
        optimizer.step()
    assert loss_now.item() < first / 4
    fresh, gold = batch(taxonomy, 64, seed=1)
    answers = head.decode(model(fresh).logits)
    assert answers == [taxonomy.path(int(n)) for n in gold]


@pytest.mark.parametrize(("geometry", "coordinates"), SPACES)
def test_points_lie_in_the_space_and_logits_are_distances(geometry, coordinates):
    head = make(geometry, coordinates, curvature=2.0)
    hidden, _ = batch(head.taxonomy)
    out = head(hidden)
    space, nodes = head.space(), head.node_points()
    if geometry == "poincare":
        assert isinstance(space, PoincareBall)
        assert (2.0**0.5 * out.points.norm(dim=1) < 1).all()
        assert (2.0**0.5 * nodes.norm(dim=1) < 1).all()
    if geometry == "lorentz":
        assert isinstance(space, Lorentz)
        for x in (out.points, nodes):
            form = x[:, 1:].square().sum(1) - x[:, 0].square()
            torch.testing.assert_close(form, torch.full_like(form, -1 / 2.0))
    # Biases start at zero: logits are distances, by the points that the head reports.
    expected = -head.start_temperature * space.pairwise_dist(out.points, nodes)
    torch.testing.assert_close(out.logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("geometry", ["poincare", "lorentz"])
def test_both_models_and_both_coordinates_say_the_same(geometry):
    hidden, ends = batch(tree())
    reference = make("poincare", "tangent")(hidden, ends)
    for coordinates in ("tangent", "native"):
        out = make(geometry, coordinates)(hidden, ends)
        torch.testing.assert_close(out.logits, reference.logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(out.loss, reference.loss, atol=1e-5, rtol=1e-5)


def test_a_nearly_flat_space_agrees_with_the_euclidean_head():
    hidden, _ = batch(tree())
    flat, curved = make("euclidean"), make("poincare", curvature=1e-8)
    curved.set_node_tangents(flat.node_tangents())
    torch.testing.assert_close(curved(hidden).logits, flat(hidden).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0, 20.0])
def test_a_tree_starts_with_edges_of_the_step_in_any_curvature(c):
    head = make(curvature=c, init_step=0.3)
    child, parent = torch.tensor(head.taxonomy.edges).T
    inner = parent >= 0
    nodes = head.node_points()
    length = head.space().dist(nodes[child[inner]], nodes[parent[inner]])
    torch.testing.assert_close(length, torch.full_like(length, 0.3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("c", [1.0, 4.0])
def test_points_far_out_are_points_of_the_ball(c):
    head = make(curvature=c)
    with torch.no_grad():
        head.each_projection()[0].linear.weight.mul_(200)
    hidden, _ = batch(head.taxonomy)
    points = head(hidden).points.detach()
    assert float(head.space().dist0(points).max()) > 14 / c**0.5
    head.space().check_points(points)


# --- dtypes, autocast, devices -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(("geometry", "coordinates"), SPACES)
def test_hidden_states_of_any_float_dtype(geometry, coordinates, dtype):
    head = make(geometry, coordinates)
    hidden, ends = batch(head.taxonomy)
    hidden = hidden.to(dtype).requires_grad_()
    out = head(hidden, ends)
    assert out.logits.dtype == out.points.dtype == out.loss.dtype == torch.float32
    reference = head(hidden.detach().double()).logits
    torch.testing.assert_close(out.logits, reference, atol=CLOSE[dtype], rtol=0)
    out.loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == dtype
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("geometry", "coordinates"), [*SPACES, ("linear", "")])
def test_geometry_under_autocast_is_that_without(geometry, coordinates, dtype):
    head = LinearHead(WIDTH, tree(), 6) if geometry == "linear" else make(geometry, coordinates)
    hidden, ends = batch(head.taxonomy)
    head.eval()
    expected = head(hidden, ends)
    with torch.autocast("cpu", dtype=dtype):
        out = head(hidden, ends)
    assert torch.equal(out.logits, expected.logits)
    assert torch.equal(out.loss, expected.loss)


@pytest.mark.parametrize(("geometry", "coordinates"), SPACES)
def test_building_on_the_meta_device_and_filling_later(geometry, coordinates):
    learn = (geometry, coordinates) in LEARNABLE
    with torch.device("meta"):
        head = make(geometry, coordinates, learn_curvature=learn)
    assert all(p.is_meta for p in head.parameters())
    head.to_empty(device="cpu").reset_parameters()
    expected = make(geometry, coordinates, learn_curvature=learn)
    for (name, value), other in zip(head.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(value, other), name
    assert isinstance(head.points, ManifoldParameter)


# --- several taps, seeds, starts ---------------------------------------------------------------


def test_each_level_listens_to_its_tap_alone():
    head = make(tap_of_level=[0, 1, 1])
    coarse, fine = (torch.randn(3, WIDTH, requires_grad=True) for _ in range(2))
    out = head([coarse, fine])
    top = head.taxonomy.level_slices[0]
    for part, heard, unheard in (
        (out.logits[:, top], coarse, fine),
        (out.logits[:, top.stop :], fine, coarse),
    ):
        grads = torch.autograd.grad(part.sum(), [heard, unheard], retain_graph=True)
        assert grads[0].any()
        assert not grads[1].any()


def test_equal_seeds_make_equal_heads_whatever_the_global_generator_holds():
    one, two, other = make(init="random", seed=1), make(init="random", seed=1), make(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.projections[0].linear.weight, other.projections[0].linear.weight)


@pytest.mark.parametrize("init", ["tree", "random"])
@pytest.mark.parametrize(("geometry", "coordinates"), SPACES)
def test_nodes_start_near_the_origin(geometry, coordinates, init):
    head = make(geometry, coordinates, init=init)
    radius = head.node_tangents().norm(dim=1)
    assert radius.min() > 0
    assert radius.max() < 1.0 + 1e-5


def test_the_tree_start_puts_children_beyond_and_beside_their_parents():
    head = make(init="tree", dim=16)
    at, space = head.node_points(), head.space()
    dist = space.pairwise_dist(at, at)
    for child, parent in head.taxonomy.edges:
        others = [n for n in head.taxonomy.levels[head.taxonomy.depth[parent] - 1] if n != parent]
        assert space.dist0(at)[child] > space.dist0(at)[parent]
        assert dist[child, parent] < min(dist[child, n] for n in others)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 1}, "^dim 1: a label tree needs at least 2"),
        ({"geometry": "spherical"}, "^geometry 'spherical' is unknown; choose one of poincare"),
        ({"coordinates": "klein"}, "coordinates 'klein' is unknown"),
        ({"init": "names"}, "^init 'names' is unknown"),
        ({"loss": "hinge"}, "^loss 'hinge' is unknown; choose one of level, path, leaf"),
        ({"curvature": 0.0}, "^curvature 0.0: c must be positive"),
        ({"curvature": -1.0}, "c must be positive and finite"),
        ({"curvature": math.inf}, "c must be positive and finite"),
        ({"curvature": math.nan}, "c must be positive and finite"),
        ({"curvature": 50.0, "learn_curvature": True}, "stays between 0.05 and 20.0"),
        ({"learn_curvature": True, "coordinates": "native"}, "hold for one curvature alone"),
        ({"geometry": "euclidean", "cone_weight": 1.0}, "need the geometry 'poincare'"),
        ({"cone_weight": 1.0, "cone_pairs": "all"}, "cone_pairs 'all' is unknown"),
        ({"tap_of_level": [0, 1]}, "one number from 0 for each of the 3 levels"),
        ({"tap_of_level": [0, 2, 2]}, "without gaps"),
        ({"tap_of_level": []}, "one number from 0 for each of the 3 levels"),
        ({"dropout": 1.5}, "dropout 1.5"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"cone_weight": -1.0}, "cone_weight -1.0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        make(**options)


def test_bad_hidden_states_are_refused():
    head = make(tap_of_level=[0, 1, 1])
    good = torch.randn(2, WIDTH)
    with pytest.raises(OptionError, match="taps 2 hidden states, got 1"):
        head(good)
    with pytest.raises(OptionError, match=r"hidden states are 5 wide.*hidden_size=12"):
        head([torch.randn(2, 5), good])
    with pytest.raises(OptionError, match="5 wide"):
        head([good, torch.randn(2, 5)])
    with pytest.raises(OptionError, match=r"shape \(2, 3, 12\)"):
        head([torch.randn(2, 3, WIDTH), good])


def test_points_of_another_shape_are_refused():
    with pytest.raises(ModelError, match=r"shape \(3, 6\), the head needs \(16, 6\)"):
        make().set_node_tangents(torch.zeros(3, 6))


def test_build_head_names_its_kinds():
    assert isinstance(build_head("linear", hidden_size=4, taxonomy=tree()), LinearHead)
    head = build_head("points", hidden_size=4, taxonomy=tree(), geometry="lorentz", dim=3)
    assert isinstance(head, HyperbolicHead)
    with pytest.raises(
        HyperlmError, match="^kind 'cosine' is unknown; choose one of points, linear"
    ):
        build_head("cosine", hidden_size=4, taxonomy=tree())


def test_every_geometry_has_a_space_of_its_name():
    assert {make(g).space().name for g in GEOMETRIES} == {"PoincareBall", "Lorentz", "Euclidean"}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_head_answers_by_the_loss_it_was_made_with(loss):
    head = make(loss=loss).eval()
    hidden, _ = batch(head.taxonomy, 20)
    logits = 3 * head(hidden).logits
    best = head.top_k(logits, 2, temperature=1.5)
    assert [paths[0] for paths in best.paths(head.taxonomy)] == head.decode(logits)
    marginals = head.marginals(logits, temperature=1.5)
    ends = best.nodes[:, :1]
    torch.testing.assert_close(marginals.gather(1, ends), best.prob[:, :1])


def test_texts_without_a_tensor_or_a_partner_are_refused():
    head = make()
    hidden, ends = batch(head.taxonomy, 6)
    for wrong in (hidden.tolist(), hidden.numpy()):
        with pytest.raises(OptionError, match="give a tensor"):
            head(wrong)
    for wrong in (ends.tolist(), ends.numpy()):
        with pytest.raises(OptionError, match="as_tensor"):
            head(hidden, wrong)
    with pytest.raises(OptionError, match="6 texts"):
        start_from_texts(head, hidden, ends[:4])


@pytest.mark.parametrize(
    "options", [{"max_radius": -1.0}, {"start_radius": float("nan")}, {"start_radius": -0.5}]
)
def test_radii_out_of_range_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        make(**options)


def test_a_head_says_what_it_is():
    said = repr(make(curvature=1.3))
    assert "dim=6" in said
    assert "geometry='poincare', curvature=1.3" in said
    assert "(learned)" in repr(make(learn_curvature=True))
