"""From token states to one vector per text, whatever side the padding is on.

Shapes: tokens ``(B, T)``, hidden states ``(B, T, D)``, pooled ``(B, D)``.
"""

import torch
from torch import Tensor

from hyperlm.errors import OptionError

__all__ = ["POOLINGS", "pack_right", "pool"]

POOLINGS = ("mean", "last")


def pack_right(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move padding behind the text, row by row, keeping the order of the real tokens.

    Absolute positions, causal masks and recurrent states are then the same for a text no matter
    how the tokenizer padded its batch, so left- and right-padded input give the same answer on
    every architecture. Rows that are padded on the right already come back unchanged.

    Args:
        input_ids: ``(B, T)``.
        attention_mask: ``(B, T)``, nonzero at real tokens.
    """
    real = attention_mask.ne(0)
    # By counting and not by sorting: exporters know no stable sort.
    before = real.long().cumsum(1)
    padding = (~real).long().cumsum(1) + before[:, -1:]
    place = torch.where(real, before, padding) - 1
    return (
        torch.empty_like(input_ids).scatter(1, place, input_ids),
        torch.empty_like(attention_mask).scatter(1, place, attention_mask),
    )


def pool(hidden: Tensor, attention_mask: Tensor, how: str) -> Tensor:
    """Masked mean, or the state of the last real token.

    A row without any real token pools to zeros under ``mean`` and to its first state under
    ``last``: a defined answer rather than NaN.

    Args:
        hidden: ``(B, T, D)``, padding on the right.
        attention_mask: ``(B, T)``.
        how: ``mean`` or ``last``.
    Returns:
        ``(B, D)`` in the dtype of ``hidden``.
    """
    mask = attention_mask.ne(0)
    if how == "mean":
        # A float16 sum over a long text overflows, and bfloat16 cannot count beyond 256.
        full = torch.promote_types(hidden.dtype, torch.float32)
        weights = mask.unsqueeze(-1).to(full)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return mean.to(hidden.dtype)
    if how == "last":
        last = mask.sum(1).sub(1).clamp(min=0)
        return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze(1)
    raise OptionError(f"pooling {how!r} is unknown; choose one of {', '.join(POOLINGS)}.")
