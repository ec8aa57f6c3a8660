"""Decoding of extreme scores, in every dtype and in chunks; refusals."""

import math

import pytest
import torch
from torch import Tensor

from hyperlm import decoding
from hyperlm.decoding import (
    Cuts,
    Decoded,
    Loss,
    decode,
    decode_threshold,
    marginals,
    path_scores,
    raw_consistent,
    top_k,
)
from hyperlm.errors import ModelError, OptionError
from hyperlm.taxonomy import Taxonomy

LOSSES: tuple[Loss, ...] = ("level", "path", "leaf")
ATOL = {torch.float64: 1e-10, torch.float32: 2e-5}

# Ragged, and a path may end at the inner node a.
RAGGED = Taxonomy.from_paths([("a",), ("a", "b"), ("a", "c", "d"), ("e",), ("f", "g")])

# The edges a -> d and b -> e skip levels; c has two parents.
SKIPPING = Taxonomy.from_edges(
    [("c", "a"), ("c", "b"), ("d", "c"), ("d", "a"), ("e", "d"), ("e", "b"), ("f", "b")],
    terminals=["b"],
)


def random_logits(taxonomy: Taxonomy, seed: int, rows: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, len(taxonomy), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("t", [RAGGED, SKIPPING], ids=["tree", "dag"])
@pytest.mark.parametrize("loss", LOSSES)
class TestNumerics:
    def test_shift_of_all_logits_changes_nothing(self, t: Taxonomy, loss: Loss) -> None:
        x = random_logits(t, 0)
        torch.testing.assert_close(marginals(x + 300, t, loss=loss), marginals(x, t, loss=loss))

    def test_float32_and_half_precision(self, t: Taxonomy, loss: Loss) -> None:
        half = random_logits(t, 1).bfloat16()
        exact = path_scores(half.double(), t, loss=loss)
        for x in (half, half.float()):
            found = path_scores(x, t, loss=loss)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), exact, atol=ATOL[torch.float32], rtol=1e-5)

    def test_extreme_logits_stay_numbers(self, t: Taxonomy, loss: Loss) -> None:
        x = random_logits(t, 2).float() * 1e4
        assert marginals(x, t, loss=loss).isfinite().all()
        assert not path_scores(x, t, loss=loss, completed=False).isnan().any()
        assert (decode(x, t, loss=loss).prob <= 1).all()

    def test_gradients(self, t: Taxonomy, loss: Loss) -> None:
        x = random_logits(t, 3, 2).requires_grad_()
        ends = torch.tensor(t.terminals)

        def whole(logits: Tensor) -> Tensor:
            return path_scores(logits, t, loss=loss)[:, ends]

        def prefix(logits: Tensor) -> Tensor:
            return path_scores(logits, t, loss=loss, completed=False)

        assert torch.autograd.gradcheck(whole, (x,))
        assert torch.autograd.gradcheck(prefix, (x,))

    def test_masked_nodes_are_never_decoded(self, t: Taxonomy, loss: Loss) -> None:
        for node in range(len(t)):
            x = random_logits(t, node)
            x[:, node] = -torch.inf
            found = decode(x, t, loss=loss)
            assert found.log_prob.isfinite().all()
            if loss == "leaf":  # an inner node's own logit plays no part
                assert (found.nodes != node).all()
            else:
                assert (found.path_nodes != node).all()
            assert not marginals(x, t, loss=loss).isnan().any()
            assert not path_scores(x, t, loss=loss, completed=False).isnan().any()

    @pytest.mark.parametrize("mask", [torch.finfo(torch.float32).min, -1e31])
    def test_the_lowest_numbers_mask_as_minus_infinity_does(
        self, t: Taxonomy, loss: Loss, mask: float
    ) -> None:
        """Whole levels of them would be sums that overflow."""
        kept = t.path(int(t.terminals[-1]))
        kept_nodes = [t.index(kept[: end + 1]) if t.is_tree else t.index(kept[end])
                      for end in range(len(kept))]  # fmt: skip
        x = random_logits(t, 5, 1).float()
        out = torch.ones(len(t), dtype=torch.bool)
        out[kept_nodes] = False
        for some in (out, out & (torch.arange(len(t)) % 2 == 0)):
            low, lowest = x.masked_fill(some, mask), x.masked_fill(some, -torch.inf)
            assert torch.equal(
                decode(low, t, loss=loss).log_prob, decode(lowest, t, loss=loss).log_prob
            )
            assert torch.equal(marginals(low, t, loss=loss), marginals(lowest, t, loss=loss))

    def test_no_rows(self, t: Taxonomy, loss: Loss) -> None:
        x = torch.zeros(0, len(t))
        assert decode(x, t, loss=loss).path_nodes.shape == (0, t.num_levels)
        assert top_k(x, t, 2, loss=loss).nodes.shape == (0, 2)
        assert marginals(x, t, loss=loss).shape == (0, len(t))
        assert raw_consistent(x, t).shape == (0,)

    def test_refusals(self, t: Taxonomy, loss: Loss) -> None:
        x = torch.zeros(3, len(t))
        x[1, 0], x[2, -1] = torch.nan, 1e38
        with pytest.raises(ModelError, match=r"2 rows .* First rows: 1, 2\."):
            decode(x, t, loss=loss)
        x[2, -1] = torch.inf
        with pytest.raises(ModelError, match=r"2 rows .* NaN .* First rows: 1, 2\."):
            decode(x, t, loss=loss)
        x = torch.zeros(2, len(t))
        x[1] = -torch.inf
        for function in (decode, marginals):
            with pytest.raises(ModelError, match=r"mask every path.* First rows: 1\."):
                function(x, t, loss=loss)
        with pytest.raises(ModelError, match=rf"\(3, 1\).*\(B, {len(t)}\)"):
            decode(torch.zeros(3, 1), t, loss=loss)
        with pytest.raises(ModelError, match="int64"):
            decode(torch.zeros(3, len(t), dtype=torch.int64), t, loss=loss)
        with pytest.raises(OptionError, match="k is 0"):
            top_k(torch.zeros(3, len(t)), t, 0, loss=loss)


def test_row_numbers_of_errors_count_through_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_CHUNK", 2 * len(RAGGED))
    x = torch.zeros(9, len(RAGGED))
    x[7, 2] = torch.nan
    with pytest.raises(ModelError, match=r"First rows: 7\."):
        raw_consistent(x, RAGGED)


def test_unknown_loss_and_bad_thresholds_are_refused() -> None:
    x = torch.zeros(1, len(RAGGED))
    for call in (
        lambda: decode(x, RAGGED, loss="levels"),  # type: ignore[arg-type]
        lambda: marginals(x, RAGGED, loss="levels"),  # type: ignore[arg-type]
        lambda: path_scores(x, RAGGED, loss="levels"),  # type: ignore[arg-type]
    ):
        with pytest.raises(OptionError, match="use one of level, path, leaf"):
            call()
    full = decode(x, RAGGED)
    for threshold in (-0.1, 1.1, math.nan):
        with pytest.raises(OptionError, match=r"outside \[0, 1\]"):
            decode_threshold(marginals(x, RAGGED), full, threshold)
    with pytest.raises(ModelError, match="same texts"):
        decode_threshold(torch.zeros(2, len(RAGGED)), full, 0.5)


def test_cuts_serve_like_their_taxonomy() -> None:
    x, cuts = random_logits(SKIPPING, 4), Cuts(SKIPPING)
    assert cuts.to("cpu") is cuts
    torch.testing.assert_close(marginals(x, cuts), marginals(x, SKIPPING))


def test_cuts_move_once_and_whole() -> None:
    moved = Cuts(SKIPPING).to("meta")
    assert moved.to("meta") is moved
    assert moved.members[0].device.type == "meta"
    assert [part.shape for part in moved.level_logits(torch.empty(2, len(SKIPPING), device="meta"))]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("t", [RAGGED, SKIPPING], ids=["tree", "dag"])
@pytest.mark.parametrize("loss", LOSSES)
def test_accelerator_agrees_with_cpu(t: Taxonomy, loss: Loss) -> None:
    x = random_logits(t, 5, 64)
    here, there = decode(x, t, loss=loss), decode(x.cuda(), t, loss=loss)
    assert torch.equal(here.path_nodes, there.path_nodes.cpu())
    torch.testing.assert_close(marginals(x, t, loss=loss), marginals(x.cuda(), t, loss=loss).cpu())
    assert torch.equal(raw_consistent(x, t), raw_consistent(x.cuda(), t).cpu())


def test_names_of_decoded_paths() -> None:
    x = torch.full((1, len(RAGGED)), -5.0)
    x[0, RAGGED.path_nodes(RAGGED.index(("a", "c", "d")))] = torch.tensor([5.0, 6.0, 7.0])
    assert decode(x, RAGGED).paths(RAGGED) == [("a", "c", "d")]
    assert top_k(x, RAGGED, 2).paths(RAGGED)[0][0] == ("a", "c", "d")
    assert isinstance(top_k(x, RAGGED, 2), Decoded)
