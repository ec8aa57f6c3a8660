"""The loss of a head is minus the logarithm of what its decoder gives the gold path.

Oracles: ``F.cross_entropy`` per level where all paths are equally long; elsewhere brute force that
knows a taxonomy only by its edges, lists every path and normalises by hand.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hyperlm.decoding import Cuts, decode, path_scores
from hyperlm.errors import OptionError
from hyperlm.heads.losses import gold_ends, path_loss
from hyperlm.taxonomy import Taxonomy

KINDS = ("level", "path", "leaf")
CLOSE = {torch.float32: {"rtol": 2e-5, "atol": 2e-5}, torch.float64: {"rtol": 1e-9, "atol": 1e-9}}


def uniform() -> Taxonomy:
    """Three levels, every path of length three: 2 + 5 + 11 nodes."""
    sizes = {"a": (2, 1, 3), "b": (2, 3)}
    return Taxonomy.from_paths(
        [
            (top, f"{top}{mid}", f"{top}{mid}{leaf}")
            for top, mids in sizes.items()
            for mid, leaves in enumerate(mids)
            for leaf in range(leaves)
        ]
    )


def ragged() -> Taxonomy:
    """Leaves at depths 1, 2, 3 and an inner node, ``a/x``, at which paths may end."""
    return Taxonomy.from_paths(
        [("a", "x", "p"), ("a", "x", "q"), ("a", "x"), ("a", "y"), ("b", "z", "p"), ("c",)]
    )


def dag() -> Taxonomy:
    """Two ways to ``m``, one of them longer, so that a path waits."""
    return Taxonomy.from_edges(
        [("x", "a"), ("y", "a"), ("y", "b"), ("m", "x"), ("m", "b"), ("n", "y"), ("o", "b")]
    )


TREES = {"uniform": uniform(), "ragged": ragged()}
ALL = {**TREES, "dag": dag()}


def random_logits(taxonomy: Taxonomy, rows: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, len(taxonomy), dtype=torch.float64, generator=generator)


# --- the brute force -------------------------------------------------------------------------


def all_paths(taxonomy: Taxonomy) -> list[list[int]]:
    """Every way from the root to a terminal, as node lists."""
    terminals = set(taxonomy.terminals.tolist())
    found, stack = [], [[int(n)] for n in taxonomy.children(-1)]
    while stack:
        path = stack.pop()
        if path[-1] in terminals:
            found.append(path)
        stack += [[*path, int(child)] for child in taxonomy.children(path[-1])]
    return found


def in_cuts(path: list[int], taxonomy: Taxonomy) -> list[int]:
    """The member of each level's cut that a path runs through: its deepest node so far."""
    depth = taxonomy.depth
    return [
        max((n for n in path if depth[n] <= level), key=lambda n: depth[n])
        for level in range(1, taxonomy.num_levels + 1)
    ]


def log_softmax_over(row: list[float], chosen: int, among: set[int]) -> float:
    return row[chosen] - math.log(sum(math.exp(row[n]) for n in among))


def brute_score(row: list[float], path: list[int], taxonomy: Taxonomy, kind: str) -> float:
    """Log-score of one complete path for one text's logits."""
    paths = all_paths(taxonomy)
    if kind == "leaf":
        return log_softmax_over(row, path[-1], {p[-1] for p in paths})
    if kind == "level":
        cuts = [set(column) for column in zip(*(in_cuts(p, taxonomy) for p in paths), strict=True)]
        members = in_cuts(path, taxonomy)
        return sum(log_softmax_over(row, n, cut) for n, cut in zip(members, cuts, strict=True))
    terminals = set(taxonomy.terminals.tolist())
    total = 0.0
    for above, node in itertools.pairwise([-1, *path]):
        choices = set(taxonomy.children(above).tolist()) | ({above} & terminals)
        total += log_softmax_over(row, node, choices)
    end = path[-1]
    below = set(taxonomy.children(end).tolist())
    return total + (log_softmax_over(row, end, below | {end}) if below else 0.0)


def brute_partial(row: list[float], end: int, taxonomy: Taxonomy, kind: str) -> float:
    """Log-score of the way down to an inner node at which no path ends (trees only)."""
    path = taxonomy.path_nodes(end).tolist()
    paths = all_paths(taxonomy)
    if kind == "leaf":
        below = {p[-1] for p in paths if end in p}
        ends = {p[-1] for p in paths}
        return math.log(sum(math.exp(log_softmax_over(row, n, ends)) for n in below))
    if kind == "level":
        cuts = [set(column) for column in zip(*(in_cuts(p, taxonomy) for p in paths), strict=True)]
        return sum(log_softmax_over(row, n, cut) for n, cut in zip(path, cuts, strict=False))
    terminals = set(taxonomy.terminals.tolist())
    total = 0.0
    for above, node in itertools.pairwise([-1, *path]):
        choices = set(taxonomy.children(above).tolist()) | ({above} & terminals)
        total += log_softmax_over(row, node, choices)
    return total


def brute_best(row: list[float], end: int, taxonomy: Taxonomy, kind: str) -> float:
    ways = [p for p in all_paths(taxonomy) if p[-1] == end]
    if not ways:
        return brute_partial(row, end, taxonomy, kind)
    return max(brute_score(row, way, taxonomy, kind) for way in ways)


# --- laws ------------------------------------------------------------------------------------


def test_level_loss_is_the_sum_of_cross_entropies_where_paths_are_equally_long():
    taxonomy = uniform()
    logits, leaves = random_logits(taxonomy, rows=11), torch.tensor(taxonomy.leaves)
    path = torch.tensor(taxonomy.path_matrix)[leaves]
    expected = sum(
        F.cross_entropy(logits[:, part], path[:, level] - part.start)
        for level, part in enumerate(taxonomy.level_slices)
    )
    got = path_loss(logits, Cuts(taxonomy), leaves, kind="level")
    torch.testing.assert_close(got, expected, **CLOSE[torch.float64])


def test_leaf_loss_is_cross_entropy_over_the_leaves():
    taxonomy = uniform()
    logits, leaves = random_logits(taxonomy, rows=11), torch.tensor(taxonomy.leaves)
    expected = F.cross_entropy(logits[:, leaves], torch.arange(len(leaves)))
    got = path_loss(logits, Cuts(taxonomy), leaves, kind="leaf")
    torch.testing.assert_close(got, expected, **CLOSE[torch.float64])


def test_path_loss_is_the_sum_of_cross_entropies_among_siblings():
    taxonomy = uniform()
    logits, leaves = random_logits(taxonomy, rows=11), torch.tensor(taxonomy.leaves)
    expected = 0.0
    for row, leaf in enumerate(leaves.tolist()):
        for above, node in itertools.pairwise([-1, *taxonomy.path_nodes(leaf).tolist()]):
            siblings = torch.tensor(taxonomy.children(above).copy())
            gold = torch.tensor((siblings == node).nonzero().item())
            expected += F.cross_entropy(logits[row, siblings], gold) / len(leaves)
    got = path_loss(logits, Cuts(taxonomy), leaves, kind="path")
    torch.testing.assert_close(got, expected, **CLOSE[torch.float64])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_loss_of_every_end_node_agrees_with_brute_force(name, kind):
    taxonomy = ALL[name]
    cuts = Cuts(taxonomy)
    logits = random_logits(taxonomy, rows=2)
    # In a DAG an inner node that is no terminal has no path of its own; trees check every node.
    ends = taxonomy.terminals if name == "dag" else range(len(taxonomy))
    for end in map(int, ends):
        expected = -np.mean([brute_best(row, end, taxonomy, kind) for row in logits.tolist()])
        got = path_loss(logits, cuts, torch.full((2,), end), kind=kind)
        assert float(got) == pytest.approx(expected, rel=1e-9), (end, taxonomy.path(end))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_loss_is_minus_the_score_that_decoding_maximises(name, kind):
    taxonomy = ALL[name]
    logits = random_logits(taxonomy, rows=len(taxonomy.terminals))
    ends = torch.tensor(taxonomy.terminals)
    scores = path_scores(logits, taxonomy, loss=kind)
    got = path_loss(logits, Cuts(taxonomy), ends, kind=kind)
    torch.testing.assert_close(
        got, -scores[torch.arange(len(ends)), ends].mean(), **CLOSE[torch.float64]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_three_spellings_of_targets_agree(kind):
    taxonomy = ragged()
    cuts, logits = Cuts(taxonomy), random_logits(taxonomy, rows=len(taxonomy))
    ends = torch.arange(len(taxonomy))  # leaves, inner terminals and inner nodes alike
    levels = torch.tensor(taxonomy.path_matrix).masked_fill(
        torch.tensor(taxonomy.path_matrix) < 0, -100
    )
    marked = torch.zeros(len(taxonomy), len(taxonomy), dtype=torch.bool)
    for end in range(len(taxonomy)):
        marked[end, torch.tensor(taxonomy.path_nodes(end).copy())] = True
    by_end = path_loss(logits, cuts, ends, kind=kind)
    torch.testing.assert_close(path_loss(logits, cuts, levels, kind=kind), by_end)
    torch.testing.assert_close(path_loss(logits, cuts, marked, kind=kind), by_end)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_several_gold_paths_count_equally_and_each_text_counts_once(name, kind):
    taxonomy = ALL[name]
    cuts, logits = Cuts(taxonomy), random_logits(taxonomy, rows=2)
    one, two = (int(n) for n in taxonomy.leaves[[0, -1]])
    marked = torch.zeros(2, len(taxonomy), dtype=torch.bool)
    for row, ends in enumerate([(one, two), (two,)]):
        for end in ends:
            marked[row, [end, *taxonomy.ancestors(end).tolist()]] = True

    def alone(row: int, end: int) -> torch.Tensor:
        return path_loss(logits[row : row + 1], cuts, torch.tensor([end]), kind=kind)

    expected = ((alone(0, one) + alone(0, two)) / 2 + alone(1, two)) / 2
    torch.testing.assert_close(path_loss(logits, cuts, marked, kind=kind), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_label_are_left_out(kind):
    taxonomy = ragged()
    cuts, logits = Cuts(taxonomy), random_logits(taxonomy, rows=3)
    expected = path_loss(logits[1:2], cuts, torch.tensor([4]), kind=kind)
    got = path_loss(logits, cuts, torch.tensor([-100, 4, -100]), kind=kind)
    torch.testing.assert_close(got, expected)
    level_rows = torch.full((3, taxonomy.num_levels), -100)
    level_rows[1, : taxonomy.depth[4]] = torch.tensor(taxonomy.path_nodes(4).copy())
    torch.testing.assert_close(path_loss(logits, cuts, level_rows, kind=kind), expected)
    marked = torch.zeros(3, len(taxonomy), dtype=torch.bool)
    marked[1, torch.tensor(taxonomy.path_nodes(4).copy())] = True
    torch.testing.assert_close(path_loss(logits, cuts, marked, kind=kind), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["ends", "levels", "marked"])
def test_a_batch_without_any_label_has_loss_zero_and_gradient_zero(shape, kind):
    taxonomy = ragged()
    logits = random_logits(taxonomy, rows=3).requires_grad_()
    targets = {
        "ends": torch.full((3,), -100),
        "levels": torch.full((3, taxonomy.num_levels), -100),
        "marked": torch.zeros(3, len(taxonomy), dtype=torch.bool),
    }[shape]
    loss = path_loss(logits, Cuts(taxonomy), targets, kind=kind)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_text_that_ends_at_an_inner_node_says_nothing_of_the_levels_below():
    taxonomy = ragged()
    logits = random_logits(taxonomy, rows=1).requires_grad_()
    top = taxonomy.index(("a",))  # no path ends there
    path_loss(logits, Cuts(taxonomy), torch.tensor([top]), kind="level").backward()
    deeper = torch.tensor(taxonomy.depth) > 1
    assert not logits.grad[0, deeper].any()
    assert logits.grad[0, ~deeper].any()


def test_a_text_that_ends_at_an_inner_terminal_competes_with_its_children():
    taxonomy = ragged()
    logits = random_logits(taxonomy, rows=1).requires_grad_()
    end = taxonomy.index(("a", "x"))
    path_loss(logits, Cuts(taxonomy), torch.tensor([end]), kind="level").backward()
    children = torch.tensor(taxonomy.children(end).copy())
    assert (logits.grad[0, children] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_gradient(name, kind):
    taxonomy = ALL[name]
    cuts = Cuts(taxonomy)
    ends = torch.tensor(taxonomy.terminals[[0, -1]].copy())
    logits = random_logits(taxonomy, rows=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: path_loss(x, cuts, ends, kind=kind), logits)


@pytest.mark.parametrize("kind", KINDS)
def test_huge_logits_give_finite_losses_and_gradients(kind):
    taxonomy = ragged()
    logits = (random_logits(taxonomy).float() * 1e4).requires_grad_()
    ends = torch.tensor(taxonomy.terminals[:1].copy()).expand(len(logits))
    loss = path_loss(logits, Cuts(taxonomy), ends, kind=kind)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_weights_of_a_row_sum_to_one():
    taxonomy = dag()
    marked = torch.rand(20, len(taxonomy), generator=torch.Generator().manual_seed(0)) < 0.4
    rows, _, weights = gold_ends(marked, Cuts(taxonomy))
    sums = torch.zeros(20).index_add(0, rows, weights)
    torch.testing.assert_close(sums, marked.any(1).float())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 99]), "target 99 is not a node: the taxonomy has nodes 0 to 8"),
        (torch.zeros(2, 2, dtype=torch.long), r"shape \(2, 2\); the taxonomy has 3 levels"),
        (torch.zeros(2, 5, dtype=torch.bool), r"shape \(2, 5\); give \(B, 9\)"),
        (torch.zeros(3, dtype=torch.long), "3 targets for 2 texts"),
        (torch.zeros(2), "float32"),
        (torch.zeros(2, 3, 1, dtype=torch.long), r"shape \(2, 3, 1\)"),
    ],
)
def test_bad_targets_are_refused(targets, message):
    taxonomy = ragged()
    with pytest.raises(OptionError, match=message):
        path_loss(random_logits(taxonomy, rows=2), Cuts(taxonomy), targets, kind="level")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_targets_of_any_integer_type(dtype):
    taxonomy = ragged()
    logits, cuts = random_logits(taxonomy, rows=2), Cuts(taxonomy)
    ends = torch.tensor([3, 5])
    torch.testing.assert_close(
        path_loss(logits, cuts, ends.to(dtype), kind="level"),
        path_loss(logits, cuts, ends, kind="level"),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_masked_nodes_leave_gradients_finite_and_have_none(name, kind, data):
    taxonomy = ALL[name]
    gold = data.draw(st.sampled_from(taxonomy.terminals.tolist()))
    kept = {gold, *map(int, taxonomy.ancestors(gold))}
    free = [node for node in range(len(taxonomy)) if node not in kept]
    masked = data.draw(st.lists(st.sampled_from(free), unique=True))
    logits = random_logits(taxonomy, rows=1, seed=data.draw(st.integers(0, 99)))
    logits[0, masked] = -torch.inf
    logits.requires_grad_()
    loss = path_loss(logits, Cuts(taxonomy), torch.tensor([gold]), kind=kind)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[0, masked].any()


@pytest.mark.parametrize("name", ALL)
def test_nodes_per_level_must_be_a_path(name):
    taxonomy = ALL[name]
    cuts, logits = Cuts(taxonomy), random_logits(taxonomy, rows=1)
    for end in taxonomy.terminals:
        path = cuts.member_at[[int(end)]]
        told = path_loss(logits, cuts, path, kind="level")
        torch.testing.assert_close(told, path_loss(logits, cuts, path[:, -1], kind="level"))
        for level in range(taxonomy.num_levels - 1):
            others = set(range(len(taxonomy))) - {int(end), *map(int, taxonomy.ancestors(end))}
            for other in others:
                wrong = path.clone()
                wrong[0, level] = other
                with pytest.raises(OptionError, match="not on a path"):
                    path_loss(logits, cuts, wrong, kind="level")
    if taxonomy.is_tree:
        classes = torch.zeros(1, taxonomy.num_levels, dtype=torch.long)  # from 0 on every level
        with pytest.raises(OptionError, match="not classes"):
            path_loss(logits, cuts, classes, kind="level")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_decoded_paths_are_targets(name, kind):
    taxonomy = ALL[name]
    cuts, logits = Cuts(taxonomy), random_logits(taxonomy, rows=40)
    decoded = decode(logits, cuts, loss=kind)
    told = path_loss(logits, cuts, decoded.path_nodes, kind=kind)
    torch.testing.assert_close(told, path_loss(logits, cuts, decoded.nodes, kind=kind))
