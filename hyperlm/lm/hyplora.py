"""Low-rank adapters whose update passes through the hyperboloid (HypLoRA).

Yang et al. 2024, arXiv 2410.04010: a token state is a tangent vector at the origin, ``exp0`` lifts
it onto the hyperboloid of curvature ``-c``, the low-rank map acts on the coordinates there, and
``log0`` brings the result back. Between two maps that act on the space coordinates ``z`` the time
``sqrt(1/c + |z|^2)`` is restored and not read, so nothing here computes it.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn.functional import linear

from hyperlm.errors import CurvatureWarning, ModelError
from hyperlm.heads.hyperbolic import CURVATURE_BOUNDS
from hyperlm.manifolds._functions import arsinhc, norm, sinhc

__all__ = ["MAX_RADIUS", "HypLoraLinear", "adapter_curvatures", "curvature_log", "update"]

MAX_RADIUS = 5.0  # in units of 1/sqrt(c): states farther out are lifted from there


def update(x: Tensor, down: Tensor, up: Tensor, c: Tensor | float) -> Tensor:
    """The update of one layer, ``(..., D) -> (..., E)``: ``log0(up down exp0(x))``.

    Length is measured in units of ``sqrt(D)``, so a normalised state has radius about 1 whatever
    its width. As ``c`` goes to 0 this is ``up @ down @ x``. Computes in float32 (float64 if ``x``
    is) with autocast off, and returns that dtype.

    Args:
        x: states.
        down: ``(r, D)``.
        up: ``(E, r)``.
        c: positive; the space has curvature ``-c``.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, down, up = x.to(dtype), down.to(dtype), up.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        s = torch.as_tensor(c, dtype=dtype, device=x.device).div(x.shape[-1]).sqrt()
        radius = s * norm(x)
        outside = radius > MAX_RADIUS
        pull = torch.where(outside, MAX_RADIUS / torch.where(outside, radius, 1), 1)
        # A scalar per token commutes with both maps: nothing of width D is kept for it.
        low = linear(x, down) * (pull * sinhc(radius.clamp(max=MAX_RADIUS)))
        space = linear(low, up)
        return arsinhc(s * norm(space)) * space


class HypLoraLinear(Linear):
    """peft's adapter around a linear map, with the update on the hyperboloid.

    ``lora_curvature_logit`` holds the place of ``log c`` between the logarithms of
    ``CURVATURE_BOUNDS``, one per adapted map; it starts in the middle, at ``c = 1``.
    """

    adapter_layer_names = (*Linear.adapter_layer_names, "lora_curvature_logit")

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        # Called by the constructor of the base class, which ends with a walk over all parts.
        if not hasattr(self, "lora_curvature_logit"):
            self.lora_curvature_logit = nn.ParameterDict()
        self.lora_curvature_logit[adapter_name] = nn.Parameter(torch.zeros(()))
        super().update_layer(adapter_name, *args, **kwargs)

    def c(self, adapter: str = "default") -> Tensor:
        """Curvature parameter of an adapter: positive, inside ``CURVATURE_BOUNDS``."""
        low, high = (math.log(bound) for bound in CURVATURE_BOUNDS)
        logit = self.lora_curvature_logit[adapter].float()
        return (low + (high - low) * logit.sigmoid()).exp()

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        for name in self.active_adapters:
            if name in self.lora_A:
                down: Any = self.lora_A[name].weight
                up: Any = self.lora_B[name].weight
                change = update(self.lora_dropout[name](x), down, up, self.c(name))
                result = result + (self.scaling[name] * change).to(result.dtype)
        return result

    def get_delta_weight(self, adapter: str) -> NoReturn:
        raise ModelError(
            "HypLoRA adapters cannot be merged: their update passes through the hyperboloid and is "
            "not linear in the input, so no weight matrix equals it. Keep the adapters, or train "
            "ordinary ones (adapter 'lora')."
        )

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        self.get_delta_weight("default")

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        return False


def adapter_curvatures(model: nn.Module) -> Iterator[Tensor]:
    """The learned ``c`` of every hyperbolic adapter in a model."""
    for module in model.modules():
        if isinstance(module, HypLoraLinear):
            yield from (module.c(name) for name in module.active_adapters)


@torch.no_grad()
def curvature_log(model: nn.Module) -> dict[str, float]:
    """Smallest, mean and largest ``c`` of the adapters, for a training log; empty without any."""
    each = list(adapter_curvatures(model))
    if not each:
        return {}
    c = torch.stack(each)
    least, mean, most = torch.stack([c.min(), c.mean(), c.max()]).tolist()
    low, high = CURVATURE_BOUNDS
    if least < 1.05 * low or most > high / 1.05:
        warnings.warn(
            f"The learned curvature of adapters (c from {least:.3g} to {most:.3g}) sits on a bound "
            f"({low:g} to {high:g}): the data does not hold it. Use the adapter 'lora', or a "
            "smaller learning rate.",
            CurvatureWarning,
            stacklevel=3,
        )
    return {
        "adapter_curvature": mean,
        "adapter_curvature_min": least,
        "adapter_curvature_max": most,
    }
