"""Candidates from a graph index: exact re-scoring, recall that counts, clear errors."""

import builtins

import pytest
import torch

from hyperlm.errors import OptionError
from hyperlm.manifolds import FaissIndex, nearest, polar


@pytest.fixture
def _faiss():
    pytest.importorskip("faiss", reason="faiss is in the extra 'faiss'")


def clusters(c, seed=0):
    """300 points around 20 centres, radius about 2, and queries close to some of them."""
    gen = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, 6, generator=gen)
    points = centres.repeat(15, 1) + 0.2 * torch.randn(300, 6, generator=gen)
    queries = points[::30] + 0.02 * torch.randn(10, 6, generator=gen)
    return queries / c**0.5, points / c**0.5


@pytest.mark.usefixtures("_faiss")
@pytest.mark.parametrize("coordinates", ["ball", "direction", "tangent"])
@pytest.mark.parametrize("c", [0.25, 1.0, 4.0])
def test_candidates_are_scored_exactly(c, coordinates):
    queries, points = clusters(c)
    index = FaissIndex(points, c=c, coordinates=coordinates)
    dist, at = index.nearest(queries, 5, pool=150)
    torch.testing.assert_close(dist, polar.dist(queries[:, None], points[at], c))
    assert (dist.diff(dim=1) >= 0).all()
    assert index.recall(queries, 5, pool=150) > 0.95
    # With all points as candidates only what the graph cannot reach is missing: here nothing.
    found = index.nearest(queries, 5, pool=300)
    torch.testing.assert_close(found[0], nearest(queries, points, 5, c=c)[0])


@pytest.mark.usefixtures("_faiss")
def test_recall_counts_what_is_missed():
    queries, points = clusters(1.0)
    index = FaissIndex(points)
    exact = nearest(queries, points, 3)[1]
    found = index.nearest(queries, 3, pool=3)[1]
    share = (found.unsqueeze(2) == exact.unsqueeze(1)).any(2).double().mean()
    assert index.recall(queries, 3, pool=3) == pytest.approx(float(share))


@pytest.mark.usefixtures("_faiss")
def test_wrong_arguments_are_explained():
    index = FaissIndex(torch.randn(10, 3))
    with pytest.raises(OptionError, match="k = 11 nearest of 10 points"):
        index.nearest(torch.randn(2, 3), 11)
    with pytest.raises(OptionError, match="k = 5 nearest of 10 points and 4 candidates"):
        index.nearest(torch.randn(2, 3), 5, pool=4)
    with pytest.raises(OptionError, match="coordinates 'lorentz' are unknown"):
        FaissIndex(torch.randn(10, 3), coordinates="lorentz")


def test_a_missing_library_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(OptionError, match=r"pip install 'hyperlm-toolkit\[faiss\]'"):
        FaissIndex(torch.randn(10, 3))
