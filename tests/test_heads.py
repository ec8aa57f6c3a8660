"""Heads on their own: any float dtype in, every geometry learns, and nothing leaves its space."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

from hyperlm import HyperbolicHead, LinearHead
from hyperlm.errors import HyperlmError, ModelError, OptionError
from hyperlm.heads import build_head
from hyperlm.heads.hyperbolic import CURVATURE_BOUNDS, GEOMETRIES
from hyperlm.manifolds import Lorentz, ManifoldParameter, PoincareBall
from hyperlm.optim import build_optimizer
from hyperlm.taxonomy import Taxonomy

WIDTH = 12
# Geometry and coordinates of every kind of head with points.
SPACES = [("poincare", "tangent"), ("poincare", "native"), ("lorentz", "tangent"),
          ("lorentz", "native"), ("euclidean", "tangent")]  # fmt: skip
LEARNABLE = [("poincare", "tangent"), ("lorentz", "tangent")]  # with a curvature to learn
WITH_CURVATURE = [(*s, False) for s in SPACES] + [(*s, True) for s in LEARNABLE]
LOSSES = ("level", "path", "leaf")
# What rounding the hidden state to a dtype may change in a logit of size about 5.
CLOSE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 2e-1}


def tree() -> Taxonomy:
    return Taxonomy.from_paths(
        [(a, a + b, a + b + c) for a in "xy" for b in "12" for c in "pq"] + [("z", "z1")]
    )


def make(geometry="poincare", coordinates="tangent", **options):
    options = {"dim": 6, "dropout": 0.0, **options}
    return HyperbolicHead(
        WIDTH,
        options.pop("taxonomy", tree()),
        geometry=geometry,
        coordinates=coordinates,
        **options,
    )


def batch(taxonomy: Taxonomy, rows: int = 32, seed: int = 0):
    """Hidden states that cluster by end node, and the end nodes."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.tensor(taxonomy.terminals)
    ends = ends[torch.randint(len(ends), (rows,), generator=generator)]
    centres = torch.randn(len(taxonomy), WIDTH, generator=torch.Generator().manual_seed(99))
    return centres[ends] + 0.1 * torch.randn(rows, WIDTH, generator=generator), ends


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
    flat = make("euclidean")(hidden).logits
    curved = make("poincare", curvature=1e-8)(hidden).logits
    torch.testing.assert_close(curved, flat, atol=1e-4, rtol=1e-4)


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


# --- state, copies, compilation ----------------------------------------------------------------


def train_a_little(head: nn.Module, steps: int = 5) -> None:
    optimizer = build_optimizer(head, learning_rate=0.05, point_learning_rate=0.05)
    hidden, ends = batch(head.taxonomy)
    for _ in range(steps):
        optimizer.zero_grad()
        head(hidden, ends).loss.backward()
        optimizer.step()


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(("geometry", "coordinates", "learn"), WITH_CURVATURE)
def test_state_dict_round_trip(geometry, coordinates, learn, assign):
    head = make(geometry, coordinates, learn_curvature=learn)
    train_a_little(head)
    other = make(geometry, coordinates, learn_curvature=learn, init="random", seed=7)
    other.load_state_dict(head.state_dict(), assign=assign)
    other.tag_points()
    hidden, ends = batch(head.taxonomy)
    assert torch.equal(other(hidden, ends).logits, head(hidden, ends).logits)
    assert isinstance(other.points, ManifoldParameter)
    # The same further steps, so the same manifold.
    train_a_little(head)
    train_a_little(other)
    torch.testing.assert_close(other.points.data, head.points.data)


def pickled(head: nn.Module) -> nn.Module:
    file = io.BytesIO()
    pickle.dump(head, file)
    file.seek(0)
    return pickle.load(file)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize(("geometry", "coordinates", "learn"), WITH_CURVATURE)
def test_copies_keep_a_manifold_parameter_and_are_their_own(geometry, coordinates, learn, copied):
    head = make(geometry, coordinates, learn_curvature=learn)
    hidden, ends = batch(head.taxonomy)
    before = head(hidden, ends).logits.detach()
    other = copied(head)
    assert isinstance(other.points, ManifoldParameter)
    assert type(other.points.manifold) is type(head.points.manifold)
    assert torch.equal(other(hidden).logits, before)
    train_a_little(other)
    assert torch.equal(head(hidden).logits, before)
    assert not torch.equal(other(hidden).logits, before)


@pytest.mark.parametrize(("geometry", "coordinates"), [*SPACES, ("linear", "")])
def test_compiles_without_a_graph_break(geometry, coordinates):
    head = LinearHead(WIDTH, tree(), 6) if geometry == "linear" else make(geometry, coordinates)
    head.eval()
    hidden, _ = batch(head.taxonomy, 4)
    compiled = torch.compile(head, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(hidden).logits, head(hidden).logits)


@pytest.mark.parametrize(
    ("geometry", "coordinates"), [("poincare", "tangent"), ("lorentz", "native")]
)
def test_exports(geometry, coordinates):
    head = make(geometry, coordinates).eval()
    hidden, _ = batch(head.taxonomy, 4)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, x):
            return self.head(x).logits

    rows = torch.export.Dim("rows", min=2, max=512)
    program = torch.export.export(Logits(), (hidden,), dynamic_shapes=({0: rows},))
    other, _ = batch(head.taxonomy, 9, seed=3)
    torch.testing.assert_close(program.module()(other), head(other).logits)


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
        ({"dim": 1}, "--dim 1: a label tree needs at least 2"),
        ({"geometry": "spherical"}, "--geometry 'spherical' is unknown; choose one of poincare"),
        ({"coordinates": "klein"}, "coordinates 'klein' is unknown"),
        ({"init": "names"}, "--init 'names' is unknown"),
        ({"loss": "hinge"}, "--loss 'hinge' is unknown; choose one of level, path, leaf"),
        ({"curvature": 0.0}, "--curvature 0.0: c must be positive"),
        ({"curvature": -1.0}, "c must be positive and finite"),
        ({"curvature": math.inf}, "c must be positive and finite"),
        ({"curvature": math.nan}, "c must be positive and finite"),
        ({"curvature": 50.0, "learn_curvature": True}, "stays between 0.05 and 20.0"),
        ({"learn_curvature": True, "coordinates": "native"}, "hold for one curvature alone"),
        ({"geometry": "euclidean", "cone_weight": 1.0}, "--cone-weight needs --geometry poincare"),
        ({"cone_weight": 1.0, "cone_pairs": "all"}, "--cone-pairs 'all' is unknown"),
        ({"tap_of_level": [0, 1]}, "one number from 0 for each of the 3 levels"),
        ({"tap_of_level": [0, 2, 2]}, "without gaps"),
        ({"tap_of_level": []}, "one number from 0 for each of the 3 levels"),
        ({"dropout": 1.5}, "dropout 1.5"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"cone_weight": -1.0}, "--cone-weight -1.0"),
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
        HyperlmError, match="--head 'cosine' is unknown; choose one of points, linear"
    ):
        build_head("cosine", hidden_size=4, taxonomy=tree())


def test_every_geometry_has_a_space_of_its_name():
    assert {make(g).space().name for g in GEOMETRIES} == {"PoincareBall", "Lorentz", "Euclidean"}
