"""Heads that classify into a taxonomy: points in hyperbolic or flat space, and the linear twin."""

from hyperlm.heads.base import HeadOutput, HierarchicalHead
from hyperlm.heads.build import build_head
from hyperlm.heads.discriminant import start_from_texts
from hyperlm.heads.hyperbolic import HyperbolicHead
from hyperlm.heads.linear import LinearHead
from hyperlm.heads.losses import path_loss

__all__ = [
    "HeadOutput",
    "HierarchicalHead",
    "HyperbolicHead",
    "LinearHead",
    "build_head",
    "path_loss",
    "start_from_texts",
]
