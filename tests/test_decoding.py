"""Decoding against the enumeration of every path of small random taxonomies."""

import math

import numpy as np
import pytest
import torch
from decoding_oracle import (
    LOSSES,
    RAGGED,
    all_paths,
    best_by_terminal,
    cut,
    descendant_terminals,
    law,
    log_softmax,
    members,
    posterior,
    random_logits,
    score,
    seeds,
    taxonomies,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyperlm import decoding
from hyperlm.decoding import (
    Cuts,
    Loss,
    decode,
    decode_threshold,
    level_answers,
    marginals,
    path_scores,
    raw_consistent,
    top_k,
)
from hyperlm.errors import ModelError
from hyperlm.taxonomy import Taxonomy


def as_path(row: Tensor) -> tuple[int, ...]:
    """The nodes of a row of ``path_nodes``; padding must come last."""
    nodes = [n for n in row.tolist() if n >= 0]
    assert row.tolist() == nodes + [-1] * (len(row) - len(nodes))
    return tuple(nodes)


# -- laws -------------------------------------------------------------------------------------


@law
@given(taxonomies(), seeds)
def test_cuts_are_the_levels_of_the_definition(t: Taxonomy, seed: int) -> None:
    cuts, x = Cuts(t), random_logits(t, seed, 2)
    log_probs = cuts.level_log_probs(x)
    for level in range(1, t.num_levels + 1):
        expected = cut(t, level)
        assert cuts.members[level - 1].tolist() == expected
        assert log_probs[level - 1].tolist() == [
            pytest.approx([log_softmax(row, expected, u) for u in expected]) for row in x.tolist()
        ]
    assert cuts.members[-1].tolist() == t.terminals.tolist()
    normalizers = [part.logsumexp(1) for part in cuts.level_logits(x)]
    torch.testing.assert_close(cuts.level_normalizers(x), torch.stack(normalizers, 1))


@law
@given(taxonomies())
def test_targets_are_positions_in_the_cuts(t: Taxonomy) -> None:
    cuts = Cuts(t)
    targets = cuts.targets(torch.arange(len(t))).tolist()
    for node in range(len(t)):
        path = tuple(t.path_nodes(node).tolist())
        ends = node in t.terminals
        for level in range(1, t.num_levels + 1):
            if level <= t.depth[node] or ends:
                expected = cut(t, level).index(members(t, path, level)[-1])
            else:
                expected = -100
            assert targets[node][level - 1] == expected


@pytest.mark.parametrize("loss", LOSSES)
@law
@given(taxonomies(), seeds)
def test_path_scores_are_the_best_of_all_paths(loss: Loss, t: Taxonomy, seed: int) -> None:
    x = random_logits(t, seed, 2)
    whole = path_scores(x, t, loss=loss)
    prefix = path_scores(x, t, loss=loss, completed=False)
    for row, logits in enumerate(x.tolist()):
        best = best_by_terminal(t, logits, loss)
        expected = [best.get(u, -math.inf) for u in range(len(t))]
        assert whole[row].tolist() == pytest.approx(expected, abs=1e-9)
        expected = [
            max(score(t, logits, path, loss, False) for path in all_paths(t, u))
            for u in range(len(t))
        ]
        assert prefix[row].tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@law
@given(taxonomies(), seeds)
def test_top_k_lists_all_terminals_by_their_best_path(loss: Loss, t: Taxonomy, seed: int) -> None:
    x = random_logits(t, seed, 2)
    found = top_k(x, t, 100, loss=loss)
    assert found.nodes.shape == (2, len(t.terminals))
    for row, logits in enumerate(x.tolist()):
        prob = posterior(t, logits, loss)
        best = best_by_terminal(t, logits, loss)
        assert sorted(found.nodes[row].tolist()) == t.terminals.tolist()
        assert found.prob[row].tolist() == pytest.approx(sorted(prob.values(), reverse=True))
        for node, nodes in zip(found.nodes[row].tolist(), found.path_nodes[row], strict=True):
            path = as_path(nodes)
            assert path in all_paths(t)
            assert path[-1] == node
            assert score(t, logits, path, loss, True) == pytest.approx(best[node])
    first = decode(x, t, loss=loss)
    torch.testing.assert_close(first.log_prob, found.log_prob[:, 0])
    assert torch.equal(first.nodes, found.nodes[:, 0])
    assert torch.equal(first.path_nodes, found.path_nodes[:, 0])


@pytest.mark.parametrize("loss", LOSSES)
@law
@given(taxonomies(), seeds)
def test_marginals_sum_the_posterior_below_each_node(loss: Loss, t: Taxonomy, seed: int) -> None:
    x = random_logits(t, seed, 2)
    found = marginals(x, t, loss=loss)
    for row, logits in enumerate(x.tolist()):
        prob = posterior(t, logits, loss)
        expected = [sum(prob[u] for u in descendant_terminals(t, v)) for v in range(len(t))]
        assert found[row].tolist() == pytest.approx(expected)
    for child, parent in t.edges:
        assert (found[:, parent] >= found[:, child] - 1e-12).all()


@law
@given(taxonomies(tree=True), seeds)
def test_conditional_path_scores_of_a_tree_need_no_normalising(t: Taxonomy, seed: int) -> None:
    x = random_logits(t, seed)
    found = decode(x, t, loss="path")
    scores = path_scores(x, t, loss="path")
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(scores.gather(1, found.nodes[:, None])[:, 0], found.log_prob)


@law
@given(taxonomies(), seeds)
def test_raw_answers_are_consistent_where_they_are_the_members_of_a_path(
    t: Taxonomy, seed: int
) -> None:
    x = random_logits(t, seed, 16)
    answers = level_answers(x, t).tolist()
    for logits, row in zip(x.tolist(), answers, strict=True):
        assert row == [max(cut(t, lv), key=logits.__getitem__) for lv in range(1, t.num_levels + 1)]
    legal = {members(t, path, t.num_levels) for path in all_paths(t)}
    assert raw_consistent(x, t).tolist() == [tuple(row) in legal for row in answers]


@law
@given(taxonomies(), seeds, st.sampled_from(["path", "leaf"]))
def test_answers_of_a_level_by_the_posterior(t: Taxonomy, seed: int, loss: Loss) -> None:
    """A member of a cut has the probability of the terminals whose path has it there."""
    x = random_logits(t, seed)
    answers = level_answers(x, t, loss=loss).tolist()
    ranked = top_k(x, t, len(t.terminals), loss=loss)
    paths, probabilities = ranked.path_nodes.tolist(), ranked.prob.tolist()
    for row in range(len(x)):
        total = torch.zeros(t.num_levels, len(t))
        for path, probability in zip(paths[row], probabilities[row], strict=True):
            inside = members(t, tuple(n for n in path if n >= 0), t.num_levels)
            total[range(t.num_levels), list(inside)] += probability
        best = total[range(t.num_levels), answers[row]]
        torch.testing.assert_close(best, total.amax(1))


@pytest.mark.parametrize("loss", ["path", "leaf"])
@law
@given(taxonomies(), seeds)
def test_an_answer_beyond_doubt_is_consistent_by_itself(loss: Loss, t: Taxonomy, seed: int) -> None:
    x = 50 * random_logits(t, seed, 16)
    sure = decode(x, t, loss=loss).prob > 0.501
    assert raw_consistent(x, t, loss=loss)[sure].all()


@law
@given(taxonomies(), seeds, st.sampled_from(LOSSES))
def test_the_first_of_many_is_the_only_one_asked_for(t: Taxonomy, seed: int, loss: Loss) -> None:
    x = random_logits(t, seed).round()  # many are equal
    one, many = decode(x, t, loss=loss), top_k(x, t, 3, loss=loss)
    assert torch.equal(many.path_nodes[:, 0], one.path_nodes)
    assert all(len(set(row)) == len(row) for row in many.nodes.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_only_top_node_is_certain(dtype: torch.dtype) -> None:
    t = Taxonomy.from_paths([("top", str(n)) for n in range(300)])
    x = torch.randn(64, len(t), dtype=dtype, generator=torch.Generator().manual_seed(0))
    sure = decode_threshold(marginals(x, t), decode(x, t), 1.0)
    assert sure.nodes.tolist() == [t.index("top")] * 64


def test_a_stop_at_an_inner_node_does_not_count_what_lies_below_it() -> None:
    t = Taxonomy.from_paths([("a",), ("a", "b"), ("a", "c"), ("d",), ("x",)])
    x = torch.full((1, len(t)), -9.0)
    for path, share in ((("a", "b"), 0.2), (("a", "c"), 0.2), (("d",), 0.35), (("x",), 0.25)):
        x[0, t.index(path)] = math.log(share)
    assert level_answers(x, t, loss="leaf").tolist() == [[t.index("a"), t.index("d")]]
    assert not raw_consistent(x, t, loss="leaf").item()


def test_what_a_prediction_builds_serves_training_later() -> None:
    t = Taxonomy.from_paths([("only", "here", str(n)) for n in range(3)])  # not seen before
    with torch.inference_mode():
        decode(torch.zeros(1, len(t)), t)
    x = torch.zeros(1, len(t), requires_grad=True)
    path_scores(x, t)[:, t.terminals.tolist()].sum().backward()
    assert x.grad is not None


@law
@given(taxonomies(), seeds)
def test_consistent_raw_answers_are_the_decoded_path(t: Taxonomy, seed: int) -> None:
    x = random_logits(t, seed, 16)
    agree = raw_consistent(x, t)
    assert torch.equal(level_answers(x, t)[agree, -1], decode(x, t).nodes[agree])


@law
@given(taxonomies(), seeds, st.floats(0, 1))
def test_threshold_keeps_the_sure_start_of_the_path(
    t: Taxonomy, seed: int, threshold: float
) -> None:
    x = random_logits(t, seed)
    full, sure = decode(x, t), marginals(x, t)
    short = decode_threshold(sure, full, threshold)
    for row in range(len(x)):
        kept: list[int] = []
        for node in as_path(full.path_nodes[row]):
            if not sure[row, node].float() >= threshold:  # to the digits of float32
                break
            kept.append(node)
        assert as_path(short.path_nodes[row]) == tuple(kept)
        assert short.nodes[row] == (kept[-1] if kept else -1)
        assert short.prob[row] == pytest.approx(float(sure[row, kept[-1]]) if kept else 1.0)


def test_threshold_may_stop_at_the_root_or_nowhere() -> None:
    x = torch.zeros(1, len(RAGGED))
    full, sure = decode(x, RAGGED), marginals(x, RAGGED)
    nowhere, root = decode_threshold(sure, full, 0.0), decode_threshold(sure, full, 1.0)
    assert torch.equal(nowhere.path_nodes, full.path_nodes)
    assert root.nodes.tolist() == [-1]
    assert root.paths(RAGGED) == [()]
    assert root.prob.tolist() == [1.0]


def test_threshold_refuses_what_does_not_belong_together() -> None:
    x = torch.arange(len(RAGGED), dtype=torch.float).unsqueeze(0)
    full, sure = decode(x, RAGGED), marginals(x, RAGGED)
    end = int(full.path_nodes.max())
    with pytest.raises(ModelError, match=f"through node {end}, and the marginals are those of 1 "):
        decode_threshold(sure[:, :1], full, 0.5)
    with pytest.raises(ModelError, match="hold NaN"):
        decode_threshold(sure * torch.nan, full, 0.5)


def test_scores_may_be_arrays() -> None:
    x = random_logits(RAGGED, 3)
    array = x.numpy()
    kinds = [array, array[:, ::-1][:, ::-1], np.asfortranarray(array)]
    kinds += [array.astype(kind) for kind in (">f4", "f4", ">f8", np.longdouble)]
    for given_ in kinds:
        given_.flags.writeable = False
        for ask in (decode, marginals, level_answers, raw_consistent, path_scores):
            same = x.float() if given_.dtype.itemsize == 4 else x
            mine, theirs = ask(given_, RAGGED), ask(same, RAGGED)
            if ask is decode:
                mine, theirs = mine.nodes, theirs.nodes
            assert torch.equal(mine, theirs)
    sure = marginals(x, RAGGED)
    short = decode_threshold(sure.numpy(), decode(x, RAGGED), 0.5)
    assert torch.equal(short.nodes, decode_threshold(sure, decode(x, RAGGED), 0.5).nodes)
    for wrong in (x.tolist(), "logits", np.array([["a"]]), np.ma.masked_less(array, 0)):
        with pytest.raises(ModelError, match="pass a tensor or a NumPy array of numbers"):
            decode(wrong, RAGGED)


def test_a_level_that_is_masked_has_no_answer() -> None:
    x = torch.zeros(2, len(RAGGED))
    x[1] = -torch.inf
    for ask in (decode, level_answers, raw_consistent):
        with pytest.raises(ModelError, match=r"1 rows of logits mask .*First rows: 1\."):
            ask(x, RAGGED)


@settings(max_examples=20, deadline=None)
@given(taxonomies(), seeds)
def test_chunks_change_nothing(t: Taxonomy, seed: int) -> None:
    x = random_logits(t, seed, 7)
    with pytest.MonkeyPatch.context() as patch:
        whole = (decode(x, t).path_nodes, marginals(x, t), path_scores(x, t))
        patch.setattr(decoding, "_CHUNK", 2 * len(t))
        parts = (decode(x, t).path_nodes, marginals(x, t), path_scores(x, t))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
