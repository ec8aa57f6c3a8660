"""The distances of :mod:`hyperlm.manifolds.polar` out of nothing but elementary functions.

For exporters that know no operators of ours: ONNX. In float64, and without the second look at pairs
that lie close together far from the origin: beside a few float32 roundings the absolute error is
at most about ``1e-7 sqrt(sinh(a) sinh(b))`` at radii ``a, b`` (``c = 1``), which is reached where
the two points coincide. At the radii of trained heads no score moves by it.
"""

import torch
from torch import Tensor

from hyperlm.manifolds._polar_ops import RADIUS_CAP

__all__ = ["paired", "pairwise"]


def pairwise(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
    """``(N, d), (M, d), () -> (N, M)``, in the dtype of ``u``."""
    s = c.double().sqrt()
    a, p = _polar(u.double() * s)
    b, q = _polar(v.double() * s)
    return (_distance(a, b.mT, p @ q.mT) / s).to(u.dtype)


def paired(u: Tensor, v: Tensor, c: Tensor) -> Tensor:
    """``(n, d), (n, d), () -> (n,)``, row by row, in the dtype of ``u``."""
    s = c.double().sqrt()
    a, p = _polar(u.double() * s)
    b, q = _polar(v.double() * s)
    return (_distance(a, b, (p * q).sum(-1, keepdim=True))[:, 0] / s).to(u.dtype)


def _polar(u: Tensor) -> tuple[Tensor, Tensor]:
    radius = (u * u).sum(-1, keepdim=True).sqrt()
    return radius.clamp(max=RADIUS_CAP), u / torch.where(radius > 0, radius, 1)


def _distance(a: Tensor, b: Tensor, cosine: Tensor) -> Tensor:
    half = _sinh((a - b) / 2)
    # Rounding may leave the chord of equal directions below zero.
    x = half * half + _sinh(a) * _sinh(b) * (1 - cosine).clamp(min=0) / 2
    return torch.log(1 + 2 * (x + torch.sqrt(x * (1 + x))))


def _sinh(x: Tensor) -> Tensor:
    # Runtimes have the hyperbolic functions in float32 alone.
    return (torch.exp(x) - torch.exp(-x)) / 2
