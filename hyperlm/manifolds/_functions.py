"""Small functions the geometries share: ratios that are smooth at zero, and the precision rule.

The precision rule: formulas run in float64 (float32 on MPS, which has no float64) with autocast
off, and results return in the dtype of the inputs, at least float32. Coordinates near the boundary
hold few enough digits; arithmetic should not cost any more of them.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["arsinhc", "artanhc", "dot", "exactly", "norm", "sinhc", "tanhc", "wide_dtype"]

_BLOCK = 1 << 16  # elements of a block: 512 KiB of float64
_SMALL = 1e-3  # below this the two-term series is exact to 1e-14


def wide_dtype(x: Tensor) -> torch.dtype:
    return torch.float32 if x.is_mps else torch.float64


def exactly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Run a method under the precision rule. Its tensors may come positionally or by keyword.

    The method must treat rows independently: large tables pass through it in blocks of rows where
    nothing is differentiated, so that its float64 temporaries stay in the cache.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_large_table((*args, *kwargs.values())):
            return _by_blocks(functools.partial(whole, self), args, kwargs)
        return whole(self, *args, **kwargs)

    def whole(self: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        narrow = torch.float32
        for tensor in tensors:
            if tensor.dtype == torch.float64:
                narrow = torch.float64
        wide = wide_dtype(tensors[0])
        args = tuple(a.to(wide) if isinstance(a, Tensor) else a for a in args)
        kwargs = {k: a.to(wide) if isinstance(a, Tensor) else a for k, a in kwargs.items()}
        device = tensors[0].device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                result = method(self, *args, **kwargs)
        else:
            result = method(self, *args, **kwargs)
        if isinstance(result, tuple):
            return tuple(r.to(narrow) for r in result)
        return result.to(narrow)

    return run


def _is_large_table(args: tuple[Any, ...]) -> bool:
    """Whether all tensors are matrices of as many rows, on the CPU, large and without gradient."""
    if torch.compiler.is_compiling():
        return False
    tensors = [a for a in args if isinstance(a, Tensor)]
    first = tensors[0]
    return (
        first.dim() == 2
        and first.numel() > _BLOCK
        and first.device.type == "cpu"
        and all(t.dim() == 2 and len(t) == len(first) for t in tensors)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
    )


def _by_blocks(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    first = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
    step = max(1, _BLOCK // first.shape[1])
    results: tuple[Tensor, ...] = ()
    for start in range(0, len(first), step):
        rows = slice(start, start + step)
        part = method(
            *(a[rows] if isinstance(a, Tensor) else a for a in args),
            **{k: a[rows] if isinstance(a, Tensor) else a for k, a in kwargs.items()},
        )
        parts = part if isinstance(part, tuple) else (part,)
        if not results:
            results = tuple(p.new_empty((len(first), *p.shape[1:])) for p in parts)
        for result, p in zip(results, parts, strict=True):
            result[rows] = p
    return results if isinstance(part, tuple) else results[0]


def norm(x: Tensor) -> Tensor:
    """Euclidean length, ``(..., d) -> (..., 1)``; its gradient at zero is zero."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean inner product, ``(..., d), (..., d) -> (..., 1)``."""
    return (x * y).sum(-1, keepdim=True)


def _ratio(x: Tensor, function: Callable[[Tensor], Tensor], a: float, b: float) -> Tensor:
    # Both branches of `where` are differentiated, so neither may divide by zero.
    small = x < _SMALL
    safe = torch.where(small, 1, x)
    square = torch.where(small, x, 0).square()
    return torch.where(small, 1 + square * (a + b * square), function(safe) / safe)


def sinhc(x: Tensor) -> Tensor:
    """``sinh(x)/x`` for ``x >= 0``."""
    return _ratio(x, torch.sinh, 1 / 6, 1 / 120)


def tanhc(x: Tensor) -> Tensor:
    """``tanh(x)/x`` for ``x >= 0``."""
    return _ratio(x, torch.tanh, -1 / 3, 2 / 15)


def artanhc(x: Tensor) -> Tensor:
    """``artanh(x)/x`` for ``0 <= x < 1``."""
    return _ratio(x, torch.atanh, 1 / 3, 1 / 5)


def arsinhc(x: Tensor) -> Tensor:
    """``arsinh(x)/x`` for ``x >= 0``."""
    return _ratio(x, torch.asinh, -1 / 6, 3 / 40)
