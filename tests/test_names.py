"""Starting from label names: one space for all levels, general labels inside, nothing by chance."""

import pytest
import torch

from hyperlm.data import load_data
from hyperlm.errors import OptionError
from hyperlm.lm import HierarchicalLM, names
from hyperlm.lm.names import name_texts, start_from_names
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


def test_a_linear_head_has_no_points_to_place(tiny_backbone, data):
    model = made(tiny_backbone, data.taxonomy, kind="linear")
    with pytest.raises(OptionError, match="--init names places node points"):
        start_from_names(model, data.train.texts)
