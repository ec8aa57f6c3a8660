"""Joined levels: the point predicted on a level conditions the layers that read the next one."""

import numpy as np
import pytest
import torch
from conftest import synthetic_text, tree_paths
from hypothesis import given, settings
from hypothesis import strategies as st
from joined_models import HEADS, TEXTS, awake, encoded, gradients, made, named, tree
from tiny_models import ARCHITECTURES, DECODERS, LAYERS

from hyperlm.cuts import Cuts
from hyperlm.heads import build_head
from hyperlm.lm.hdlm import LayerStack
from hyperlm.lm.joined import Conditioning, expected_vector
from hyperlm.lm.names import start_from_names
from hyperlm.lm.pooling import pool
from hyperlm.taxonomy import Taxonomy

pytest_plugins = ["backbone_fixtures"]


def ragged() -> Taxonomy:
    """Paths that end early at a leaf (z), at an inner node (x, y > 1), and late."""
    return Taxonomy.from_paths(
        [("x",), ("x", "1", "p"), ("x", "2"), ("y", "1"), ("y", "1", "p"), ("y", "1", "q"), ("z",)]
    )


# --- at the start a joined model is one of points ------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_fresh_model_says_exactly_what_one_of_points_says(architecture, backbone_of):
    joined, points = made(backbone_of(architecture)), made(backbone_of(architecture), joined=False)
    batch = encoded(joined)
    with torch.inference_mode():
        a, b = joined(**batch), points(**batch)
        assert torch.equal(a.logits, b.logits)
        assert torch.equal(a.points, b.points)
        assert torch.equal(joined.pooled_states(**batch), points.pooled_states(**batch))


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_its_first_gradients_under_dropout_are_those_of_points(architecture, backbone_of):
    """The same random numbers are drawn, and the first step differs in the new maps alone."""
    grads = [
        gradients(made(backbone_of(architecture), joined=joined, lora={"rank": 2}).train())
        for joined in (True, False)
    ]
    new = grads[0].pop("head.conditioning.weight")
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[1].items():
        torch.testing.assert_close(grads[0][name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert all(new[level].any() for level in range(len(new)))  # training does leave zero


def test_the_start_from_names_is_that_of_points(backbone_of):
    models = [made(backbone_of("llama"), joined=joined) for joined in (True, False)]
    random = np.random.default_rng(0)
    texts = [synthetic_text(path, random) for path in tree_paths() * 3]
    for model in models:
        start_from_names(model, texts)
    a, b = (dict(model.head.named_parameters()) for model in models)
    assert all(torch.equal(a[name], b[name]) for name in b)
    with torch.inference_mode():
        assert torch.equal(*(model(**encoded(model)).logits for model in models))


# --- what is added, and where --------------------------------------------------------------------


def by_hand(taxonomy: Taxonomy, logits: np.ndarray, level: int, loss: str) -> np.ndarray:
    """Probability of each node in the cut of a level, ``(N,)``, one path at a time."""
    chances = np.zeros(len(taxonomy))
    if loss == "level":
        depth, ends = taxonomy.depth, set(taxonomy.terminals.tolist())
        cut = [n for n in range(len(taxonomy)) if depth[n] == level + 1
               or (depth[n] <= level and n in ends)]  # fmt: skip
        chances[cut] = np.exp(logits[cut]) / np.exp(logits[cut]).sum()
        return chances

    def down(choices: list[int], stay: int | None, chance: float, at: int) -> None:
        options = [*choices, *([stay] if stay is not None else [])]
        shares = np.exp(logits[options]) / np.exp(logits[options]).sum()
        for node, share in zip(options, shares, strict=True):
            below = [int(child) for child in taxonomy.children(node)]
            if node == stay or at == level or not below:
                chances[node] += chance * share
            else:
                stops = node in taxonomy.terminals
                down(below, node if stops else None, chance * share, at + 1)

    down(np.flatnonzero(taxonomy.depth == 1).tolist(), None, 1.0, 0)
    return chances


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("loss", ["level", "path"])
@pytest.mark.parametrize("taxonomy", [tree(), ragged()], ids=["tree", "ragged"])
def test_the_expected_vector_is_the_mean_over_the_probabilities_of_the_level(taxonomy, loss, data):
    head = build_head("points", hidden_size=8, taxonomy=taxonomy, dim=3, loss=loss, curvature=1.9)
    logits = np.array(
        data.draw(st.lists(st.floats(-8, 8), min_size=len(taxonomy), max_size=len(taxonomy)))
    )
    vectors = torch.randn(len(taxonomy), 3, generator=torch.Generator().manual_seed(1))
    head.set_node_tangents(vectors)
    for level, nodes in enumerate(taxonomy.level_slices):
        so_far = torch.tensor(logits[: nodes.stop], dtype=torch.float32)[None]
        chances = by_hand(taxonomy, logits, level, loss)
        assert chances.sum() == pytest.approx(1)
        with torch.no_grad():
            found = expected_vector(head, so_far, level)[0].numpy()
        np.testing.assert_allclose(found, chances @ vectors.numpy(), rtol=1e-4, atol=1e-5)


def test_paths_through_several_parents_are_weighed_by_the_best():
    """A DAG with a waiting node: probabilities still sum to one."""
    taxonomy = Taxonomy.from_edges(
        [("b", "a"), ("c", "a"), ("d", "b"), ("d", "c"), ("e", "d"), ("e", "a")]
    )
    for loss in ("level", "path"):
        head = build_head("linear", hidden_size=4, taxonomy=taxonomy, dim=2, loss=loss)
        with torch.no_grad():
            head.weight.copy_(torch.ones_like(head.weight))
            for level, nodes in enumerate(taxonomy.level_slices):
                found = expected_vector(head, torch.randn(3, nodes.stop), level)
                torch.testing.assert_close(found, torch.ones(3, 2))


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("head", HEADS[:2], ids=named)
def test_the_states_are_those_of_running_the_blocks_one_stretch_after_the_other(
    architecture, head, backbone_of
):
    """Every token gets the vector that the pooled one predicts, behind the block of the level."""
    model = awake(made(backbone_of(architecture), head=head))
    batch = encoded(model)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    stack, cuts = LayerStack(model.backbone), Cuts(model.taxonomy)
    rows, last = torch.arange(len(ids)), mask.sum(1) - 1
    with torch.inference_mode():
        found = model.pooled_states(**batch)
        logits = model(**batch).logits
        below, states = 0, None
        for level in range(LAYERS):
            states = stack.run(below, level + 1, input_ids=ids, attention_mask=mask, states=states)[
                level + 1
            ]
            below = level + 1
            pooled = states[rows, last]
            if level + 1 == LAYERS:
                pooled = stack.norm(pooled)
            torch.testing.assert_close(found[:, level], pooled, rtol=1e-4, atol=1e-4)
            if level + 1 == LAYERS:
                break
            # At these levels of this tree a cut is the level; its scores are the model's own.
            chances = cuts.level_log_probs(logits)[level].exp()
            if head.get("loss") == "path":
                chances = cuts.path_scores(logits, "path")[0][:, model.taxonomy.level_slices[level]]
                chances = chances.exp()
            vector = chances @ model.head.node_tangents()[model.taxonomy.level_slices[level]]
            added = vector @ model.conditioning.weight[level].T
            states = states + (pooled.square().mean(1).sqrt()[:, None] * added)[:, None]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_level_is_told_what_stands_above_it_and_nothing_else(architecture, backbone_of):
    model = awake(made(backbone_of(architecture)))
    batch = encoded(model)
    maps = model.conditioning.weight.detach().clone()
    levels = len(maps)
    model.conditioning.reset_parameters()
    with torch.inference_mode():
        plain, before = model.pooled_states(**batch), model(**batch).logits
        for level in range(levels):
            model.conditioning.reset_parameters()
            model.conditioning.weight[level] = maps[level]
            states, logits = model.pooled_states(**batch), model(**batch).logits
            stop = model.taxonomy.level_slices[level].stop
            assert torch.equal(states[:, : level + 1], plain[:, : level + 1])
            assert torch.equal(logits[:, :stop], before[:, :stop])
            for above in range(level + 1, levels + 1):
                assert (states[:, above] - plain[:, above]).abs().amax(1).min() > 1e-4


def test_what_is_predicted_decides_what_is_added(backbone_of):
    """Another prediction on the first level, and the second is read in another way."""
    model = awake(made(backbone_of("llama")))
    batch = encoded(model)
    with torch.inference_mode():
        before = model.pooled_states(**batch)
        model.head.bias[0] += 50.0  # now every text is an x
        sure = model.pooled_states(**batch)
        model.head.bias[0] -= 100.0  # and now none is
        other = model.pooled_states(**batch)
    assert torch.equal(before[:, 0], sure[:, 0])
    assert (sure[:, 1] - other[:, 1]).abs().amax(1).min() > 1e-3


def test_a_text_without_a_token_leaves_the_gradients_of_others_alone():
    """As trainers add to fill a batch: it pools to zeros, whose length has no slope."""
    told = Conditioning(4, 2, 2)
    with torch.no_grad():
        told.weight.normal_()
    hidden = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    told(0, torch.ones(2, 2), pool(hidden, mask, "mean")).sum().backward()
    assert hidden.grad[0, :2].abs().min() > 0
    assert not hidden.grad[1].any()
    pooled = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    changed = told(0, torch.ones(2, 2), pooled)
    unit = pooled.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(changed, unit * (torch.ones(2, 2) @ told.weight[0].T))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_neither_padding_nor_company_matters(architecture, backbone_of):
    model = awake(made(backbone_of(architecture), head={"curvature": 0.6}), size=1.0)
    with torch.inference_mode():
        right = model(**encoded(model, side="right")).logits
        left = model(**encoded(model, side="left")).logits
        alone = torch.cat([model(**encoded(model, [text])).logits for text in TEXTS])
    torch.testing.assert_close(left, right, rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(alone, right, rtol=1e-4, atol=2e-4)
    assert (right[0] - right[1]).abs().max() > 1e-2
