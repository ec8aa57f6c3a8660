"""Language heads on intermediate layers: a copy of the final norm and of the output matrix.

In: states ``(..., D)`` of a layer. Out: scores of the next token ``(..., V)``.

===== ============================================================================================
tied  the norm is copied; all levels share the model's own output matrix
lora  as tied, plus a low-rank correction of the matrix for each level
free  every level has a matrix of its own, V x D numbers each
===== ============================================================================================
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperlm.errors import OptionError

__all__ = ["HEAD_KINDS", "LevelHead", "resized"]

HEAD_KINDS = ("tied", "lora", "free")


class LevelHead(nn.Module):
    """The head of one level.

    Args:
        norm: the model's final norm; copied.
        vocabulary: V.
        width: D.
        kind: see the head of this module.
        rank: of the correction, for ``lora``.
        bias: whether a free matrix has a bias, as the model's own has.
    """

    def __init__(
        self,
        norm: nn.Module,
        vocabulary: int,
        width: int,
        *,
        kind: str = "tied",
        rank: int = 16,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if kind not in HEAD_KINDS:
            raise OptionError(f"head kind {kind!r} is unknown; choose {', '.join(HEAD_KINDS)}.")
        if kind == "lora" and rank < 1:
            raise OptionError(f"rank {rank} of a head: it must be at least 1.")
        self.kind = kind
        self.norm = copy.deepcopy(norm)
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        self.down: nn.Parameter | None = None
        self.up: nn.Parameter | None = None
        if kind == "free":
            self.weight = nn.Parameter(torch.empty(vocabulary, width))
            self.bias = nn.Parameter(torch.empty(vocabulary)) if bias else None
        if kind == "lora":
            self.down = nn.Parameter(torch.empty(rank, width))
            self.up = nn.Parameter(torch.empty(vocabulary, rank))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """A correction that starts as nothing; a free matrix that :meth:`copy_from` will fill."""
        if self.down is not None and self.up is not None:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
            nn.init.zeros_(self.up)
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def copy_from(self, matrix: Tensor, bias: Tensor | None) -> None:
        """Start a free matrix as a copy of the model's own."""
        if self.weight is not None:
            self.weight.copy_(matrix)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)

    def resize(self, vocabulary: int) -> None:
        """Score so many tokens: new ones like the mean of the others, without a correction."""
        if self.weight is not None:
            self.weight = resized(self.weight, vocabulary)
        if self.bias is not None:
            self.bias = resized(self.bias, vocabulary)
        if self.up is not None:
            self.up = resized(self.up, vocabulary, fill=0.0)

    def forward(
        self,
        states: Tensor,
        matrix: Tensor | None = None,
        bias: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """Scores of all tokens, or of some.

        Args:
            states: ``(..., D)``, before the final norm.
            matrix: the model's output matrix ``(V, D)``; not read by a free head.
            bias: of that matrix, ``(V,)``.
            tokens: ``(U,)`` token ids; the others are not computed.
        Returns:
            ``(..., V)`` or ``(..., U)``.
        """
        normed = self.norm(states)
        weight: Tensor | None = matrix if self.weight is None else self.weight
        shift: Tensor | None = bias if self.weight is None else self.bias
        up: Tensor | None = self.up
        if weight is None:
            raise OptionError("a head that shares the output matrix needs it as an argument.")
        if tokens is not None:
            weight = weight[tokens]
            shift = None if shift is None else shift[tokens]
            up = None if up is None else up[tokens]
        scores = F.linear(normed, weight, shift)
        if self.down is not None and up is not None:
            scores = scores + F.linear(F.linear(normed, self.down), up)
        return scores


@torch.no_grad()
def resized(old: Tensor, rows: int, *, fill: float | None = None) -> nn.Parameter:
    """A parameter with ``rows`` in its first dimension; new ones are ``fill``, or the mean."""
    if isinstance(old, nn.Parameter) and len(old) == rows:
        return old  # an optimiser may hold it
    kept = old[:rows]
    new = torch.empty(rows, *old.shape[1:], dtype=old.dtype, device=old.device)
    new[: len(kept)] = kept
    new[len(kept) :] = old.mean(0) if fill is None else fill
    return nn.Parameter(new, requires_grad=old.requires_grad)
