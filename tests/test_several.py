"""Answers of several paths, against definitions taken one text at a time."""

import numpy as np
import pytest
import torch
from decoding_oracle import LOSSES, RAGGED, law, random_logits, seeds, taxonomies
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from hyperlm.decoding import decode, decode_threshold, marginals, top_k
from hyperlm.errors import DataError, OptionError
from hyperlm.several import decode_several, fit_cut, several_scores, stopped, whole_paths
from hyperlm.taxonomy import Taxonomy

cuts = st.one_of(st.floats(0.02, 1), st.sampled_from([1 / 3, 0.5, 1.0]))


@law
@given(taxonomies(), seeds, cuts, st.sampled_from(LOSSES))
def test_the_best_path_and_all_that_reach_the_cut(taxonomy, seed, cut, loss):
    logits = random_logits(taxonomy, seed)
    several = decode_several(logits, taxonomy, cut, loss=loss)
    everything = top_k(logits, taxonomy, len(taxonomy.terminals), loss=loss)
    best = decode(logits, taxonomy, loss=loss)
    for row in range(len(logits)):
        kept = several.nodes[row] >= 0
        said = several.nodes[row][kept].tolist()
        assert said[0] == best.nodes[row]
        # One by one, the most probable first, unless one is said by another.
        expected: list[tuple[int, list[int]]] = []
        for place, node in enumerate(everything.nodes[row].tolist()):
            path = [step for step in everything.path_nodes[row, place].tolist() if step >= 0]
            above = set(taxonomy.ancestors(node).tolist())
            lies = any(end in above or node in taxonomy.ancestors(end) for end, _ in expected)
            if not expected or (everything.prob[row, place] >= cut and not lies):
                expected.append((node, path))
        assert said == [node for node, _ in expected]
        assert (several.log_prob[row][kept].diff() <= 0).all()
        assert (several.log_prob[row][~kept] == -torch.inf).all()
        assert (several.path_nodes[row][~kept] == -1).all()
        for place, (_, path) in zip(kept.nonzero().flatten().tolist(), expected, strict=True):
            assert [n for n in several.path_nodes[row, place].tolist() if n >= 0] == path


def test_at_a_cut_of_one_there_is_one_answer():
    several = decode_several(random_logits(RAGGED, 3), RAGGED, 1.0)
    assert (several.nodes[:, 1:] == -1).all()


@pytest.mark.parametrize("cut", [0.0, -0.1, 1.1, float("nan")], ids=str)
def test_cuts_that_are_no_shares_are_refused(cut):
    with pytest.raises(OptionError, match="give a share above 0"):
        decode_several(random_logits(RAGGED, 0), RAGGED, cut)


@law
@given(taxonomies(), seeds, st.sampled_from([0.05, 0.2]), st.floats(0, 1))
def test_a_threshold_ends_each_path_for_itself(taxonomy, seed, cut, threshold):
    logits = random_logits(taxonomy, seed)
    several, sure = decode_several(logits, taxonomy, cut), marginals(logits, taxonomy)
    short = stopped(several, sure, threshold)
    assert short.path_nodes.shape == several.path_nodes.shape
    alone = decode_threshold(sure, decode(logits, taxonomy), threshold)
    assert torch.equal(short.path_nodes[:, 0], alone.path_nodes)
    kept = short.path_nodes >= 0
    rows = torch.arange(len(logits))[:, None, None].expand_as(kept)
    assert (sure[rows[kept], short.path_nodes[kept]].float() >= threshold).all()
    assert torch.equal(short.path_nodes[kept], several.path_nodes[kept])


def test_paths_that_are_part_of_another_are_left_out():
    others = [("a", "b"), ("c",), ("a",), (), ("c", "d"), ("c", "d"), ("e",)]
    assert whole_paths(("a", "b"), others) == (("a", "b"), ("c", "d"), ("e",))
    # The best path stays, also where another goes on below it.
    assert whole_paths(("a",), [("a", "b")]) == (("a",), ("a", "b"))
    assert whole_paths((), [("a",), ()]) == (("a",),)
    assert whole_paths((), []) == ()


# -- the cut that is fitted ------------------------------------------------------------------------

TREE = Taxonomy.from_paths([(a, a + b) for a in "xyz" for b in "pqr"])


def _texts(seed: int, count: int = 60) -> tuple[torch.Tensor, list[list[int]]]:
    """Logits that lean towards one to three gold paths, as training on shares of them leaves."""
    random = np.random.default_rng(seed)
    logits, gold = torch.zeros(count, len(TREE)), []
    for row in range(count):
        ends = random.choice(TREE.terminals, random.integers(1, 4), replace=False).tolist()
        gold.append(ends)
        for node in {node for end in ends for node in (end, *TREE.ancestors(end))}:
            logits[row, node] = 3.0
    return logits + torch.from_numpy(random.normal(size=logits.shape)).float(), gold


def _micro_f1(gold: list[list[int]], answers: torch.Tensor) -> float:
    """Of labels with their ancestors, by scikit-learn."""
    marks = np.zeros((2, len(gold), len(TREE)), dtype=bool)
    for row, ends in enumerate(gold):
        for side, nodes in enumerate((ends, answers[row].tolist())):
            for node in nodes:
                if node >= 0:
                    marks[side, row, [node, *TREE.ancestors(node)]] = True
    return float(f1_score(marks[0], marks[1], average="micro"))


def test_the_fitted_cut_is_the_best_of_all():
    logits, gold = _texts(0)
    found = fit_cut(logits, gold, TREE)
    assert 0.02 < found < 0.5  # several paths pay here

    def worth(cut):
        return _micro_f1(gold, decode_several(logits, TREE, cut).nodes)

    tried = [worth(round(cut, 2)) for cut in np.arange(0.02, 1.001, 0.01)]
    assert worth(found) == pytest.approx(max(tried))
    assert worth(found) > worth(1.0) + 0.1
    # Nothing that answers less is as good.
    higher = np.arange(found + 0.01, 1.001, 0.01)
    assert all(worth(round(cut, 2)) < worth(found) for cut in higher)


def test_texts_with_one_label_each_are_answered_by_one_path():
    logits, gold = _texts(1)
    one = decode(logits, TREE).nodes[:, None].tolist()
    found = fit_cut(logits, one, TREE)
    assert _micro_f1(one, decode_several(logits, TREE, found).nodes) == 1
    nodes = decode(logits, TREE).nodes.tolist()
    assert fit_cut(logits, nodes, TREE) == found  # a node for each text is a form of gold too
    assert fit_cut(logits, np.array([[node, -1] for node in nodes]), TREE) == found
    # Texts without a label say nothing.
    assert fit_cut(logits, [*gold[:30], *[[]] * 30], TREE) == fit_cut(logits[:30], gold[:30], TREE)
    with pytest.raises(OptionError, match="no text has a label"):
        fit_cut(logits, [[]] * len(logits), TREE)
    with pytest.raises(OptionError, match="59 entries"):
        fit_cut(logits, gold[1:], TREE)


# -- what sets of paths are worth ------------------------------------------------------------------


def test_scores_of_sets_are_those_of_scikit_learn_and_of_python():
    logits, gold = _texts(2)
    answers = decode_several(logits, TREE, 0.15).nodes
    scores = several_scores(TREE, gold, answers.numpy())
    assert scores["micro_f1"] == pytest.approx(_micro_f1(gold, answers))
    said = [{node for node in row if node >= 0} for row in answers.tolist()]
    pairs = list(zip(map(set, gold), said, strict=True))
    assert scores["exact"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    both = sum(len(a & b) for a, b in pairs)
    sizes = [sum(map(len, side)) for side in zip(*pairs, strict=True)]
    assert scores["p_f1"] == pytest.approx(2 * both / sum(sizes))
    assert scores["gold_paths_per_text"] == pytest.approx(sizes[0] / len(gold))
    assert scores["paths_per_text"] == pytest.approx(sizes[1] / len(gold))
    marks = np.zeros((2, len(gold), len(TREE)), dtype=bool)
    for row, sets in enumerate(pairs):
        for side, nodes in enumerate(sets):
            for node in nodes:
                marks[side, row, [node, *TREE.ancestors(node)]] = True
    seen = marks[0].any(0)
    macro = f1_score(marks[0][:, seen], marks[1][:, seen], average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(macro)


def test_scores_of_what_does_not_belong_together_are_refused():
    with pytest.raises(DataError, match="Got 1 rows where 2"):
        several_scores(TREE, [[3], [4]], [[3]])
    with pytest.raises(DataError, match="have no gold node"):
        several_scores(TREE, [[3], []], [[3], [4]])
