"""Weights of the levels' losses: as an option gives them, and as the configuration keeps them."""

import math
from collections.abc import Sequence

from hyperlm.errors import OptionError

__all__ = ["check_weights", "loss_weights"]


def loss_weights(given: str | Sequence[float], levels: int) -> list[float] | None:
    """Weights as the configuration keeps them: ``None`` stands for learned ones."""
    if isinstance(given, str):
        if given not in ("equal", "learned"):
            raise OptionError(
                f"loss weights {given!r}: give equal, learned, or {levels} numbers, one per level."
            )
        return None if given == "learned" else [1.0] * levels
    check_weights(given, levels)
    return [float(weight) for weight in given]


def check_weights(weights: Sequence[float], levels: int) -> None:
    """Refuse weights that do not fit the levels or leave nothing to train."""
    if len(weights) != levels or not all(0 <= w < math.inf for w in weights) or not any(weights):
        raise OptionError(
            f"loss weights {list(weights)}: give {levels} numbers, one per level, none negative "
            "and not all 0; or 'equal' or 'learned'."
        )
