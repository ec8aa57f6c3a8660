"""Flat space as the control of trained points: sums and ranks against scipy and scikit-learn."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from hyperlm.cli import app
from hyperlm.embedding import (
    EmbeddingOptions,
    EmbeddingTrainer,
    Relations,
    embed,
    flat_tree,
    load_points,
    reconstruction,
)
from hyperlm.embedding.losses import flat_similarity_sum
from hyperlm.errors import OptionError
from hyperlm.manifolds import Euclidean, TangentBall, curved, distortion, fidelity
from hyperlm.taxonomy import Taxonomy

PATHS = [(a, a + b, a + b + c) for a in "xyz" for b in "pqr" for c in "stuv"]


@pytest.fixture(scope="module")
def tree():
    return Taxonomy.from_paths(PATHS)


def points_of(taxonomy, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(taxonomy), dim, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.7])
def test_the_flat_sum_is_the_plain_sum(power):
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    v = torch.randn(6, 3, dtype=torch.float64, generator=generator)
    weight = torch.rand(6, dtype=torch.float64, generator=generator)
    row, column = torch.tensor([0, 0, 3]), torch.tensor([1, 5, 2])
    keep = np.ones((4, 6))
    keep[row, column] = 0
    plain = (keep * weight.numpy() * np.exp(-power * cdist(u, v))).sum(1)
    got = flat_similarity_sum(u, v, weight, row, column, power)
    np.testing.assert_allclose(got, plain, rtol=1e-10)
    u.requires_grad_()
    v.requires_grad_()

    def function(u, v):
        return flat_similarity_sum(u, v, weight, row, column, power)

    assert torch.autograd.gradcheck(function, (u, v))


def test_points_in_one_place_have_finite_gradients():
    u = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    none = torch.empty(0, dtype=torch.long)
    flat_similarity_sum(u, u.detach(), torch.ones(2), none, none, 2.0).sum().backward()
    assert torch.isfinite(u.grad).all()


def test_curvature_zero_is_flat_and_the_limit_of_small_curvature(tree):
    assert isinstance(curved(0.0), Euclidean)
    assert isinstance(curved(0.3), TangentBall)
    assert curved(0.3).c == 0.3
    points = points_of(tree)
    flat, nearly = (reconstruction(tree, points, c=c) for c in (0.0, 1e-12))
    assert flat == pytest.approx(nearly)
    assert reconstruction(tree, points, c=1.0) != flat
    for measure in (distortion, fidelity.mean_average_precision, fidelity.ancestor_retrieval):
        assert measure(tree, points, c=0.0) == pytest.approx(measure(tree, points, c=1e-12))
    path = Taxonomy.from_paths([tuple(f"{i}" for i in range(9))])
    line = torch.arange(1.0, 10.0)[:, None] * torch.tensor([[0.6, 0.8]])
    assert distortion(path, line, c=0.0) == pytest.approx(0, abs=1e-6)


def test_flat_reconstruction_against_scikit_learn(tree):
    points = points_of(tree)
    far = cdist(np.concatenate([points, np.zeros((1, 3))]), np.concatenate([points, [[0] * 3]]))
    root, precisions = len(tree), []
    for node in range(root):
        above = {*tree.ancestors(node).tolist(), root}
        others = [n for n in range(root + 1) if n != node]
        true = [n in above for n in others]
        precisions.append(average_precision_score(true, -far[node, others]))
    assert reconstruction(tree, points, c=0.0).map == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_the_flat_layout_gives_subtrees_the_room_of_their_nodes(tree, dim):
    points = flat_tree(tree, dim)
    root = torch.zeros(1, dim, dtype=torch.float64)
    everything = torch.cat([points, root])  # parent -1 is the root
    size = np.append(1 + np.bincount(tree.ancestor_indices, minlength=len(tree)), 1 + len(tree))
    step = (points - everything[torch.tensor(tree.parent.copy())]).norm(dim=1)
    np.testing.assert_allclose(step, size[tree.parent] ** (1 / dim))
    assert cdist(points, points)[~np.eye(len(tree), dtype=bool)].min() > 0.1
    options = EmbeddingOptions(dim=dim, geometry="euclidean", epochs=0)
    assert torch.equal(embed(tree, options), points)
    with pytest.raises(OptionError, match="at least 2"):
        flat_tree(tree, 1)


def test_flat_points_learn_their_ancestors(tree):
    losses = []
    options = EmbeddingOptions(
        dim=6, geometry="euclidean", start="random", epochs=60, learning_rate=0.1,
        temperature=4.0, batch_size=16,
    )  # fmt: skip
    points = embed(tree, options, on_epoch=lambda _, mean: losses.append(mean))
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    start = embed(tree, EmbeddingOptions(dim=6, geometry="euclidean", start="random", epochs=0))
    before, after = (reconstruction(tree, p, c=0.0).map for p in (start, points))
    assert before < 0.3
    assert after > 0.7


def test_a_flat_step_goes_down_and_has_the_length_of_the_rate(tree):
    options = EmbeddingOptions(
        dim=3, geometry="euclidean", epochs=1, learning_rate=1e-3, batch_size=len(tree)
    )
    start = points_of(tree)

    def loss_at(points):
        trainer = EmbeddingTrainer(Relations.of(tree), points, options)
        return trainer.epoch(), trainer.points.detach()

    loss, after = loss_at(start)
    step = after - start
    np.testing.assert_allclose(step.norm(dim=1), 1e-3, rtol=1e-3)
    along = (loss_at(start + 1e-3 * step)[0] - loss) / 1e-3
    back = (loss_at(start - 1e-3 * step)[0] - loss) / 1e-3
    assert along < 0 < back
    # Outside radius 20, where the ball would hold them, flat points stay as they are.
    far = EmbeddingTrainer(Relations.of(tree), 100 * start, options)
    assert torch.equal(far.points.detach(), 100 * start)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"geometry": "lorentz"}, "geometry"),
        ({"geometry": "euclidean", "loss": "cones"}, "cones"),
        ({"geometry": "euclidean", "loss": "both"}, "cones"),
        ({"geometry": "euclidean", "curvature": 2.0}, "curvature"),
    ],
)
def test_what_flat_space_has_not_is_refused(words, named):
    with pytest.raises(OptionError, match=named):
        EmbeddingOptions(**words)


def test_the_command_writes_flat_points_that_can_be_looked_at(tree, tmp_path):
    source, out = tmp_path / "tree.json", tmp_path / "p.safetensors"
    tree.write(source)
    words = ["embed", source, "--geometry", "euclidean", "--epochs", 2, "--dim", 2, "-o", out]
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    points, taxonomy, c = load_points(out)
    assert (taxonomy, c) == (tree, 0.0)
    with safe_open(out, framework="pt") as file:
        assert file.metadata()["geometry"] == "euclidean"
    results = json.loads(done.stdout)["results"]
    assert results["map"] == pytest.approx(reconstruction(tree, points, c=0.0).map)
    assert results["distortion"] == pytest.approx(distortion(tree, points, c=0.0))
    picture = tmp_path / "p.svg"
    done = CliRunner().invoke(app, ["visualize", str(out), "--output", str(picture)])
    assert done.exit_code == 0, done.output
    assert picture.stat().st_size > 1000
