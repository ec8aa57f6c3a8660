"""Starting from label names: one space for all levels, general labels inside, nothing by chance."""

import pytest
import torch

from hyperlm.data import load_data
from hyperlm.errors import ModelError, OptionError
from hyperlm.lm import HierarchicalLM, names
from hyperlm.lm.names import name_texts, start_from_features, start_from_names
from hyperlm.taxonomy import Taxonomy


@pytest.fixture
def data(demo_like):
    return load_data(demo_like)


def made(backbone, taxonomy, **head):
    return HierarchicalLM.from_backbone(
        str(backbone), taxonomy, layers="1,2,2", head={"dim": 16, **head}, max_length=32
    )


def test_names_are_read_as_words():
    taxonomy = Taxonomy.from_paths([("Place", "BodyOfWater"), ("Work", "TVShow"), ("an_id", "x")])
    texts = dict(zip(taxonomy.names, name_texts(taxonomy), strict=True))
    assert texts["BodyOfWater"] == "body of water, place"
    assert texts["TVShow"] == "tv show, work"
    assert texts["an_id"] == "an id"


def test_start_is_deterministic_and_near_the_origin(tiny_backbone, data):
    first, second = (made(tiny_backbone, data.taxonomy) for _ in range(2))
    for model in (first, second):
        start_from_names(model, data.train.texts, seed=3)
    assert torch.equal(first.head.points, second.head.points)
    assert first.head.node_tangents().norm(dim=1).mean().item() == pytest.approx(0.5, rel=1e-5)


def test_a_start_on_features_of_all_texts_is_the_same(tiny_backbone, data, monkeypatch):
    monkeypatch.setattr(names, "_TEXTS", 20)
    first, second = (made(tiny_backbone, data.taxonomy) for _ in range(2))
    assert len(data.train.texts) > 20
    start_from_names(first, data.train.texts, seed=3)
    start_from_names(second, data.train.texts, seed=3, frozen=torch.float32)
    torch.testing.assert_close(first.head.points, second.head.points, rtol=0, atol=1e-4)


def test_inner_nodes_are_the_mean_of_name_and_children(tiny_backbone, data):
    """Then a parent's radius cannot exceed the largest of its own name's and its children's."""
    model = made(tiny_backbone, data.taxonomy)
    start_from_names(model, data.train.texts)
    radius = model.head.node_tangents().norm(dim=1)
    depth = torch.tensor(data.taxonomy.depth.copy())
    means = [radius[depth == level].mean() for level in (1, 2, 3)]
    assert means[0] < means[1] < means[2]


def test_all_taps_look_into_one_space(tiny_backbone, data):
    """A text seen through the shallow tap lands nearer to itself through the deep one than others.

    Fitted separately, each tap would have axes of its own and this would hold by chance alone.
    """
    model = made(tiny_backbone, data.taxonomy).eval()
    texts = data.train.texts
    start_from_names(model, texts)
    ids = model.tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model.pooled_states(ids["input_ids"], ids["attention_mask"])
        shallow, deep = (
            project(states[:, tap]) for tap, project in enumerate(model.head.each_projection())
        )
    own = (shallow - deep).norm(dim=1)
    other = (shallow - deep.roll(1, 0)).norm(dim=1)
    assert (own < other).float().mean() > 0.9


@pytest.mark.parametrize("temperature", [5.0, 20.0])
def test_a_linear_head_starts_as_the_flat_twin_of_points(tiny_backbone, data, temperature):
    """Scores of a level differ by half the temperature times the squared distances to the nodes."""
    points = made(tiny_backbone, data.taxonomy, geometry="euclidean").eval()
    linear = made(tiny_backbone, data.taxonomy, kind="linear").eval()
    for model in (points, linear):
        start_from_names(model, data.train.texts, temperature=temperature)
    states = torch.randn(7, 2, linear.head.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = linear.head(list(states.unbind(1))).logits.double()
        seen = [project(state) for project, state in zip(
            points.head.each_projection(), states.unbind(1), strict=True
        )]  # fmt: skip
    for level, part in enumerate(data.taxonomy.level_slices):
        texts = seen[points.head.tap_of_level[level]].double()
        dist = torch.cdist(texts, points.head.node_points()[part].detach().double())
        wanted = -temperature / 2 * dist.square()
        shared = scores[:, part] - wanted
        assert wanted.std(dim=1).mean() > 0.1
        torch.testing.assert_close(shared, shared[:, :1].expand_as(shared), rtol=0, atol=1e-4)


def test_a_start_from_names_refuses_what_it_cannot_do(tiny_backbone, data):
    model = made(tiny_backbone, data.taxonomy, kind="linear")
    with pytest.raises(OptionError, match="temperature 0: must be greater than 0"):
        start_from_names(model, data.train.texts, temperature=0.0)
    with pytest.raises(OptionError, match="Linear: only the heads of hyperlm start from names"):
        start_from_features(torch.nn.Linear(4, 2), torch.zeros(3, 1, 4), torch.zeros(5, 1, 4))
    with pytest.raises(ModelError, match=r"node places have shape \(1, 16\)"):
        model.head.set_node_places(torch.zeros(1, 16), 1.0)
