"""Pooling sees the real tokens alone, whatever side the padding is on."""

import pytest
import torch

from hyperlm.errors import OptionError
from hyperlm.lm.pooling import pack_right, pool

LENGTHS = (5, 1, 3)


def ragged(side: str, width: int = 6):
    """States, ids and a mask of three texts of different lengths; padding holds noise."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(n, 4, generator=generator) for n in LENGTHS]
    hidden = 100 * torch.randn(3, width, 4, generator=generator)
    ids, mask = torch.zeros(3, width, dtype=torch.long), torch.zeros(3, width, dtype=torch.long)
    for row, text in enumerate(texts):
        where = slice(0, len(text)) if side == "right" else slice(width - len(text), width)
        hidden[row, where], mask[row, where] = text, 1
        ids[row, where] = 10 * row + torch.arange(1, len(text) + 1)
    return texts, hidden, ids, mask


def test_mean_and_last_of_the_real_tokens():
    texts, hidden, _, mask = ragged("right")
    means = torch.stack([text.mean(0) for text in texts])
    torch.testing.assert_close(pool(hidden, mask, "mean"), means, rtol=1e-5, atol=1e-5)
    assert torch.equal(pool(hidden, mask, "last"), torch.stack([text[-1] for text in texts]))


def test_packing_moves_left_padding_behind_the_text_and_keeps_its_order():
    _, _, right, right_mask = ragged("right")
    _, _, left, left_mask = ragged("left")
    ids, mask = pack_right(left, left_mask)
    assert torch.equal(ids, right)
    assert torch.equal(mask, right_mask)
    again, _ = pack_right(right, right_mask)
    assert torch.equal(again, right)


def test_packing_closes_gaps_inside_a_text():
    ids = torch.tensor([[7, 0, 8, 0, 9]])
    packed, mask = pack_right(ids, torch.tensor([[1, 0, 1, 0, 1]]))
    assert packed.tolist() == [[7, 8, 9, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 0, 0]]


def test_packing_is_a_stable_sort_by_the_mask():
    mask = torch.randint(2, (64, 9), generator=torch.Generator().manual_seed(0))
    ids = torch.arange(9).expand(64, 9).contiguous()
    order = mask.ne(0).long().argsort(dim=1, descending=True, stable=True)
    packed, moved = pack_right(ids, mask)
    assert torch.equal(packed, order)
    assert torch.equal(moved, mask.gather(1, order))


@pytest.mark.parametrize("how", ["mean", "last"])
@pytest.mark.parametrize("kind", [torch.long, torch.float32, torch.bool])
def test_a_mask_of_any_type(kind, how):
    _, hidden, _, mask = ragged("right")
    assert torch.equal(pool(hidden, mask.to(kind), how), pool(hidden, mask, how))


@pytest.mark.parametrize("how", ["mean", "last"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_is_kept(dtype, how):
    _, hidden, _, mask = ragged("right")
    assert pool(hidden.to(dtype), mask, how).dtype == dtype


def test_a_mean_over_many_half_precision_tokens_does_not_lose_them():
    """1,000 states of 1.0: a sum in float16 stays in range and the mean exact."""
    hidden = torch.full((1, 1000, 4), 100.0, dtype=torch.float16)
    pooled = pool(hidden, torch.ones(1, 1000, dtype=torch.long), "mean")
    torch.testing.assert_close(pooled, torch.full((1, 4), 100.0, dtype=torch.float16))


@pytest.mark.parametrize("how", ["mean", "last"])
def test_a_row_without_tokens_pools_to_something_finite(how):
    _, hidden, _, mask = ragged("right")
    mask[1] = 0
    assert torch.isfinite(pool(hidden, mask, how)).all()


@pytest.mark.parametrize("how", ["mean", "last"])
def test_padding_gets_no_gradient(how):
    _, hidden, _, mask = ragged("right")
    hidden.requires_grad_()
    pool(hidden, mask, how).sum().backward()
    assert not hidden.grad[mask == 0].any()
    assert hidden.grad[mask == 1].any()


def test_unknown_pooling_is_refused():
    _, hidden, _, mask = ragged("right")
    with pytest.raises(OptionError, match="pooling 'max' is unknown; choose one of mean, last"):
        pool(hidden, mask, "max")
