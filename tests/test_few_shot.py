"""Few texts: draws nest, and what is not trained agrees with scikit-learn.

Features are synthetic: a random centre per class, noise, and a name near the centre.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch.nn import functional as F

from hyperlm.decoding import cuts_of, decode
from hyperlm.errors import DataError, OptionError
from hyperlm.experiments import FrozenData, HeadRun, ResultsFile, few_shot, report
from hyperlm.experiments.few_shot_bench import draw_rows
from hyperlm.experiments.few_shot_heads import Draw, HeadSettings, fit, started
from hyperlm.experiments.few_shot_methods import (
    class_mean_scores,
    discriminant_scores,
    logistic_scores,
    mixed_scores,
    name_scores,
    retrieved,
)
from hyperlm.experiments.measure import node_logits
from hyperlm.heads import HyperbolicHead, start_from_texts
from hyperlm.lm.names import name_texts
from hyperlm.manifolds import PoincareBall
from hyperlm.taxonomy import Taxonomy

TREE = Taxonomy.from_paths([("a", "x"), ("a", "y"), ("b", "z"), ("b", "w"), ("c",)])
WIDTH = 12


def made(count=40, *, seed=0, noise=0.3):
    """A draw of texts and ``(N, WIDTH)`` names."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(len(TREE), WIDTH))
    ends = np.concatenate([TREE.terminals, random.choice(TREE.terminals, count)])
    texts = centres[ends] + noise * random.normal(size=(len(ends), WIDTH))
    names = 0.5 * centres + 0.1
    draw = Draw(torch.tensor(texts, dtype=torch.float32), torch.tensor(ends))
    return draw, torch.tensor(names, dtype=torch.float32)


# -- draws ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 9))
def test_a_draw_has_k_of_each_class_or_all_and_draws_nest(ends, shots, seed):
    labels = torch.tensor(ends)
    rows = draw_rows(labels, shots, seed)
    assert len(set(rows.tolist())) == len(rows)
    for label in set(ends):
        assert int((labels[rows] == label).sum()) == min(shots, ends.count(label))
    assert set(draw_rows(labels, max(1, shots // 2), seed)) <= set(rows)


def test_another_seed_draws_other_texts():
    ends = torch.arange(6).repeat(20)
    first, again, other = (draw_rows(ends, 3, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other


# -- without training -----------------------------------------------------------------------------


def test_class_means_are_those_of_scikit_learn():
    draw, _ = made()
    queries = made(seed=1)[0].features
    units = F.normalize(draw.features, dim=1)
    scores = class_mean_scores(draw, queries, TREE)
    for level, part in enumerate(TREE.level_slices):
        # The nearest unit mean has the largest cosine.
        at = [
            next((n for n in (e, *TREE.ancestors(e)) if part.start <= n < part.stop), -1)
            for e in draw.ends.tolist()
        ]
        known = np.array(at) >= 0
        oracle = NearestCentroid().fit(units[known].numpy(), np.array(at)[known])
        means = F.normalize(torch.tensor(oracle.centroids_).float(), dim=1)
        wanted = (F.normalize(queries, dim=1) @ means.T).argmax(1)
        got = scores[:, oracle.classes_].argmax(1)
        assert torch.equal(got, wanted), f"level {level + 1}"


def test_a_class_without_texts_is_never_answered_unless_its_name_is_known():
    draw, names = made()
    some = draw.ends != int(TREE.terminals[0])
    fewer = Draw(draw.features[some], draw.ends[some])
    blind = class_mean_scores(fewer, draw.features, TREE)
    assert torch.isinf(blind[:, TREE.terminals[0]]).all()
    assert int(TREE.terminals[0]) not in decode(blind, TREE, loss="leaf").nodes.tolist()
    told = class_mean_scores(fewer, draw.features, TREE, names=names, name_weight=1.0)
    assert torch.isfinite(told).all()
    (logistic,) = logistic_scores(fewer, [draw.features], TREE, strength=1.0)
    assert torch.isinf(logistic[:, TREE.terminals[0]]).all()
    torch.testing.assert_close(logistic.exp().sum(1), torch.ones(len(logistic)))


def test_names_alone_find_their_own_node():
    _, names = made()
    scores = name_scores(3 * names, names)
    assert scores.argmax(1).tolist() == list(range(len(TREE)))
    assert scores.diagonal().tolist() == pytest.approx([20.0] * len(TREE))


def test_parents_are_named_only_where_a_name_is_shared():
    tree = Taxonomy.from_paths([("Art", "other"), ("Work", "other"), ("Work", "TVShow")])
    said = {tree.path(n): text for n, text in enumerate(name_texts(tree, parents=False))}
    assert said["Work", "TVShow"] == "tv show"
    assert said["Work", "other"] == "other, work"
    assert said["Work",] == "work"


# -- heads ----------------------------------------------------------------------------------------

SMALL = HeadSettings(dim=4, steps=12, batch_size=8, head_lr=1e-2, node_lr=3e-2)


def trained(draws, names, options, seeds):
    heads = [
        started(some, TREE, draw, names, seed=seed)
        for some, draw, seed in zip(options, draws, seeds, strict=True)
    ]
    fit(heads, draws, names, options, seeds)
    return heads


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"contrast": 0.5},
        {"geometry": "euclidean", "contrast": 0.5},
        {"kind": "linear", "loss": "level", "names_as_texts": False},
    ],
    ids=["points", "contrast", "euclidean", "linear"],
)
def test_what_a_head_becomes_does_not_depend_on_its_company(change):
    draws = [made(seed=seed)[0] for seed in range(2)]
    names = made()[1]
    base = {**vars(SMALL), **change}
    options = [HeadSettings(**base), HeadSettings(**{**base, "head_lr": 3e-3})]
    together = trained(draws, names, options, [0, 1])
    (alone,) = trained(draws[1:], names, options[1:], [1])
    x = draws[0].features.unsqueeze(1)
    torch.testing.assert_close(
        node_logits(together[1], x), node_logits(alone, x), rtol=1e-3, atol=1e-3
    )
    start = started(options[1], TREE, draws[1], names, seed=1)
    assert float((node_logits(alone, x) - node_logits(start, x)).abs().max()) > 0.01


def test_contrast_draws_texts_of_a_class_together():
    draw, names = made(noise=1.0)
    apart = []
    for weight in (0.0, 5.0):
        options = HeadSettings(**{**vars(SMALL), "steps": 40, "contrast": weight})
        (head,) = trained([draw], names, [options], [0])
        u = head.each_projection()[0](draw.features).detach()
        dist = torch.cdist(u, u) / u.norm(dim=1).mean()
        same = draw.ends[:, None] == draw.ends[None, :]
        apart.append(float(dist[same].mean() / dist[~same].mean()))
    assert apart[1] < apart[0]


def test_a_start_lies_between_the_name_and_the_texts():
    """A name that counts for little leaves nodes at their texts, one for much at the name."""
    draw, names = made(noise=0.05)
    heads = {}
    for weight in (1e-6, 1.0, 1e6):
        options = HeadSettings(**{**vars(SMALL), "dim": WIDTH, "name_weight": weight})
        heads[weight] = started(options, TREE, draw, names, seed=0).eval()
    u = heads[1e-6].each_projection()[0](draw.features).detach()
    place = {weight: head.node_tangents().detach() for weight, head in heads.items()}
    for end in map(int, TREE.terminals):
        texts, name = (F.normalize(place[weight][end], dim=0) for weight in (1e-6, 1e6))
        mean = F.normalize(u[draw.ends == end].mean(0), dim=0)
        torch.testing.assert_close(texts, mean, rtol=1e-3, atol=1e-3)
        between = F.normalize(place[1.0][end], dim=0)
        assert float(between @ texts) > float(name @ texts) - 1e-6
        assert float(between @ name) > float(name @ texts) - 1e-6
    for nodes in place.values():
        radius = nodes[TREE.terminals.tolist()].norm(dim=1)
        torch.testing.assert_close(radius, radius.mean().expand_as(radius))
    with pytest.raises(OptionError, match="name_weight"):
        started(HeadSettings(dim=4, name_weight=0.0), TREE, draw, names, seed=0)


def test_a_linear_head_starts_at_random_or_answers_as_flat_points_do():
    draw, names = made(noise=0.05)
    wanted = {"geometry": "euclidean", "dim": WIDTH}
    points = started(HeadSettings(**{**vars(SMALL), **wanted}), TREE, draw, names, seed=0).eval()
    linear = HeadSettings(**{**vars(SMALL), "kind": "linear", "dim": WIDTH})
    drawn = HeadSettings(**{**vars(linear), "start": "random"})
    states = F.layer_norm(draw.features, (WIDTH,))
    named, other = (started(linear, TREE, draw, names, seed=seed).eval() for seed in (0, 1))
    assert torch.equal(named.weight, other.weight)
    random, again = (started(drawn, TREE, draw, names, seed=seed) for seed in (0, 1))
    assert not torch.allclose(random.weight, again.weight)
    answers = [head.decode(head(states).logits) for head in (points, named)]
    assert answers[0] == answers[1]
    gold = [TREE.path(int(end)) for end in draw.ends]
    assert np.mean([a == b for a, b in zip(answers[1], gold, strict=True)]) > 0.9


def test_heads_of_other_settings_do_not_train_together():
    draw, names = made()
    options = [SMALL, HeadSettings(**{**vars(SMALL), "contrast": 0.1})]
    with pytest.raises(OptionError, match="train together"):
        trained([draw, draw], names, options, [0, 0])


# -- retrieval ------------------------------------------------------------------------------------


@pytest.mark.parametrize("neighbours", [1, 5])
def test_retrieval_is_the_weighted_vote_of_scikit_learn(neighbours):
    draw, names = made(noise=1.0)
    queries = made(seed=5, noise=1.0)[0].features
    head = started(SMALL, TREE, draw, names, seed=0)
    votes = retrieved(head, draw, queries, neighbours=neighbours, temperature=4.0)
    project = head.each_projection()[0]
    space = PoincareBall(1.0)
    train, test = (space.from_polar(project(x).double()).detach() for x in (draw.features, queries))
    oracle = KNeighborsClassifier(
        neighbours, metric="precomputed", weights=lambda dist: np.exp(-4.0 * dist)
    ).fit(space.pairwise_dist(train, train).clamp(min=0).numpy(), draw.ends.numpy())
    wanted = oracle.predict_proba(space.pairwise_dist(test, train).numpy())
    column = np.searchsorted(TREE.terminals, oracle.classes_)
    np.testing.assert_allclose(votes.numpy()[:, column], wanted, atol=1e-4)
    flat = started(HeadSettings(dim=4, geometry="euclidean"), TREE, draw, names, seed=0)
    with pytest.raises(OptionError, match="Euclidean"):
        retrieved(flat, draw, queries, neighbours=1, temperature=1.0)


def test_a_mixture_has_its_ends_and_stays_a_distribution():
    draw, names = made(noise=1.0)
    head, cuts = started(SMALL, TREE, draw, names, seed=0), cuts_of(TREE)
    logits = node_logits(head, draw.features.unsqueeze(1))
    votes = retrieved(head, draw, draw.features, neighbours=3, temperature=4.0)
    own, mixed, other = (
        mixed_scores(logits, votes, cuts, share=share, decoding="leaf") for share in (0, 0.3, 1)
    )
    before = decode(logits, cuts, loss="leaf")
    torch.testing.assert_close(decode(own, cuts, loss="leaf").prob, before.prob)
    assert torch.equal(decode(own, cuts, loss="leaf").nodes, before.nodes)
    wanted = TREE.terminals[votes.argmax(1).numpy()]
    assert decode(other, cuts, loss="leaf").nodes.tolist() == wanted.tolist()
    total = mixed[:, cuts.terminals].exp().sum(1)
    torch.testing.assert_close(total, torch.ones(len(total)))
    with pytest.raises(OptionError, match=r"share 2"):
        mixed_scores(logits, votes, cuts, share=2.0, decoding="leaf")


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_untrained_points_answer_as_the_start_of_a_head(weight):
    draw, names = made()
    queries = [draw.features[:7], draw.features[7:9]]
    held = draw.features[::2], draw.ends[::2]
    scores = discriminant_scores(
        draw, queries, TREE, names=names, held_out=held, dim=6, name_weight=weight
    )
    head = HyperbolicHead(WIDTH, TREE, 6).eval()
    start_from_texts(
        head,
        draw.features[:, None],
        draw.ends,
        names=names[:, None],
        name_weight=weight,
        held_out=held,
    )
    with torch.no_grad():
        for some, part in zip(scores, queries, strict=True):
            torch.testing.assert_close(some, head(part).logits)


# -- the experiment -------------------------------------------------------------------------------


@pytest.fixture
def data(tiny_backbone, demo_like):
    return FrozenData(str(demo_like), backbone=str(tiny_backbone), max_length=32)


def test_the_experiment_goes_on_where_it_stopped_and_reports(data, tmp_path, monkeypatch):
    for arm in ("linear", "poincare"):
        grid = tuple(some | {"steps": 5} for some in few_shot.ARMS[arm].grid[:2])
        monkeypatch.setitem(few_shot.ARMS, arm, few_shot.Arm("head", grid))
    results = ResultsFile(tmp_path / "results.jsonl")
    arms = (
        few_shot.ZERO, "class means", "linear", "poincare, untrained", "poincare",
        "poincare + retrieval",
    )  # fmt: skip
    few_shot.run(data, results, seeds=2, dims=(4,), shots="1,2", arms=arms)
    measured = few_shot.arms_of(results, data.name)
    wanted = {(arm, k) for arm in arms[1:] for k in (1, 2)} | {(few_shot.ZERO, 0)}
    assert set(measured) == wanted
    assert all(len(measured[at]) == (1 if at[1] == 0 else 2) for at in wanted)
    for record in results.records:
        # Choosing on val looks at nothing else, and at no draw that is measured.
        if record.labels["stage"] == "tune":
            assert set(record.figures) == {"val"}
            assert record.run.seed in few_shot.TUNE_DRAWS or record.labels["shots"] == 0
    one = measured["poincare", 1][0].figures["test"]
    assert one["p_f1"] == pytest.approx(one["path_accuracy"])
    assert one["undecoded"]["micro"] <= 1
    count = len(results)
    few_shot.run(data, results, seeds=2, dims=(4,), shots="1,2", arms=arms)
    assert len(results) == count
    report.write_report(results, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "## Few texts of each class" in text
    assert "- poincare less linear, P-F1: " in text
    assert len(list((tmp_path / "images").glob("few-shot-*.png"))) == 1


def test_what_cannot_be_asked_is_refused(data, tmp_path):
    results = ResultsFile(tmp_path / "results.jsonl")
    with pytest.raises(OptionError, match="one dimension"):
        few_shot.run(data, results, dims=(4, 8))
    for shots in ("", "0", "1,x"):
        with pytest.raises(OptionError, match="shots=1,4,16"):
            few_shot.run(data, results, shots=shots)
    with pytest.raises(OptionError, match="choose from"):
        few_shot.run(data, results, arms=("nonsense",))
    with pytest.raises(OptionError, match="starts from 'poincare'"):
        few_shot.run(data, results, dims=(4,), shots="1", arms=("poincare + retrieval",))
    few = data.splits(HeadRun())["val"]
    few.gold[0] = np.array([0, 1])
    with pytest.raises(DataError, match="one gold path"):
        few_shot.run(data, results, dims=(4,))
