"""The isometry between the two models: Poincare ball and hyperboloid, points to points.

Curvature is ``-c`` in both. Each direction is as exact as ball coordinates allow.
"""

from torch import Tensor

from hyperlm.manifolds.lorentz import Lorentz
from hyperlm.manifolds.poincare import PoincareBall

__all__ = ["lorentz_to_poincare", "poincare_to_lorentz"]


def poincare_to_lorentz(x: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Ball points ``(..., d)`` to the hyperboloid, ``(..., d + 1)``, time first."""
    return Lorentz(c).from_polar(PoincareBall(c).to_polar(x))


def lorentz_to_poincare(x: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Hyperboloid points ``(..., d + 1)`` to the ball, ``(..., d)``."""
    return PoincareBall(c).from_polar(Lorentz(c).to_polar(x))
