"""Heads saved, copied, compiled and exported."""

import copy
import io
import pickle
import re

import numpy as np
import pytest
import torch
from tiny_heads import LEARNABLE, SPACES, WIDTH, batch, make, tree
from torch import nn

from hyperlm import HyperbolicHead, LinearHead, Taxonomy
from hyperlm.manifolds import ManifoldParameter
from hyperlm.optim import build_optimizer

WITH_CURVATURE = [(*s, False) for s in SPACES] + [(*s, True) for s in LEARNABLE]


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


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kept", [lambda state: state, through_a_file], ids=["memory", "file"])
def test_weights_are_refused_by_the_same_nodes_in_another_order(kept, nested):
    paths = [("animal", "bird"), ("animal", "fish"), ("plant", "fern")]

    def model(order, terminals=()):
        taxonomy = Taxonomy.from_paths(order).with_terminals(terminals)
        head = LinearHead(WIDTH, taxonomy, dim=4)
        return nn.Sequential(nn.Identity(), head) if nested else head

    saved = kept(model(paths).state_dict())
    model(paths).load_state_dict(saved)
    model(paths, terminals=[0]).load_state_dict(saved)  # where paths end numbers nothing
    with pytest.raises(RuntimeError, match=r"another order.*Taxonomy\.read"):
        model(paths[::-1]).load_state_dict(saved, strict=False)
    model(paths[::-1]).load_state_dict(dict(saved))


@pytest.mark.parametrize("made", [HyperbolicHead, LinearHead])
def test_compiled_training_needs_no_call_before_it(made):
    torch._dynamo.reset()
    hidden, ends = batch(tree())
    compiled = torch.compile(
        made(WIDTH, tree(), dim=4, dropout=0.0), fullgraph=True, backend="aot_eager"
    )
    out = compiled(hidden, ends)
    out.loss.backward()
    torch.testing.assert_close(out.loss, made(WIDTH, tree(), dim=4, dropout=0.0)(hidden, ends).loss)


@pytest.mark.parametrize(("geometry", "coordinates"), SPACES[:-1])
def test_a_second_curvature_compiles_as_well(geometry, coordinates):
    """The compiler takes a number that differs between two heads for a variable."""
    torch._dynamo.reset()
    hidden, ends = batch(tree())
    for c in (0.7, 1.3, 2.0):
        head = make(geometry, coordinates, curvature=c).eval()
        found = torch.compile(head, fullgraph=True, backend="eager")(hidden, ends)
        torch.testing.assert_close(found.loss, head(hidden, ends).loss)
        torch.testing.assert_close(found.points, head(hidden, ends).points)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch, at a break in the graph
def test_compiled_training_with_cones_draws_what_plain_training_draws():
    torch._dynamo.reset()
    wide = Taxonomy.from_paths([(f"a{i}", f"b{i}{j}") for i in range(9) for j in range(300)])
    options = {"dropout": 0.0, "curvature": 1.3, "cone_weight": 0.1, "text_cone_weight": 0.1}
    plain, compiled = (HyperbolicHead(WIDTH, wide, dim=4, **options) for _ in range(2))
    graphs = []
    step = torch.compile(compiled, backend=lambda graph, inputs: graphs.append(graph) or graph)
    hidden, ends = batch(wide)
    losses, counts = [], []
    for _ in range(3):
        losses.append((plain(hidden, ends).loss, step(hidden, ends).loss))
        counts.append(len(graphs))
    for of_plain, of_compiled in losses:
        torch.testing.assert_close(of_compiled, of_plain)
    assert len({of_plain.item() for of_plain, _ in losses}) == 3  # each step draws anew
    assert counts[0] == counts[2]  # and compiles nothing anew


def test_a_head_pickled_before_its_tables_were_made_finds_them():
    head = LinearHead(WIDTH, tree(), dim=4)
    head._all_cuts = None
    hidden, ends = batch(tree())
    assert pickled(head)(hidden, ends).loss.isfinite()


@pytest.mark.parametrize("made", [HyperbolicHead, LinearHead])
def test_a_default_device_moves_neither_the_start_nor_the_tables(made):
    """Numbers are drawn on the CPU, so that equal seeds are equal heads on every device."""
    with torch.device("meta"):
        head = made(WIDTH, tree(), dim=4)
        assert {table.device.type for table in head.cuts(torch.device("cpu")).members} == {"cpu"}
        placed = made(WIDTH, tree(), dim=4).to_empty(device="cpu")
        placed.reset_parameters()
    for name, value in made(WIDTH, tree(), dim=4).state_dict().items():
        torch.testing.assert_close(placed.state_dict()[name], value)


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


SETTINGS = [
    {"geometry": "lorentz"},
    {"geometry": "euclidean"},
    {"coordinates": "native"},
    {"curvature": 2.0},
    {"loss": "path"},
    {"max_radius": 0.3},
    {"tap_of_level": [0, 0, 1]},
]


@pytest.mark.parametrize("kept", [lambda state: state, through_a_file], ids=["memory", "file"])
@pytest.mark.parametrize("other", SETTINGS, ids=str)
def test_weights_are_refused_by_another_space(other, kept):
    state = kept(make(curvature=1.3).state_dict())
    again = make(curvature=1.3, init="random")
    again.load_state_dict(state)
    here = re.escape(repr(next(iter(other.values()))))
    with pytest.raises(RuntimeError, match=f"{here}.*make the head as"):
        make(**{"curvature": 1.3, **other}).load_state_dict(state)
    if "tap_of_level" not in other:  # which has another number of projections
        make(**{"curvature": 1.3, **other}).load_state_dict(dict(state))  # asked for: unchecked


def test_weights_from_before_a_setting_was_noted_load():
    state = make().state_dict()
    del state._metadata[""]["head_space"]["max_radius"]
    make(max_radius=0.3).load_state_dict(state)


def test_a_head_is_exported_with_all_it_says():
    head = make().eval()
    hidden, _ = batch(head.taxonomy, 4)
    said = torch.export.export(head, (hidden,)).module()(hidden)
    torch.testing.assert_close(said.logits, head(hidden).logits)
    torch.testing.assert_close(said.points, head(hidden).points)


def test_numbers_of_numpy_as_options_are_kept_as_plain_ones():
    taps = np.arange(tree().num_levels) % 2
    for head in (
        LinearHead(WIDTH, tree(), dim=4, tap_of_level=taps),
        make(max_radius=np.float64(10), tap_of_level=taps),
    ):
        assert through_a_file(head.state_dict()).keys() == head.state_dict().keys()


def test_a_copy_of_a_head_leaves_the_devices_behind():
    head = make()
    hidden, ends = batch(head.taxonomy)
    loss = head(hidden, ends).loss
    head.cuts("meta")  # as a GPU that this machine has and another has not
    for again in (pickle.loads(pickle.dumps(head)), copy.deepcopy(head)):
        assert list(again.cuts("cpu")._on_device) == [torch.device("cpu")]
        assert again.cuts("cpu") is again.cuts("cpu").to("cpu")
        assert torch.equal(again(hidden, ends).loss, loss)
