"""The contrastive term: its definition, its gradients, and what it is least for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from hyperlm.decoding import cuts_of
from hyperlm.errors import OptionError
from hyperlm.heads.contrastive import contrastive_loss
from hyperlm.manifolds import PoincareBall
from hyperlm.taxonomy import Taxonomy

TREE = Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z"), ("b", "w"), ("c",)])


def plain(dist, classes, temperature, weights):
    """The definition, text by text."""
    total = 0.0
    for level, weight in enumerate(weights):
        losses = []
        for i in range(len(dist)):
            others = [j for j in range(len(dist)) if j != i]
            same = [j for j in others if classes[j][level] == classes[i][level] >= 0]
            if same:
                scores = [-temperature * dist[i][j] for j in others]
                log_sum = float(special.logsumexp(scores))
                losses.append(-sum(-temperature * dist[i][j] - log_sum for j in same) / len(same))
        total += weight * (sum(losses) / len(losses) if losses else 0.0)
    return total


def points(seed, count=9, dim=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, generator=generator, dtype=torch.float64) * 0.3
    ends = torch.randint(0, len(TREE), (count,), generator=generator)
    return x, cuts_of(TREE).member_at[ends]


def ball(x, c=1.0):
    return PoincareBall(c).pairwise_dist(x, x)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 3.0]), st.floats(0.5, 20))
def test_contrast_is_its_definition_in_any_order(seed, c, temperature):
    x, classes = points(seed)
    dist = ball(x, c)
    got = contrastive_loss(dist, classes, temperature=temperature)
    wanted = plain(dist.tolist(), classes.tolist(), temperature, [1 / 3, 2 / 3])
    assert float(got) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    again = contrastive_loss(dist[order][:, order], classes[order], temperature=temperature)
    assert float(again) == pytest.approx(float(got), rel=1e-12, abs=1e-12)


def test_gradients_of_contrast_are_finite_differences():
    x, classes = points(3, count=6)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: contrastive_loss(ball(z, 2.0), classes), (x,))


def test_contrast_is_least_where_classes_coincide_far_apart():
    classes = torch.tensor([[0], [0], [1], [1], [1], [1]])
    least = (2 * math.log(1) + 4 * math.log(3)) / 6
    for seed in range(5):
        assert float(contrastive_loss(ball(points(seed, 6)[0]), classes)) > least
    apart = 50.0 * (classes != classes.T).double()
    assert float(contrastive_loss(apart, classes)) == pytest.approx(least, abs=1e-12)


def test_deeper_levels_count_for_more():
    """Two texts of one leaf and one of a sibling: closeness is better spent on the leaf."""
    classes = torch.tensor([[0, 1], [0, 1], [0, 2], [3, 4]])
    near, far = 0.1, 0.5
    leaf, sibling = torch.full((4, 4), far), torch.full((4, 4), far)
    leaf[0, 1] = leaf[1, 0] = sibling[0, 2] = sibling[2, 0] = near
    assert float(contrastive_loss(leaf, classes)) < float(contrastive_loss(sibling, classes))


def test_contrast_without_company_is_zero_and_batches_stand_alone():
    x, classes = points(0)
    lonely = torch.arange(len(x)).unsqueeze(1)
    assert float(contrastive_loss(ball(x), lonely)) == 0.0
    single = torch.zeros(1, 1, requires_grad=True)
    loss = contrastive_loss(single, torch.tensor([[0]]))
    loss.backward()
    assert loss.item() == single.grad.item() == 0.0
    other, theirs = points(1)
    both = contrastive_loss(torch.stack([ball(x), ball(other)]), torch.stack([classes, theirs]))
    each = torch.stack([contrastive_loss(ball(x), classes), contrastive_loss(ball(other), theirs)])
    torch.testing.assert_close(both, each)


def test_contrast_refuses_what_does_not_fit():
    with pytest.raises(OptionError, match=r"\(3, 2\)"):
        contrastive_loss(torch.zeros(3, 2), torch.zeros(3, 1))
    with pytest.raises(OptionError, match="1 level_weights for 2 levels"):
        contrastive_loss(torch.zeros(3, 3), torch.zeros(3, 2), level_weights=[1.0])
