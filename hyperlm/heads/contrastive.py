"""Texts that share deeper ancestors are to lie closer: a contrastive loss over a tree.

Enters: distances within a batch and the class of every text in each level. Leaves: a scalar per
batch. For one level this is the supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362,
the form with the sum outside the logarithm) with minus the distance times a temperature in place of
the inner product; levels are added with weights that grow with depth, after the per-level penalty
of Zhang et al. 2022 (arXiv 2204.13207), here simply proportional to the level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyperlm.errors import OptionError

__all__ = ["contrastive_loss"]


def contrastive_loss(
    dist: Tensor,
    classes: Tensor,
    *,
    temperature: float = 10.0,
    level_weights: Sequence[float] | None = None,
) -> Tensor:
    """Minus the log-probability that a text's neighbour, drawn by distance, shares its class.

    The loss of a text in a level is at least the logarithm of the number of others in its class,
    and gets there where these coincide with it and all other texts are far away.

    Args:
        dist: ``(..., B, B)`` distances between the texts of a batch; the diagonal is not read.
        classes: ``(..., B, L)`` node of each text in each level, coarse to fine; negative where it
            has none.
        temperature: factor on the distances.
        level_weights: L weights; by default proportional to 1, 2, ... L, with sum 1.
    Returns:
        ``(...)``: mean over the texts that have company in a level, summed over the levels; 0 where
        no text has.
    Raises:
        OptionError: Shapes that do not fit, or not one weight per level.
    """
    if dist.dim() < 2 or classes.shape[:-1] != dist.shape[:-1] or dist.shape[-1] != dist.shape[-2]:
        raise OptionError(
            f"contrastive_loss needs dist (..., B, B) and classes (..., B, L), got "
            f"{tuple(dist.shape)} and {tuple(classes.shape)}."
        )
    L = classes.shape[-1]
    weights = [2 * (level + 1) / (L * (L + 1)) for level in range(L)]
    if level_weights is not None:
        weights = list(level_weights)
    if len(weights) != L:
        raise OptionError(f"{len(weights)} level_weights for {L} levels: give one for each.")
    itself = torch.eye(dist.shape[-1], dtype=torch.bool, device=dist.device)
    scores = (-temperature * dist).masked_fill(itself, -torch.inf)
    # A batch of one text has no other: its row of -inf must not become NaN.
    log_prob = scores.log_softmax(-1).masked_fill(itself, 0.0)
    loss = dist.new_zeros(dist.shape[:-2])
    for level, weight in enumerate(weights):
        at = classes[..., level]
        same = (at.unsqueeze(-1) == at.unsqueeze(-2)) & (at >= 0).unsqueeze(-1) & ~itself
        company = same.sum(-1)  # (..., B)
        text = -(log_prob * same).sum(-1) / company.clamp(min=1)
        some = (company > 0).sum(-1).clamp(min=1)
        loss = loss + weight * text.sum(-1) / some
    return loss
