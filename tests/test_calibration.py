"""One temperature for the probabilities of paths: what it changes, what it leaves, the fit."""

import math

import numpy as np
import pytest
import torch
from decoding_oracle import LOSSES, RAGGED, law, posterior, random_logits, seeds, taxonomies
from hypothesis import given
from hypothesis import strategies as st

from hyperlm.calibration import enough_rows, fit_temperature, path_nll
from hyperlm.decoding import decode, decode_threshold, marginals, top_k
from hyperlm.errors import OptionError
from hyperlm.metrics import expected_calibration_error
from hyperlm.taxonomy import Taxonomy

DAG = Taxonomy.from_edges([("x", "a"), ("x", "b"), ("y", "a"), ("z", "b"), ("w", "y")])
FLAT = Taxonomy.from_paths([(name,) for name in "abcdef"])
temperatures = st.floats(0.2, 8)


def at_temperature(found, temperature):
    """Probabilities of all paths by end node, at a temperature."""
    heated = {end: p ** (1 / temperature) for end, p in found.items()}
    whole = sum(heated.values())
    return {end: p / whole for end, p in heated.items()}


def log_loss(posteriors, gold, temperature):
    """Of "the answer holds", summed over the texts."""
    total = 0.0
    for found, ends in zip(posteriors, gold, strict=True):
        heated = at_temperature(found, temperature)
        answer = max(heated, key=lambda end: heated[end])
        others = sum(p for end, p in heated.items() if end != answer)
        total -= math.log(heated[answer] if answer in ends else others)
    return total


def drawn_gold(taxonomy, logits, loss, temperature, seed=0):
    """Labels drawn from the model's own probabilities at a temperature."""
    random = np.random.default_rng(seed)
    gold = []
    for row in logits.tolist():
        found = posterior(taxonomy, row, loss)
        heated = np.array(list(found.values())) ** (1 / temperature)
        gold.append(random.choice(list(found), 1, p=heated / heated.sum()))
    return gold


@law
@given(taxonomies(), seeds, st.sampled_from(LOSSES), temperatures)
def test_a_temperature_changes_probabilities_by_their_power_and_no_answer(t, seed, loss, heat):
    x = random_logits(t, seed)
    plain, heated = (top_k(x, t, 3, loss=loss, temperature=at) for at in (1.0, heat))
    assert torch.equal(plain.nodes, heated.nodes)
    assert torch.equal(plain.path_nodes, heated.path_nodes)
    sums = marginals(x, t, loss=loss, temperature=heat)
    for row, logits in enumerate(x.tolist()):
        powers = {end: p ** (1 / heat) for end, p in posterior(t, logits, loss).items()}
        whole = sum(powers.values())
        for node, p in zip(heated.nodes[row].tolist(), heated.prob[row].tolist(), strict=True):
            assert p == pytest.approx(powers[node] / whole, rel=1e-9)
        for node in range(len(t)):
            below = [e for e in powers if e == node or node in t.ancestors(e)]
            assert sums[row, node].item() == pytest.approx(
                sum(powers[e] for e in below) / whole, rel=1e-9
            )


@law
@given(seeds, st.sampled_from(LOSSES), st.sampled_from([RAGGED, DAG, FLAT]), temperatures)
def test_the_fit_is_the_lowest_of_a_fine_grid(seed, loss, t, heat):
    x = random_logits(t, seed, rows=12)
    gold = drawn_gold(t, x, loss, heat, seed)
    enumerated = [posterior(t, row, loss) for row in x.tolist()]

    def cost(log_t):
        return log_loss(enumerated, gold, math.exp(log_t)) + log_t**2 / 2

    found = fit_temperature(x, gold, t, loss=loss)
    lowest = min(cost(log_t) for log_t in np.linspace(-1, 3.9, 99))
    assert cost(math.log(found)) <= lowest + 1e-3


@law
@given(seeds, st.sampled_from(LOSSES), temperatures)
def test_the_likelihood_is_that_of_any_gold_path(seed, loss, heat):
    x = random_logits(RAGGED, seed, rows=4)
    ends = RAGGED.terminals
    gold = [ends[:1], ends[1:4], ends[-2:], ends[:0]]
    enumerated = [at_temperature(posterior(RAGGED, row, loss), heat) for row in x.tolist()]
    told = [
        -math.log(sum(found[int(end)] for end in of_text))
        for found, of_text in zip(enumerated[:3], gold[:3], strict=True)
    ]
    found = path_nll(x, gold, RAGGED, loss=loss, temperature=heat)
    assert found == pytest.approx(sum(told) / 3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_that_drew_the_labels_is_found(loss, heat):
    x = 2 * random_logits(RAGGED, 1, rows=3000)
    found = fit_temperature(x, drawn_gold(RAGGED, x, loss, heat), RAGGED, loss=loss)
    assert found == pytest.approx(heat, rel=0.1)


def test_scores_twice_as_large_need_twice_the_temperature():
    x = random_logits(FLAT, 2, rows=2000)
    gold = drawn_gold(FLAT, x, "leaf", 1.5)
    once, twice = (fit_temperature(n * x, gold, FLAT, loss="leaf") for n in (1, 2))
    assert twice == pytest.approx(2 * once, rel=0.01)


def test_a_handful_of_right_answers_makes_nobody_certain():
    x = 8 * torch.eye(6, dtype=torch.float64)[:4]  # four texts, all right and sure of it
    found = fit_temperature(x, [np.array([row]) for row in range(4)], FLAT)
    assert 0.5 < found < 1
    wrong = fit_temperature(x, [np.array([row + 1]) for row in range(4)], FLAT)
    assert wrong > 3


def test_several_gold_paths_make_a_modest_model_surer():
    # Half of the probability on each of two gold paths: either answer holds.
    random = np.random.default_rng(0)
    pairs = [random.choice(6, 2, replace=False) for _ in range(200)]
    x = random_logits(FLAT, 8, rows=200) / 4
    for row, pair in enumerate(pairs):
        x[row, pair] += 4
    found = fit_temperature(x, pairs, FLAT)
    assert found < 0.5
    errors = []
    for heat in (1.0, found):
        answer = decode(x, FLAT, temperature=heat)
        right = [node in pair for node, pair in zip(answer.nodes.tolist(), pairs, strict=True)]
        errors.append(expected_calibration_error(right, answer.prob))
    assert errors[1] < errors[0] / 2


def test_two_valleys_are_searched_for_the_lower():
    two = Taxonomy.from_paths([("a",), ("b",)])
    x = torch.tensor([[0.03, 0.0]]).repeat(20, 1)
    found = fit_temperature(x, [np.array([0])] * 20, two)
    costs = {t: 20 * math.log1p(math.exp(-0.03 / t)) + math.log(t) ** 2 / 2 for t in (found, 0.63)}
    assert costs[found] < costs[0.63] - 1


def test_masked_paths_take_no_part():
    x = random_logits(FLAT, 3, rows=50)
    gold = [np.array([row % 5]) for row in range(50)]
    x[:, 5] = -torch.inf
    five = Taxonomy.from_paths([(name,) for name in "abcde"])
    assert fit_temperature(x, gold, FLAT) == fit_temperature(x[:, :5], gold, five)
    # A gold path that is masked is an answer that cannot hold, as in the metrics.
    gold[0] = np.array([5])
    assert 0.05 < fit_temperature(x, gold, FLAT) < 50


def test_a_single_path_is_certain_at_any_temperature():
    one = Taxonomy.from_paths([("a", "b")])
    assert fit_temperature(torch.zeros(3, 2), [np.array([1])] * 3, one) == pytest.approx(
        1, abs=0.01
    )


def test_texts_without_a_label_say_nothing():
    x = random_logits(FLAT, 4, rows=20)
    gold = drawn_gold(FLAT, x, "leaf", 2.0)
    none = np.array([], dtype=np.int64)
    assert fit_temperature(torch.cat([x, x[:1]]), [*gold, none], FLAT) == fit_temperature(
        x, gold, FLAT
    )
    assert path_nll(x[:1], [none], FLAT) is None
    with pytest.raises(OptionError, match="no text has a label"):
        fit_temperature(x[:1], [none], FLAT)


def test_labels_that_end_no_path_say_nothing():
    """Whether an answer below them holds is not known."""
    tree = Taxonomy.from_paths([(a, a + b) for a in "xyz" for b in "pq"])
    x = 3 * random_logits(tree, 5, rows=40)
    gold = drawn_gold(tree, x, "level", 1.5)
    partial = [[int(tree.parent[end])] if row % 2 else [end] for row, (end,) in enumerate(gold)]
    known = [row for row in range(len(x)) if not row % 2]
    assert fit_temperature(x, partial, tree) == fit_temperature(
        x[known], [gold[row] for row in known], tree
    )
    with pytest.raises(OptionError, match="ends a path"):
        fit_temperature(x[:1], [tree.index("x")], tree)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf])
def test_a_likelihood_at_no_temperature_is_refused(temperature):
    with pytest.raises(OptionError, match="positive"):
        path_nll(random_logits(FLAT, 4, rows=1), [0], FLAT, temperature=temperature)


def test_a_tiny_temperature_is_certain_and_no_number_is_lost():
    x = random_logits(RAGGED, 9)
    answer = decode(x, RAGGED, temperature=1e-30)
    assert torch.equal(answer.nodes, decode(x, RAGGED).nodes)
    assert answer.prob.tolist() == [1.0] * len(x)


def test_only_as_many_texts_as_are_needed_are_used(monkeypatch):
    x = random_logits(FLAT, 5, rows=3000)
    gold = drawn_gold(FLAT, x, "leaf", 2.0)
    monkeypatch.setattr("hyperlm.calibration._MOST", 6 * 1500)
    part = fit_temperature(x, gold, FLAT, loss="leaf")
    assert part == fit_temperature(x[::2], gold[::2], FLAT, loss="leaf")
    assert enough_rows(3000, FLAT) == list(range(0, 3000, 2))
    assert enough_rows(1500, FLAT) == list(range(1500))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_no_other_temperatures(temperature):
    x = random_logits(FLAT, 6)
    for function in (decode, marginals):
        with pytest.raises(OptionError, match="positive and finite"):
            function(x, FLAT, temperature=temperature)


def test_a_threshold_stops_higher_up_where_the_model_is_less_sure():
    x = 3 * random_logits(RAGGED, 7, rows=200)
    depths = []
    for heat in (1.0, 4.0):
        answer = decode(x, RAGGED, temperature=heat)
        sure = marginals(x, RAGGED, temperature=heat)
        depths.append((decode_threshold(sure, answer, 0.6).path_nodes >= 0).sum().item())
    assert depths[1] < depths[0]


def test_gold_may_be_one_node_or_several_and_nothing_else():
    taxonomy = Taxonomy.from_paths([("animal", "bird"), ("animal", "fish"), ("plant", "fern")])
    x = random_logits(taxonomy, 3)
    ends = [int(taxonomy.terminals[at % 3]) for at in range(len(x))]
    expected = fit_temperature(x, [[end] for end in ends], taxonomy)
    marks = torch.zeros(len(x), len(taxonomy), dtype=torch.bool)
    for row, end in enumerate(ends):
        marks[row, taxonomy.path_nodes(end)] = True  # as heads take several gold paths
    for same in (ends, torch.tensor(ends), list(torch.tensor(ends)), np.array(ends), marks):
        assert fit_temperature(x, same, taxonomy) == expected
        assert path_nll(x, same, taxonomy) == path_nll(x, [[end] for end in ends], taxonomy)
    unknown = torch.tensor([-1, *ends[1:]])
    assert fit_temperature(x, unknown, taxonomy) == fit_temperature(x[1:], ends[1:], taxonomy)
    path = ("animal", "bird")
    for wrong in (path, "bird", [path], len(taxonomy), True, 0.5, None):
        with pytest.raises(OptionError, match=r"gold\[1\] is .*: give the number of the node"):
            fit_temperature(x, [ends[0], wrong, *ends[2:]], taxonomy)
    for wrong in (5, None, "gold", torch.tensor(5), ends[:1]):
        with pytest.raises(OptionError, match="^gold: "):
            fit_temperature(x, wrong, taxonomy)
    with pytest.raises(OptionError, match="targets"):
        fit_temperature(x, marks.long(), taxonomy)
