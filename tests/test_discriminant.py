"""Starting from labelled texts: Fisher's discriminants, shrunk means, one space for all taps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch.nn import functional as F

from hyperlm.errors import DataError, OptionError
from hyperlm.heads import HyperbolicHead, LinearHead, start_from_texts
from hyperlm.heads.discriminant import _shrinkage, node_means
from hyperlm.heads.losses import gold_ends
from hyperlm.taxonomy import Taxonomy

PATHS = [(a, f"{a}{b}") for a in "xyz" for b in "klm"]
TREE = Taxonomy.from_paths(PATHS)
D = 20


def labelled(count=180, taps=1, seed=0, spread=6.0):
    """Texts around a centre per leaf, in coordinates of very different spread."""
    random = torch.Generator().manual_seed(seed)
    leaves = torch.tensor(TREE.leaves.copy())
    ends = leaves[torch.arange(count) % len(leaves)]
    centres = torch.randn(taps, len(TREE), D, generator=random)
    noise = torch.randn(count, taps, D, generator=random) * torch.linspace(0.1, spread, D)
    return centres[:, ends].transpose(0, 1) + noise, ends


@pytest.mark.parametrize("geometry", ["euclidean", "poincare", "lorentz"])
@pytest.mark.parametrize("curvature", [1.0, 4.0])
def test_coordinates_are_those_of_scikit_learns_discriminants(geometry, curvature):
    """With every direction kept, differences of squared distances are those of Mahalanobis'.

    Means are shrunk here and not there, a thousandth with so many texts. The coordinates are
    tangent vectors, so that neither the geometry nor c changes them.
    """
    features, ends = labelled(count=9000)
    head = HyperbolicHead(D, TREE, dim=D, geometry=geometry, curvature=curvature).eval()
    start_from_texts(head, features, ends)
    with torch.no_grad():
        texts = head.projections[0](features[:, 0])
    nodes = head.node_tangents().detach()[ends.unique()]
    ours = torch.cdist(texts.double(), nodes.double()).square()
    normal = F.layer_norm(features[:, 0], (D,)).double().numpy()
    apart = normal - np.stack([normal[ends.numpy() == end].mean(0) for end in ends.tolist()])
    shrinkage = max(0.01, ledoit_wolf_shrinkage(apart, assume_centered=True))
    solver = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=shrinkage, priors=np.full(9, 1 / 9)
    ).fit(normal, ends.numpy())
    theirs = solver.decision_function(normal)
    a = (ours[:, :1] - ours).flatten().numpy()
    b = (theirs - theirs[:, :1]).flatten()
    assert np.corrcoef(a, b)[0, 1] > 0.999


@pytest.mark.parametrize("head", ["points", "linear"])
def test_labels_are_told_apart_before_any_training(head):
    features, ends = labelled(taps=2, count=1800)
    kind = {"points": HyperbolicHead, "linear": LinearHead}[head]
    made = kind(D, TREE, dim=8, tap_of_level=(0, 1), seed=1).eval()
    answers = lambda: made.decode(made(features.unbind(1)).logits)  # noqa: E731
    gold = [TREE.path(int(end)) for end in ends]
    right = lambda: np.mean([a == g for a, g in zip(answers(), gold, strict=True)])  # noqa: E731
    before = right()
    start_from_texts(made, features, ends)
    assert before < 0.3 < 0.5 < right()


def test_a_linear_head_starts_as_the_flat_twin():
    features, ends = labelled()
    linear, points = LinearHead(D, TREE, 8).eval(), HyperbolicHead(D, TREE, 8, "euclidean").eval()
    for head in (linear, points):
        start_from_texts(head, features, ends)
    with torch.no_grad():
        text = points.projections[0](features[:, 0])
        squared = torch.cdist(text, points.node_tangents()).square()
        scores = linear.eval()(features.unbind(1)).logits
    differences = scores - scores[:, :1]
    torch.testing.assert_close(differences, -10 * (squared - squared[:, :1]), atol=1e-4, rtol=1e-4)


@given(st.integers(3, 40), st.integers(2, 8), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_covariance_is_shrunk_as_scikit_learn_does(count, width, seed):
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).double()
    rows *= torch.linspace(0.2, 3, width)
    share = _shrinkage(rows, torch.ones(count).double(), rows.T @ rows / count).item()
    wanted = ledoit_wolf_shrinkage(rows.numpy(), assume_centered=True)
    assert share == pytest.approx(max(0.01, wanted), abs=1e-9)


def test_a_weight_counts_as_that_many_rows():
    rows = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)).double()
    weights = torch.tensor([1.0, 2.0, 3.0]).double().repeat(4)
    often = rows.repeat_interleave(weights.long(), 0)
    by_weight = _shrinkage(rows, weights, rows.T @ (weights[:, None] * rows) / weights.sum())
    by_rows = _shrinkage(often, torch.ones(24).double(), often.T @ often / 24)
    assert by_weight.item() == pytest.approx(by_rows.item(), rel=1e-9)


def test_a_label_without_texts_lies_at_its_name():
    """Names are read as texts of their labels; one label has nothing else."""
    features, ends = labelled(count=900, spread=0.6)
    named = torch.stack([features[ends == leaf].mean(0) for leaf in ends.unique()])
    names = torch.zeros(len(TREE), 1, D)
    names[ends.unique()] = named
    for node in range(len(TREE)):
        if node not in ends.unique():
            below = [leaf for leaf in TREE.leaves if node in TREE.ancestors(leaf)]
            names[node] = names[below].mean(0)
    unseen = int(TREE.leaves[4])
    rows = ends != unseen
    bare, called = (HyperbolicHead(D, TREE, dim=8).eval() for _ in range(2))
    start_from_texts(bare, features[rows], ends[rows])
    start_from_texts(called, features[rows], ends[rows], names=names)

    def right(head):
        paths = head.decode(head(features[~rows].unbind(1)).logits)
        return np.mean([path == TREE.path(unseen) for path in paths])

    # Without texts and name it lies where its parent does.
    assert right(bare) < 0.3 < 0.5 < right(called)


def test_a_name_counts_as_texts_do():
    """``b`` names weigh as ``b`` texts at the same place."""
    taxonomy = Taxonomy.from_paths([("a", "b"), ("c",)])
    b, a, c = (taxonomy.index(p) for p in (("a", "b"), ("a",), ("c",)))
    cuts = HyperbolicHead(1, taxonomy, dim=2).cuts(torch.device("cpu"))
    texts, ends = torch.tensor([[1.0], [4.0]]), torch.tensor([b, c])
    names = torch.zeros(3, 1)
    names[b], names[a], names[c] = 7.0, 2.0, 5.0
    means = node_means(texts, ends, torch.ones(2), cuts, (names, 3.0))
    assert means[a].item() == pytest.approx((1 + 2.5 + 3 * 2) / 5)
    assert means[b].item() == pytest.approx((1 + means[a].item() + 3 * 7) / 5)
    assert means[c].item() == pytest.approx((4 + 2.5 + 3 * 5) / 5)


@pytest.mark.parametrize("temperature", [5.0, 20.0])
def test_temperatures_are_set(temperature):
    features, ends = labelled()
    head = HyperbolicHead(D, TREE, dim=8)
    start_from_texts(head, features, ends, temperature=temperature)
    torch.testing.assert_close(head.log_temperature.exp(), torch.full((2,), temperature))


def test_means_are_shrunk_to_the_parent():
    taxonomy = Taxonomy.from_paths([("a", "b"), ("a", "c"), ("d",)])
    b, c, a, d = (taxonomy.index(p) for p in (("a", "b"), ("a", "c"), ("a",), ("d",)))
    head = HyperbolicHead(1, taxonomy, dim=2)
    texts = torch.tensor([[1.0], [5.0], [6.0]])
    means = node_means(texts, torch.tensor([b, b, d]), torch.ones(3), head.cuts(texts.device))
    assert means[a].item() == pytest.approx((1 + 5 + 4) / 3)  # 4 is the mean of all
    assert means[b].item() == pytest.approx((1 + 5 + 10 / 3) / 3)
    assert means[c].item() == means[a].item()  # has no text
    assert means[d].item() == pytest.approx((6 + 4) / 2)


def test_texts_count_for_every_parent():
    taxonomy = Taxonomy.from_edges([("b", "v"), ("b", "w"), ("a", "v"), ("x", "w")])
    a, b, v, w = (taxonomy.index(name) for name in "abvw")
    texts = torch.tensor([[1.0], [5.0]])
    cuts = HyperbolicHead(1, taxonomy, dim=2).cuts(texts.device)
    means = node_means(texts, torch.tensor([a, b]), torch.ones(2), cuts)
    assert means[v].item() == pytest.approx((1 + 5 + 3) / 3)  # 3 is the mean of all
    assert means[w].item() == pytest.approx((5 + 3) / 2)


def test_nothing_of_a_bias_learned_before_is_left():
    features, ends = labelled()
    fresh, used = (HyperbolicHead(D, TREE, dim=4).eval() for _ in range(2))
    torch.nn.init.normal_(used.bias)
    for head in (fresh, used):
        start_from_texts(head, features, ends)
    with torch.no_grad():
        assert torch.equal(fresh(features[:, 0]).logits, used(features[:, 0]).logits)


def test_ends_of_every_kind_give_one_start():
    """End nodes, nodes per level and marked nodes of the same paths."""
    features, ends = labelled(count=90)
    parent = torch.tensor(TREE.parent.copy())
    per_level = torch.stack([parent[ends], ends], 1)
    marked = torch.zeros(len(ends), len(TREE), dtype=torch.bool).scatter(1, per_level, True)
    heads = [HyperbolicHead(D, TREE, dim=8) for _ in range(3)]
    for head, targets in zip(heads, (ends, per_level, marked), strict=True):
        start_from_texts(head, features, targets)
    cuts = heads[0].cuts(ends.device)
    assert torch.equal(gold_ends(marked, cuts)[1], ends)
    for head in heads[1:]:
        torch.testing.assert_close(head.points.data, heads[0].points.data)


def test_one_tap_needs_no_axis_of_its_own():
    features, ends = labelled(count=90)
    names = torch.randn(len(TREE), 1, D, generator=torch.Generator().manual_seed(1))
    flat, full = (HyperbolicHead(D, TREE, dim=8) for _ in range(2))
    start_from_texts(flat, features[:, 0], ends, names=names[:, 0])
    start_from_texts(full, features, ends, names=names)
    assert torch.equal(flat.points.data, full.points.data)


def test_taps_share_one_space():
    """The labels' means by the shallow tap lie nearest to those by the deep one."""
    features, ends = labelled(count=900, taps=1)
    other = features @ torch.linalg.qr(torch.randn(D, D))[0]
    head = HyperbolicHead(D, TREE, dim=8, tap_of_level=(0, 1)).eval()
    start_from_texts(head, torch.cat([other, features], 1), ends)
    with torch.no_grad():
        shallow = head.projections[0](other[:, 0])
        deep = head.projections[1](features[:, 0])
    of = [torch.stack([x[ends == leaf].mean(0) for leaf in ends.unique()]) for x in (shallow, deep)]
    nearest = torch.cdist(*of).argmin(1)
    assert torch.equal(nearest, torch.arange(len(nearest)))


def test_every_direction_can_learn():
    """More dimensions than labels: none of the projection's rows starts at nothing."""
    features, ends = labelled()
    head = HyperbolicHead(D, TREE, dim=16)
    start_from_texts(head, features, ends)
    assert (head.projections[0].linear.weight.norm(dim=1) > 0).all()


def test_radius_and_determinism():
    features, ends = labelled()
    first, second = (HyperbolicHead(D, TREE, dim=8, seed=s) for s in (0, 1))
    for head in (first, second):
        start_from_texts(head, features, ends, radius=0.7)
    assert torch.equal(first.points, second.points)
    with torch.no_grad():
        length = first.projections[0].eval()(features[:, 0]).norm(dim=1).mean()
    assert length.item() == pytest.approx(0.7, rel=1e-5)


def test_refusals():
    features, ends = labelled()
    head = HyperbolicHead(D, TREE, dim=8)
    with pytest.raises(OptionError, match=r"the head reads \(n, 1, 20\)"):
        start_from_texts(head, features[..., :5], ends)
    with pytest.raises(OptionError, match=r"one per node, \(12, 1, 20\)"):
        start_from_texts(head, features, ends, names=torch.zeros(9, 1, D))
    with pytest.raises(OptionError, match="must not be negative"):
        start_from_texts(head, features, ends, name_weight=-1.0)
    with pytest.raises(DataError, match="at least 2 labels"):
        start_from_texts(head, features, torch.full_like(ends, int(ends[0])))
    with pytest.raises(DataError, match="NaN or infinity"):
        start_from_texts(head, features * float("nan"), ends)
    with pytest.raises(DataError, match="no label has texts that differ"):
        start_from_texts(head, torch.zeros(4, 1, D), ends[:4])


# --- held-out texts choose the radius --------------------------------------------------------


WIDE = Taxonomy.from_paths([(a, f"{a}{b}") for a in "uvwxyz" for b in "klmno"])


def of_one_radius(counts, seed, noise=1.5, width=40):
    """Texts around 30 centres at one distance from the middle, and 600 more."""
    random = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(len(WIDE), width, generator=random), dim=1)
    leaves = torch.tensor(WIDE.leaves.copy())
    learnt = torch.cat([leaf.repeat(counts[at % 2]) for at, leaf in enumerate(leaves)])
    parts = []
    for ends in (learnt, leaves.repeat(20)):
        spread = torch.randn(len(ends), width, generator=random) / width**0.5
        parts.append(((centres[ends] + noise * spread).unsqueeze(1), ends))
    return parts


def right(head, features, ends):
    paths = head.decode(head.eval()(features.unbind(1)).logits)
    tree = head.taxonomy
    return sum(path == tree.path(int(end)) for path, end in zip(paths, ends, strict=True))


@pytest.mark.parametrize("options", [{}, {"geometry": "lorentz", "curvature": 0.25}])
@pytest.mark.parametrize("counts", [(2, 1), (2, 2)])
@pytest.mark.parametrize("seed", [0, 1])
def test_few_texts_that_disagree_are_better_told_apart_at_one_radius(options, counts, seed):
    learnt, held = of_one_radius(counts, seed)
    plain, even = (HyperbolicHead(40, WIDE, 16, **options) for _ in range(2))
    start_from_texts(plain, *learnt)
    start_from_texts(even, *learnt, held_out=held)
    assert right(even, *held) > right(plain, *held)
    was, now = plain.node_tangents(), even.node_tangents()
    ends = torch.tensor(WIDE.leaves.copy())
    radii = now[ends].norm(dim=1)
    torch.testing.assert_close(radii, was[ends].norm(dim=1).mean().expand_as(radii))
    torch.testing.assert_close(F.normalize(now, dim=1), F.normalize(was, dim=1))
    assert torch.equal(now[WIDE.level_slices[0]], was[WIDE.level_slices[0]])  # no path ends there


def test_labels_in_a_row_keep_their_radii():
    """Bad, middling, good: moved to one radius, the middle would be anywhere."""
    row = Taxonomy.from_paths([("bad",), ("middling",), ("good",)])
    random = torch.Generator().manual_seed(0)
    ends = torch.arange(3).repeat(200)
    along = torch.randn(D, generator=random)
    texts = (ends - 1.0)[:, None] * along + 0.3 * torch.randn(600, D, generator=random)
    plain, chosen = (HyperbolicHead(D, row, 4) for _ in range(2))
    start_from_texts(plain, texts[:300], ends[:300])
    start_from_texts(chosen, texts[:300], ends[:300], held_out=(texts[300:], ends[300:]))
    assert torch.equal(chosen.node_tangents(), plain.node_tangents())


@given(st.integers(0, 10_000), st.integers(9, 60), st.sampled_from([HyperbolicHead, LinearHead]))
@settings(max_examples=20, deadline=None)
def test_what_held_out_texts_choose_answers_no_fewer_of_them(seed, count, kind):
    features, ends = labelled(count=count + 60, taps=2, seed=seed)
    learnt, held = (features[:count], ends[:count]), (features[count:], ends[count:])
    plain, chosen = (kind(D, TREE, 12, tap_of_level=(0, 1)) for _ in range(2))
    start_from_texts(plain, *learnt)
    start_from_texts(chosen, *learnt, held_out=held)
    assert chosen.training  # as it was
    assert right(chosen, *held) >= right(plain, *held)


def test_held_out_texts_of_another_shape_or_number_are_refused():
    features, ends = labelled(taps=2)
    head = HyperbolicHead(D, TREE, 4, tap_of_level=(0, 1))
    with pytest.raises(OptionError, match="one state per tap"):
        start_from_texts(head, features, ends, held_out=(features[:, :1], ends))
    with pytest.raises(OptionError, match="give one row per text"):
        start_from_texts(head, features, ends, held_out=(features, ends[:-1]))
