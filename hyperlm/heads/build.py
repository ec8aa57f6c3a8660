"""One entry for both heads, so that a saved configuration says which it is."""

from collections.abc import Sequence
from typing import Any

from hyperlm.errors import OptionError
from hyperlm.heads.base import HierarchicalHead
from hyperlm.heads.hyperbolic import HyperbolicHead
from hyperlm.heads.linear import LinearHead
from hyperlm.taxonomy import Taxonomy

__all__ = ["HEADS", "build_head"]

HEADS = ("points", "linear")


def build_head(
    kind: str,
    *,
    hidden_size: int,
    taxonomy: Taxonomy,
    tap_of_level: Sequence[int] | None = None,
    **options: Any,
) -> HierarchicalHead:
    """``points`` makes a :class:`HyperbolicHead`, ``linear`` a :class:`LinearHead`."""
    if kind == "points":
        return HyperbolicHead(hidden_size, taxonomy, tap_of_level=tap_of_level, **options)
    if kind == "linear":
        return LinearHead(hidden_size, taxonomy, tap_of_level=tap_of_level, **options)
    raise OptionError(f"kind {kind!r} is unknown; choose one of {', '.join(HEADS)}.")
