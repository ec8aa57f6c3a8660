"""Flat space behind the same contract: the matched control of the hyperbolic geometries."""

import math
from typing import Any

import torch
from torch import Tensor

from hyperlm.errors import OptionError
from hyperlm.manifolds._functions import dot, exactly, norm, wide_dtype
from hyperlm.manifolds.base import Geometry, pull_in

__all__ = ["Euclidean"]


class Euclidean(Geometry):
    """Euclidean space; ``c`` is 0 and cannot be set.

    Args:
        max_radius: ``projx`` pulls points in to this length; None leaves all of them.
    """

    name = "Euclidean"

    def __init__(self, *, max_radius: float | None = None) -> None:
        super().__init__(1.0, max_radius=max_radius)
        self.__dict__["_c"] = 0.0

    @property
    def c(self) -> Any:
        """Zero: flat."""
        return 0.0

    @c.setter
    def c(self, value: float | Tensor) -> None:
        if "_c" in self.__dict__:
            raise OptionError("Euclidean space has c = 0; use a hyperbolic geometry for c > 0.")

    def radius_limit(self, dtype: torch.dtype) -> float:
        return math.inf if self.max_radius is None else self.max_radius

    def to_polar(self, x: Tensor) -> Tensor:
        """The coordinates themselves, the same tensor if it is float32 or float64."""
        return x if x.dtype == torch.float64 else x.float()

    def from_polar(self, u: Tensor) -> Tensor:
        """See ``to_polar``."""
        return self.to_polar(u)

    def expmap0(self, u: Tensor) -> Tensor:
        """See ``to_polar``."""
        return self.to_polar(u)

    def logmap0(self, x: Tensor) -> Tensor:
        """See ``to_polar``."""
        return self.to_polar(x)

    def pairwise_dist(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of every ``x`` to every ``y``; by differences, so that nothing cancels."""
        wide = wide_dtype(x)
        narrow = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            if torch.onnx.is_in_onnx_export():  # which has no cdist; float64 can spare the digits
                return _expanded(x.double(), y.double()).to(narrow)
            return torch.cdist(
                x.to(wide), y.to(wide), compute_mode="donot_use_mm_for_euclid_dist"
            ).to(narrow)

    @exactly
    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Distance of corresponding points."""
        return torch.linalg.vector_norm(x - y, dim=-1, keepdim=keepdim)

    @exactly
    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """``x + u``."""
        return x + u

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """See :meth:`Geometry.retr`; no step is too long here."""
        return self.projx(self.expmap(x, u))

    @exactly
    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """``y - x``."""
        return y - x

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Vectors stay as they are."""
        return v.expand(torch.broadcast_shapes(x.shape, y.shape, v.shape))

    def frechet_mean(
        self,
        x: Tensor,
        weights: Tensor | None = None,
        *,
        steps: int = 200,
        tol: float | None = None,
    ) -> Tensor:
        """The weighted mean, ``(..., n, d) -> (..., d)``; ``steps`` and ``tol`` do nothing."""
        mean = (self._shares(x, weights).unsqueeze(-1) * x.to(wide_dtype(x))).sum(-2)
        return mean.to(x.dtype if x.dtype == torch.float64 else torch.float32)

    @exactly
    def _retr_transp(self, x: Tensor, u: Tensor, v: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        return self._pull(x + u, limit), v

    def _to_frame(self, a: Tensor, p: Tensor, w: Tensor) -> Tensor:
        return w

    def _from_frame(self, b: Tensor, q: Tensor, w: Tensor) -> Tensor:
        return w

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """Euclidean inner product, ``(...)``."""
        result = self._inner(u, u if v is None else v)
        return result if keepdim else result.squeeze(-1)

    @exactly
    def _inner(self, u: Tensor, v: Tensor) -> Tensor:
        return dot(u, v)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """The Euclidean gradient is the Riemannian one."""
        return u

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Every vector is tangent."""
        return u.expand(torch.broadcast_shapes(x.shape, u.shape))

    def _pull(self, x: Tensor, limit: float) -> Tensor:
        return x if limit == math.inf else pull_in(x, limit)

    def _off(self, x: Tensor, atol: float, rtol: float) -> Tensor:
        limit = self.radius_limit(x.dtype)
        return (norm(x) > limit * (1 + rtol) + atol).squeeze(-1)


def _expanded(x: Tensor, y: Tensor) -> Tensor:
    """Distances of all pairs from squares and one product of matrices."""
    squares = (x * x).sum(-1, keepdim=True) + (y * y).sum(-1) - 2 * (x @ y.mT)
    return squares.clamp(min=0).sqrt()
