"""Trained points: laws of the start, the losses against plain formulas, MAP against an oracle."""

import gzip
import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.embedding import (
    EmbeddingOptions,
    EmbeddingTrainer,
    Relations,
    embed,
    load_points,
    nested_cones,
    reconstruction,
    sized_tree,
)
from hyperlm.embedding.losses import lifted, similarity_sum
from hyperlm.embedding.relations import take
from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import cones, polar
from hyperlm.taxonomy import Taxonomy


def family(*widths):
    paths = [()]
    for depth, width in enumerate(widths):
        paths = [(*path, f"{depth}{chr(97 + i)}") for path in paths for i in range(width)]
    return Taxonomy.from_paths(paths)


@pytest.fixture(scope="module")
def tree():
    return family(3, 3, 4)


@pytest.fixture(scope="module")
def dag():
    edges = [("a", "r"), ("b", "r"), ("c", "a"), ("d", "a"), ("d", "b"), ("e", "d"), ("f", "e"),
             ("g", "b"), ("f", "g"), ("h", "c"), ("i", "c")]  # fmt: skip
    return Taxonomy.from_edges(edges)


def naive(taxonomy, points, c):
    """Pair by pair, by the plain law of cosines; average precision by scikit-learn."""
    everything = torch.cat([points, torch.zeros(1, points.shape[1], dtype=points.dtype)])
    root, precisions, ranks, below = len(points), [], [], []

    def dist(i, j):
        a, b = (math.sqrt(c) * float(everything[k].norm()) for k in (i, j))
        dot = float(everything[i] @ everything[j]) * c
        cos = dot / (a * b) if a and b else 1.0
        inner = math.cosh(a) * math.cosh(b) - math.sinh(a) * math.sinh(b) * cos
        return math.acosh(max(1.0, inner)) / math.sqrt(c)

    for node in range(len(points)):
        above = {*taxonomy.ancestors(node).tolist(), root}
        others = [n for n in range(root + 1) if n != node]
        far = {n: dist(node, n) for n in others}
        true = [n in above for n in others]
        precisions.append(average_precision_score(true, [-far[n] for n in others]))
        inner = [n for n in others if n != root]
        if len(above) > 1:
            score = [-far[n] for n in inner]
            below.append(average_precision_score([n in above for n in inner], score))
        for ancestor in above:
            strangers = [n for n in others if n not in above]
            ranks.append(1 + sum(far[n] <= far[ancestor] for n in strangers))
    return np.mean(precisions), np.mean(ranks), np.mean(below)


@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_reconstruction_against_a_naive_oracle(dag, c):
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(len(dag), 3, dtype=torch.float64, generator=generator)
        got = reconstruction(dag, points, c=c)
        np.testing.assert_allclose(
            (got.map, got.mean_rank, got.map_below_root), naive(dag, points, c), rtol=1e-9
        )
        assert got.nodes == len(dag)


def test_reconstruction_of_a_sample_and_of_ties(tree):
    points = torch.randn(len(tree), 3, generator=torch.Generator().manual_seed(0))
    some = reconstruction(tree, points, nodes=7, seed=3)
    assert some.nodes == 7
    assert some == reconstruction(tree, points, nodes=7, seed=3)
    # All in one place: every stranger comes before every ancestor.
    flat = reconstruction(tree, torch.zeros(len(tree), 3))
    assert flat.map < 0.1
    assert flat.mean_rank > 0.9 * (len(tree) - 3)
    top = Taxonomy.from_paths([("x",), ("y",)])
    assert math.isnan(reconstruction(top, torch.eye(2)).map_below_root)


def test_reconstruction_refuses_points_that_are_no_numbers(tree):
    """A NaN is before nothing in a comparison: unchecked, broken points would score 1.0."""
    points = sized_tree(tree, 3)
    for bad in (math.nan, math.inf):
        broken = points.clone()
        broken[4, 1] = bad
        with pytest.raises(OffManifoldError, match="rows 4"):
            reconstruction(tree, broken)
    with pytest.raises(OptionError, match="one row per node"):
        reconstruction(tree, points[1:])
    with pytest.raises(OptionError, match="at least 1"):
        reconstruction(tree, points, nodes=0)


def test_relations_hold_the_closure_and_the_edges(dag):
    closure, edges = Relations.of(dag), Relations.of(dag, "edges")
    for node in range(len(dag)):
        one = np.array([node])
        assert set(take(closure.positives, one)[1]) == set(dag.ancestors(node))
        assert set(take(edges.positives, one)[1]) == set(dag.parents(node))
        assert set(take(edges.known, one)[1]) == set(dag.ancestors(node))
    assert closure.rooted.all()
    assert set(np.flatnonzero(edges.rooted)) == set(dag.levels[0])
    with pytest.raises(OptionError, match="closure or edges"):
        Relations.of(dag, "all")


def test_edges_of_the_start_grow_with_how_much_the_subtree_shrinks(tree):
    points = sized_tree(tree, 4, leaf=0.0)
    child, parent = tree.edges.T
    length = polar.dist(points[child.copy()], points[parent.copy()]).numpy()
    size = 1 + np.bincount(tree.ancestor_indices, minlength=len(tree))
    wanted = 0.2 + 4 * np.log(size[parent] / size[child]) / 3
    np.testing.assert_allclose(length, wanted, rtol=1e-8)
    further = sized_tree(tree, 4, leaf=3.0)
    inner = np.setdiff1d(np.arange(len(tree)), tree.leaves)
    torch.testing.assert_close(further[inner], points[inner])
    assert torch.equal(sized_tree(tree, 3, seed=2), sized_tree(tree, 3, seed=2))


def test_deep_starts_stay_within_the_radius_that_training_holds():
    deep = Taxonomy.from_paths([tuple(f"{i}" for i in range(200)), ("x",)])
    assert sized_tree(deep, 2).norm(dim=1).max() <= 20 + 1e-9
    assert nested_cones(deep, 2).norm(dim=1).max() <= 20 + 1e-9


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_cones_of_the_start_hold_their_descendants(tree, dim):
    points = nested_cones(tree, dim)
    node = np.repeat(np.arange(len(tree)), np.diff(tree.ancestor_indptr))
    ancestor = tree.ancestor_indices.copy()
    energy = cones.polar_cone_energy(points[ancestor], points[node])
    assert float((energy < 0.1).double().mean()) > 0.9
    assert (points.norm(dim=1)[ancestor] < points.norm(dim=1)[node]).all()


@pytest.mark.parametrize("power", [1.0, 2.0, 0.7])
def test_similarity_sum_is_the_plain_sum(power):
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    v = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    weight = torch.rand(6, dtype=torch.float64, generator=generator)
    row, column = torch.tensor([0, 0, 3]), torch.tensor([1, 5, 2])
    keep = torch.ones(4, 6, dtype=torch.float64)
    keep[row, column] = 0
    plain = (keep * weight * torch.exp(-power * polar.pairwise_dist(u, v))).sum(1)
    got = similarity_sum(lifted(u), lifted(v), weight, row, column, power)
    torch.testing.assert_close(got, plain, rtol=1e-10, atol=0)
    u.requires_grad_()
    v.requires_grad_()

    def function(u, v):
        return similarity_sum(lifted(u), lifted(v), weight, row, column, power)

    assert torch.autograd.gradcheck(function, (u, v))


@pytest.mark.parametrize("loss", ["distance", "cones", "both"])
def test_training_from_a_random_start_lowers_the_loss_and_turns_cones_outward(tree, loss):
    losses = []
    options = EmbeddingOptions(
        dim=3, loss=loss, start="random", epochs=30, learning_rate=0.1, batch_size=16
    )
    points = embed(tree, options, on_epoch=lambda _, mean: losses.append(mean))
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    radius = points.norm(dim=1)
    child, parent = tree.edges.T
    assert float((radius[parent.copy()] < radius[child.copy()]).double().mean()) > 0.9


@pytest.mark.parametrize(("upward", "downward"), [(3, 0), (0, 2), (4, 1), (0, 0)])
def test_pairs_are_corrupted_at_the_ends_asked_for_and_never_true(dag, upward, downward):
    options = EmbeddingOptions(dim=2, loss="cones", false_parents=upward, false_children=downward)
    trainer = EmbeddingTrainer(Relations.of(dag), nested_cones(dag, 2), options)
    owner, ancestor = take(trainer.relations.positives, np.arange(len(dag)))
    parent, child = trainer._corrupted(ancestor, owner)
    from_above, from_below = downward * len(owner), upward * len(owner)
    assert len(parent) == len(child) == from_above + from_below
    assert (parent[:from_above] == np.repeat(ancestor, downward)).all()
    assert (child[from_above:] == np.repeat(owner, upward)).all()
    for above, below in zip(parent.tolist(), child.tolist(), strict=True):
        assert above != below
        assert above not in dag.ancestors(below)


def test_cones_learn_pairs_that_were_held_out():
    """From small random points, without any construction: half of the pairs beyond edges unseen."""
    tree = family(2, 4, 8)
    node = np.repeat(np.arange(len(tree)), np.diff(tree.ancestor_indptr))
    pairs = np.stack([node, tree.ancestor_indices], 1)
    level = np.array([len(tree.ancestors(n)) for n in range(len(tree))])
    beyond = level[pairs[:, 0]] - level[pairs[:, 1]] > 1
    random = np.random.default_rng(0)
    unseen = beyond & (random.random(len(pairs)) < 0.5)
    options = EmbeddingOptions(
        dim=3, loss="cones", epochs=120, learning_rate=0.05, batch_size=16, margin=0.3,
        false_parents=30, false_children=0,
    )  # fmt: skip
    start = 0.3 * torch.from_numpy(random.standard_normal((len(tree), 3)))
    relations = Relations.from_pairs(pairs[~unseen], len(tree))
    trainer = EmbeddingTrainer(relations, start, options)

    def precision(points):
        angle = cones.polar_exterior_angle(points[None], points[:, None])  # of (child, parent)
        energy = (angle - cones.polar_half_aperture(points)).numpy()
        true = np.zeros((len(tree), len(tree)), dtype=bool)
        true[pairs[unseen, 0], pairs[unseen, 1]] = True
        kept = ~np.eye(len(tree), dtype=bool)
        kept[pairs[~unseen, 0], pairs[~unseen, 1]] = False
        return average_precision_score(true[kept], -energy[kept])

    before = precision(trainer.points.detach())
    for _ in range(options.epochs):
        trainer.epoch()
    after = precision(trainer.points.detach())
    assert before < 0.1
    assert after > 0.5  # .59 to .89 over three seeds


@pytest.mark.parametrize("start", ["construction", "random"])
def test_ancestors_are_found_after_training(dag, start):
    options = EmbeddingOptions(dim=3, start=start, epochs=60, learning_rate=0.3, batch_size=4)
    before = reconstruction(dag, embed(dag, EmbeddingOptions(dim=3, start=start, epochs=0)))
    after = reconstruction(dag, embed(dag, options))
    assert after.map > max(0.9, before.map - 0.02)


def test_curvature_only_rescales(tree):
    flat, bent = (embed(tree, EmbeddingOptions(dim=3, epochs=2, curvature=c)) for c in (0.25, 4.0))
    torch.testing.assert_close(flat, 4 * bent)
    a, b = reconstruction(tree, flat, c=0.25), reconstruction(tree, bent, c=4.0)
    assert a == pytest.approx(b)


def test_a_resumed_training_equals_an_uninterrupted_one(tree):
    options = EmbeddingOptions(dim=3, loss="both", epochs=4)
    states = []

    def keep(trainer, _):
        states.append(trainer.state())

    whole = embed(tree, options, on_epoch=keep)
    for _ in range(2):  # neither what comes after a state nor what is made of it changes it
        assert torch.equal(embed(tree, options, state=states[1]), whole)
    assert not torch.equal(embed(tree, EmbeddingOptions(dim=3, epochs=4, seed=1)), whole)


def test_known_ancestors_are_never_pushed_away():
    """In a chain the last node has ancestors alone to be compared with: nothing is left to lose."""
    chain = Taxonomy.from_paths([("a", "b", "c")])
    trainer = EmbeddingTrainer(
        Relations.of(chain), sized_tree(chain, 2), EmbeddingOptions(dim=2, epochs=1)
    )
    before = trainer.points.detach().clone()
    loss = trainer._step(np.array([2]), np.random.default_rng(0))
    assert loss == pytest.approx(0, abs=1e-100)
    torch.testing.assert_close(trainer.points.detach(), before)


def test_deep_chains_are_trained_in_flat_space_too():
    """The last of many nodes has no negatives: the gradient of nothing is no infinity."""
    chain = Taxonomy.from_paths([tuple(f"n{i}" for i in range(400))])
    points = embed(chain, EmbeddingOptions(geometry="euclidean", dim=2, epochs=1))
    assert points.isfinite().all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("dim", 1), ("curvature", 0.0), ("curvature", math.nan), ("loss", "x"), ("start", "x"),
     ("pairs", "x"), ("epochs", -1), ("batch_size", 0), ("negatives", 0), ("burn_in", -1),
     ("learning_rate", math.inf), ("temperature", -1.0), ("seed", -1),
     ("margin", 0.0), ("margin", 4.0), ("false_parents", -1), ("false_children", -1)],
)  # fmt: skip
def test_wrong_options_are_explained(name, value):
    with pytest.raises(OptionError, match=name):
        EmbeddingOptions(**{name: value})


def test_points_that_are_no_numbers_are_refused_at_the_start(tree):
    start = sized_tree(tree, 3)
    start[0, 0] = math.nan
    with pytest.raises(OffManifoldError, match="start"):
        EmbeddingTrainer(Relations.of(tree), start, EmbeddingOptions(dim=3))
    with pytest.raises(OptionError, match="one row"):
        EmbeddingTrainer(Relations.of(tree), start[1:], EmbeddingOptions(dim=3))


def run(*arguments):
    return CliRunner().invoke(app, ["embed", *map(str, arguments)])


@pytest.fixture
def file(tmp_path, tree):
    path = tmp_path / "tree.tsv.gz"
    tree.write(path)
    return path


def test_command_writes_points_and_results(file, tmp_path, tree):
    out = tmp_path / "p.safetensors"
    done = run(file, "--dim", 3, "--epochs", 2, "--curvature", 2, "-o", out, "--json")
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)["results"]
    points, taxonomy, c = load_points(out)
    assert (taxonomy, c, points.shape) == (tree, 2.0, (len(tree), 3))
    assert results["map"] == pytest.approx(reconstruction(tree, points, c=2.0).map)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.safetensors", "tree.tsv.gz"]
    assert "reconstruction MAP" in run(file, "--epochs", 1, "-o", out, "--overwrite").stdout


def test_command_keeps_what_exists_and_explains(file, tmp_path):
    out = tmp_path / "p.safetensors"
    out.write_bytes(b"mine")
    for arguments, message in (
        ((file, "-o", out), "--overwrite"),
        ((tmp_path / "none.tsv", "-o", tmp_path / "x.safetensors"), "none.tsv"),
        ((file, "-o", tmp_path / "x.pt"), ".safetensors"),
        ((file, "-o", tmp_path / "no" / "x.safetensors"), "no folder"),
        ((file, "-o", tmp_path / "x.safetensors", "--dim", 1), "dim"),
        ((file, "-o", tmp_path / "x.safetensors", "--resume"), "no interrupted run"),
        ((file, "-o", tmp_path / "x.safetensors", "--ranked", -1), "--ranked"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1, arguments
        assert message in done.stderr
        assert "Traceback" not in done.output
    assert out.read_bytes() == b"mine"
    ring = tmp_path / "ring.tsv.gz"
    with gzip.open(ring, "wt") as text:
        text.write("child\tparent\na\tb\nb\ta\n")
    done = run(ring, "-o", tmp_path / "x.safetensors")
    assert done.exit_code == 1
    assert "cycle" in done.stderr.lower()


def test_a_killed_command_is_resumed(file, tmp_path, monkeypatch):
    once, out = tmp_path / "once.safetensors", tmp_path / "p.safetensors"
    assert run(file, "--epochs", 4, "-o", once).exit_code == 0
    honest = EmbeddingTrainer.epoch

    def killed(self):
        if self.epochs_done == 2:
            raise KeyboardInterrupt
        return honest(self)

    monkeypatch.setattr(EmbeddingTrainer, "epoch", killed)
    assert run(file, "--epochs", 4, "-o", out).exit_code == 130
    monkeypatch.undo()
    assert not out.exists()
    assert "--resume" in run(file, "--epochs", 4, "-o", out).stderr
    assert "other options" in run(file, "--epochs", 5, "-o", out, "--resume").stderr
    assert run(file, "--epochs", 4, "-o", out, "--resume").exit_code == 0
    assert torch.equal(load_points(out)[0], load_points(once)[0])
