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
from hyperlm.taxonomy import Taxonomy

DAG = Taxonomy.from_edges([("x", "a"), ("x", "b"), ("y", "a"), ("z", "b"), ("w", "y")])
FLAT = Taxonomy.from_paths([(name,) for name in "abcdef"])
temperatures = st.floats(0.2, 8)


def likelihood(posteriors, gold, temperature):
    """Mean negative log-likelihood of the gold ends, from the probability of every path."""
    total = 0.0
    for found, ends in zip(posteriors, gold, strict=True):
        heated = {end: p ** (1 / temperature) for end, p in found.items()}
        whole = sum(heated.values())
        total -= sum(math.log(heated[int(end)] / whole) for end in ends) / len(ends)
    return total / len(gold)


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
        return 12 * likelihood(enumerated, gold, math.exp(log_t)) + log_t**2 / 2

    found = fit_temperature(x, gold, t, loss=loss)
    lowest = min(cost(log_t) for log_t in np.linspace(-2, 4, 121))
    assert cost(math.log(found)) <= lowest + 1e-3


@law
@given(seeds, st.sampled_from(LOSSES), temperatures)
def test_the_likelihood_is_that_of_all_gold_paths_in_equal_parts(seed, loss, heat):
    x = random_logits(RAGGED, seed, rows=3)
    ends = RAGGED.terminals
    gold = [ends[:1], ends[1:4], ends[-2:]]
    enumerated = [posterior(RAGGED, row, loss) for row in x.tolist()]
    found = path_nll(x, gold, RAGGED, loss=loss, temperature=heat)
    assert found == pytest.approx(likelihood(enumerated, gold, heat))


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


def test_masked_paths_take_no_part():
    x = random_logits(FLAT, 3, rows=50)
    gold = [np.array([row % 5]) for row in range(50)]
    x[:, 5] = -torch.inf
    five = Taxonomy.from_paths([(name,) for name in "abcde"])
    assert fit_temperature(x, gold, FLAT) == fit_temperature(x[:, :5], gold, five)


def test_labels_that_end_no_path_say_nothing():
    tree = Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z")])
    x = random_logits(tree, 4, rows=20)
    gold = [np.array([tree.index(("a", "x"))]) for _ in range(20)]
    inner = [np.array([tree.index("a")]), np.array([], dtype=np.int64)]
    more = torch.cat([x, x[:2]])
    assert fit_temperature(more, gold + inner, tree) == fit_temperature(x, gold, tree)
    assert path_nll(x[:2], inner, tree) is None
    with pytest.raises(OptionError, match="no text has a label at which a path"):
        fit_temperature(x[:2], inner, tree)


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
