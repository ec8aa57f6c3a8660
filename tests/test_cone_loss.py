"""Cones inside the head: descendants end up inside their ancestors' cones, and farther out."""

import numpy as np
import pytest
import torch

from hyperlm import HyperbolicHead
from hyperlm.errors import OptionError
from hyperlm.heads import cone_loss
from hyperlm.heads.cone_loss import ConeLoss
from hyperlm.manifolds import cones
from hyperlm.optim import build_optimizer
from hyperlm.taxonomy import Taxonomy

HYPERBOLIC = [("poincare", "tangent"), ("poincare", "native"), ("lorentz", "tangent"),
              ("lorentz", "native")]  # fmt: skip


def tree() -> Taxonomy:
    return Taxonomy.from_paths([(a, a + b, a + b + c) for a in "xyz" for b in "12" for c in "pq"])


def closure(taxonomy: Taxonomy) -> list[tuple[int, int]]:
    """(ancestor, descendant) pairs."""
    return [(int(a), n) for n in range(len(taxonomy)) for a in taxonomy.ancestors(n)]


def states(taxonomy: Taxonomy, rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ends = torch.tensor(taxonomy.terminals)
    ends = ends[torch.randint(len(ends), (rows,), generator=generator)]
    centres = torch.randn(len(taxonomy), 24, generator=torch.Generator().manual_seed(99))
    return centres[ends] + 0.1 * torch.randn(rows, 24, generator=generator), ends


def trained(head: HyperbolicHead, steps: int, rate: float = 0.03) -> HyperbolicHead:
    optimizer = build_optimizer(head, learning_rate=rate, point_learning_rate=rate)
    torch.manual_seed(0)
    for step in range(steps):
        hidden, ends = states(head.taxonomy, 32, step)
        optimizer.zero_grad()
        head(hidden, ends).loss.backward()
        optimizer.step()
    return head


def held(head: HyperbolicHead, pairs: list[tuple[int, int]]) -> float:
    """Share of (ancestor, descendant) pairs in which the descendant lies in the cone."""
    above, below = torch.tensor(pairs).T
    nodes = head.node_tangents().detach()
    energy = cones.polar_cone_energy(nodes[above], nodes[below], c=head.c)
    return float((energy < 1e-3).float().mean())


@pytest.mark.parametrize("pairs", ["closure", "edges"])
def test_a_node_above_all_others_draws_them_in_as_well(pairs):
    taxonomy = Taxonomy.from_paths([("all", "a"), ("all", "b")])  # where nothing is outside
    nodes = torch.randn(len(taxonomy), 3, generator=torch.Generator().manual_seed(1))
    above, below = torch.tensor(closure(taxonomy)).T
    held = cones.polar_cone_energy(nodes[above], nodes[below], c=1.3).mean()
    assert held > 0.1
    loss = ConeLoss(taxonomy, 1.0, 0.0, pairs=pairs)(nodes, [], torch.empty(0), 1.3)
    torch.testing.assert_close(loss, held)


def test_pairs_with_and_without_a_false_child_count_alike():
    taxonomy = Taxonomy.from_paths([("all", "a", "c"), ("all", "b", "d")])
    nodes = torch.randn(len(taxonomy), 3, generator=torch.Generator().manual_seed(1))
    nodes.requires_grad_()
    loss = ConeLoss(taxonomy, 1.0, 0.0, pairs="edges")
    found = loss(nodes, [], torch.empty(0), 1.3)
    loss.reseed(0)
    above, below = torch.tensor(taxonomy.edges[:, ::-1].copy()).T
    false = torch.tensor(loss._negatives.false_children(above.numpy(), cone_loss.NEGATIVES))
    energy = cones.polar_cone_energy(nodes[above].unsqueeze(1), nodes[false], c=1.3)
    out = torch.relu(0.01 - energy)[(false >= 0).all(1)].sum()
    held = cones.polar_cone_energy(nodes[above], nodes[below], c=1.3).sum()
    torch.testing.assert_close(found, (held + out) / len(above))


@pytest.mark.parametrize(("geometry", "coordinates"), HYPERBOLIC)
def test_training_puts_descendants_inside_and_beyond_their_ancestors(geometry, coordinates):
    taxonomy = tree()
    head = HyperbolicHead(
        24, taxonomy, 8, geometry, coordinates=coordinates, dropout=0.0, init="random",
        cone_weight=5.0,
    )  # fmt: skip
    pairs = closure(taxonomy)
    backwards = [(b, a) for a, b in pairs]
    assert held(head, pairs) < 0.2  # a random start knows nothing of the tree
    trained(head, 120, rate=0.05)
    assert held(head, pairs) > 0.9
    assert held(head, backwards) < 0.05  # the orientation: no parent in a child's cone
    radius = head.node_tangents().detach().norm(dim=1)
    above, below = torch.tensor(pairs).T
    assert (radius[above] < radius[below]).float().mean() > 0.9
    hidden, ends = states(taxonomy, 40, 999)
    answers = head.decode(head(hidden).logits)
    right = [a == taxonomy.path(int(n)) for a, n in zip(answers, ends, strict=True)]
    assert np.mean(right) > 0.9


def test_text_cones_put_texts_inside_the_cones_of_their_labels():
    taxonomy = tree()
    made = {}
    for weight in (0.0, 2.0):
        head = HyperbolicHead(24, taxonomy, 8, dropout=0.0, text_cone_weight=weight)
        trained(head, 80, rate=0.05)
        hidden, ends = states(taxonomy, 60, 999)
        texts = head.space().to_polar(head(hidden).points).detach()
        nodes, paths = head.node_tangents().detach(), torch.tensor(taxonomy.path_matrix)[ends]
        energy = torch.stack(
            [cones.polar_cone_energy(nodes[paths[:, level]], texts) for level in range(3)]
        )
        made[weight] = float((energy < 1e-2).float().mean())
    assert made[2.0] > 0.7
    assert made[2.0] > made[0.0]


@pytest.mark.parametrize("geometry", ["poincare", "lorentz"])
def test_the_loss_adds_the_weighted_cone_terms(geometry):
    taxonomy = tree()
    hidden, ends = states(taxonomy, 16)
    plain = HyperbolicHead(24, taxonomy, 8, geometry, dropout=0.0)(hidden, ends).loss

    def extra(**weights: float) -> float:
        torch.manual_seed(3)  # the same pairs and negatives each time
        head = HyperbolicHead(24, taxonomy, 8, geometry, dropout=0.0, **weights)
        return float((head(hidden, ends).loss - plain).detach())

    nodes, texts = extra(cone_weight=1.0), extra(text_cone_weight=1.0)
    assert nodes > 0
    assert texts > 0
    assert extra(cone_weight=0.5) == pytest.approx(nodes / 2, rel=1e-4)
    both = extra(cone_weight=2.0, text_cone_weight=3.0)
    assert both == pytest.approx(2 * nodes + 3 * texts, rel=1e-4)


def test_every_pair_of_a_small_closure_is_used_and_edges_are_fewer():
    """Of random points nearly every pair is violated, so the positive part is the whole loss."""
    taxonomy = tree()
    nodes = torch.randn(len(taxonomy), 6, generator=torch.Generator().manual_seed(0)) * 2
    nodes.requires_grad_()
    for pairs, expected in (("closure", closure(taxonomy)), ("edges", taxonomy.edges[:, ::-1])):
        loss = ConeLoss(taxonomy, 1.0, 0.0, pairs=pairs)
        above, below = torch.tensor(np.array(expected)).T
        positive = cones.polar_cone_energy(nodes[above], nodes[below]).sum() / len(above)
        total = loss(nodes, [], torch.empty(0, 3, dtype=torch.long), 1.0)
        # Random points are nearly all outside each other's cones: little is left for negatives.
        assert 0 <= float((total - positive).detach()) < 0.01 * cone_loss.NEGATIVES


def test_negatives_are_never_descendants():
    """With all descendants inside their cones and everything else outside, the loss is zero."""
    taxonomy = Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z"), ("b", "w")])
    side = {"x": 0.1, "y": -0.1, "z": 0.1, "w": -0.1}
    sign = {"a": 1.0, "b": -1.0}
    nodes = torch.tensor(
        [
            [sign[taxonomy.path(n)[0]] * taxonomy.depth[n], side.get(taxonomy.name(n), 0.0)]
            for n in range(len(taxonomy))
        ]
    )
    loss = ConeLoss(taxonomy, 1.0, 0.0)
    for seed in range(20):
        torch.manual_seed(seed)
        assert float(loss(nodes, [], torch.empty(0, 2, dtype=torch.long), 1.0)) == 0


def test_masked_levels_and_unlabelled_texts_give_no_text_loss():
    taxonomy = Taxonomy.from_paths([("a", "x", "p"), ("a", "y"), ("b",)])
    head = HyperbolicHead(24, taxonomy, 8, dropout=0.0, text_cone_weight=1.0)
    hidden = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    assert head(hidden, torch.full((3,), -100)).loss.item() == 0
    hidden.requires_grad_()
    out = head(hidden, torch.tensor([-100, taxonomy.index(("b",)), -100]))
    (grad,) = torch.autograd.grad(out.loss, hidden)
    assert not grad[[0, 2]].any()
    assert grad[1].any()


def test_a_second_gold_path_is_never_pushed_away():
    """Two leaves, both gold: nothing is left to draw as a wrong label, whatever the draw."""
    taxonomy = Taxonomy.from_paths([("a", "x"), ("a", "y")])
    loss = ConeLoss(taxonomy, 0.0, 1.0)
    nodes = torch.tensor([[0.1, 0.0], [2.0, 0.01], [2.0, -0.01]])
    text = torch.tensor([[4.0, 0.0]]).repeat(2, 1)  # inside both cones
    gold = torch.tensor([[0, 1], [0, 2]])
    marked = torch.ones(2, 3, dtype=torch.bool)
    assert float(loss(nodes, [text, text], gold, 1.0, marked=marked)) == 0
    assert float(loss(nodes, [text, text], gold, 1.0)) > 0


def test_a_second_parent_is_never_pushed_away():
    taxonomy = Taxonomy.from_edges([("m", "a"), ("m", "b")])
    a, b, m = (taxonomy.index(name) for name in "abm")
    nodes = torch.zeros(3, 2)
    nodes[a], nodes[b], nodes[m] = (
        torch.tensor(x) for x in ((1.0, 0.02), (1.0, -0.02), (2.0, 0.0))
    )
    text = torch.tensor([[4.0, 0.0]])
    loss = ConeLoss(taxonomy, 0.0, 1.0)
    gold = torch.tensor([[int(taxonomy.parent[m]), m]])
    assert float(loss(nodes, [text, text], gold, 1.0)) == 0


def test_a_large_closure_is_sampled(monkeypatch):
    monkeypatch.setattr(cone_loss, "PAIRS_PER_STEP", 5)
    seen = []
    kept = cones.cone_margin_loss
    monkeypatch.setattr(
        cones, "cone_margin_loss", lambda p, *a, **k: (seen.append(len(p)), kept(p, *a, **k))[1]
    )
    taxonomy = tree()
    ConeLoss(taxonomy, 1.0, 0.0)(
        torch.randn(len(taxonomy), 4), [], torch.empty(0, 3, dtype=torch.long), 1.0
    )
    assert seen == [5]


def test_a_flat_taxonomy_has_no_pairs_and_no_loss():
    taxonomy = Taxonomy.from_paths([("a",), ("b",)])
    head = HyperbolicHead(24, taxonomy, 4, dropout=0.0, cone_weight=1.0)
    plain = HyperbolicHead(24, taxonomy, 4, dropout=0.0)
    hidden, ends = torch.randn(2, 24), torch.tensor([0, 1])
    assert torch.equal(head(hidden, ends).loss, plain(hidden, ends).loss)


def test_equal_seeds_draw_alike_and_a_reseeded_loss_starts_again():
    taxonomy = tree()
    hidden, ends = states(taxonomy, 16)

    def losses(head: HyperbolicHead) -> list[float]:
        return [head(hidden, ends).loss.item() for _ in range(4)]

    def fresh(seed: int) -> HyperbolicHead:
        # Near the origin and in the plane cones are wide and overlap, so negatives matter.
        head = HyperbolicHead(
            24, taxonomy, 2, dropout=0.0, init="random", init_step=0.1,
            cone_weight=1.0, text_cone_weight=1.0,
        )  # fmt: skip
        assert head.cone_loss is not None
        head.cone_loss.reseed(seed)
        return head

    head = fresh(1)
    first = losses(head)
    assert len(set(first)) > 1
    assert losses(fresh(1)) == first
    assert losses(fresh(2)) != first
    assert losses(head) != first
    head.cone_loss.reseed(1)
    assert losses(head) == first


def test_gradient_reaches_a_learned_curvature():
    taxonomy = tree()
    head = HyperbolicHead(24, taxonomy, 8, dropout=0.0, learn_curvature=True, cone_weight=1.0)
    gold = torch.empty(0, 3, dtype=torch.long)
    head.cone_loss(head.node_tangents(), [], gold, head.c).backward()
    assert head.curvature_logit.grad.abs() > 0


def test_unknown_pairs_are_refused():
    with pytest.raises(OptionError, match="cone_pairs 'parents' is unknown; choose closure or"):
        ConeLoss(tree(), 1.0, 0.0, pairs="parents")
