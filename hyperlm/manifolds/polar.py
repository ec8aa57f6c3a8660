"""Distances between tangent vectors at the origin: nothing here cancels near the boundary.

In: ``u, v``, tangent vectors at the origin measured in Riemannian length, so that ``|u|`` is the
distance of the point ``exp_0(u)`` from the origin. Out: geodesic distances in hyperbolic space of
curvature ``-c``, ``c > 0``. These vectors are the geodesic normal (polar) coordinates of a point:
unlike ball coordinates they hold any radius, and a hidden state arrives in them anyway.

The hyperbolic law of cosines in half-angle form, for ``c = 1``, radii ``a, b``, directions ``p,
q``::

    dist = 2 asinh( sqrt( sinh((a - b)/2)^2 + sinh(a) sinh(b) |p - q|^2 / 4 ) )

float32 inputs give results correct to about 1e-7 (relative) at every radius up to ``170 /
sqrt(c)``, where radii are capped; the arithmetic inside is float64 (float32 on MPS). bfloat16 and
float16 inputs, also under autocast, are computed and returned in float32. A row holding NaN or an
infinity gives NaN against every other row; see ``check_finite`` to turn that into an error.
Gradients reach ``u``, ``v`` and ``c``; at coincidence, where none exists, they are zero. Second
derivatives of ``dist`` and ``pairwise_dist`` and their forward mode are not provided: asking for
them is an error.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hyperlm.errors import OffManifoldError, OptionError
from hyperlm.manifolds import _polar_ops, _polar_plain

__all__ = ["check_finite", "dist", "dist0", "pairwise_dist"]


def pairwise_dist(u: Tensor, v: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Distance of every row of ``u`` to every row of ``v``.

    One matrix product gives all pairs; the few whose directions nearly coincide are done again
    exactly. Works under ``torch.compile(fullgraph=True)`` and ``torch.export``, and under
    ``torch.onnx.export`` with the accuracy that ``_polar_plain`` states; memory beyond the result
    is a few MiB on a CPU.

    Args:
        u: ``(N, d)`` tangent vectors at the origin, Riemannian length.
        v: ``(M, d)`` likewise.
        c: Positive; curvature is ``-c``. A zero-dimensional tensor receives a gradient.
    Returns:
        ``(N, M)``, float64 if an input is, else float32.
    Raises:
        OptionError: ``u`` and ``v`` are not matrices of equal width, or ``c`` is not positive.
    """
    if u.dim() != 2 or v.dim() != 2 or u.shape[1] != v.shape[1]:
        raise OptionError(
            f"pairwise_dist needs (N, d) and (M, d), got {tuple(u.shape)} and {tuple(v.shape)}. "
            "Flatten leading dimensions first, or use dist(), which broadcasts."
        )
    u, v, curvature = _operands(u, v, c)
    return _operators().pairwise(u, v, curvature)


def dist(u: Tensor, v: Tensor, c: float | Tensor = 1.0) -> Tensor:
    """Distance between corresponding rows; leading dimensions broadcast.

    Args:
        u: ``(..., d)`` tangent vectors at the origin, Riemannian length.
        v: ``(..., d)`` likewise.
        c: Positive; curvature is ``-c``. A zero-dimensional tensor receives a gradient.
    Returns:
        ``(...)``, float64 if an input is, else float32.
    """
    u, v, curvature = _operands(u, v, c)
    u, v = torch.broadcast_tensors(u, v)
    shape, width = u.shape[:-1], u.shape[-1]
    return _operators().paired(u.reshape(-1, width), v.reshape(-1, width), curvature).reshape(shape)


def dist0(u: Tensor) -> Tensor:
    """Distance to the origin, ``(..., d) -> (...)``: the length of ``u``, for every ``c``."""
    return torch.linalg.vector_norm(_at_least_float32(u), dim=-1)


def check_finite(u: Tensor, name: str = "u") -> None:
    """Raise ``OffManifoldError`` naming rows of ``u``, ``(..., d)``, holding NaN or infinity."""
    bad = (~torch.isfinite(u)).any(-1).reshape(-1).nonzero().flatten().tolist()
    if bad:
        total = u[..., 0].numel()
        shown = ", ".join(map(str, bad[:8])) + (", ..." if len(bad) > 8 else "")
        raise OffManifoldError(
            f"{name}: {len(bad)} of {total} rows hold NaN or infinity (rows {shown}); every "
            "coordinate must be finite. Look for an overflow upstream, or lower the learning rate."
        )


def _operators() -> ModuleType:
    return _polar_plain if torch.onnx.is_in_onnx_export() else _polar_ops


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _operands(u: Tensor, v: Tensor, c: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if torch.float64 in (u.dtype, v.dtype) else torch.float32
    if not isinstance(c, Tensor):
        if not c > 0:
            raise OptionError(f"c = {c} must be positive; the curvature is -c.")
        c = torch.full((), c, dtype=torch.float64, device="cpu" if u.is_mps else u.device)
    # torch drops the tangents of an operator without a forward-mode rule: zeros, and no word of it.
    if any(forward_ad.unpack_dual(x).tangent is not None for x in (u, v, c)):
        raise NotImplementedError(
            "Hyperbolic distances have no forward-mode derivatives (torch.func.jvp, jacfwd). Use "
            "backward() or torch.autograd.grad."
        )
    return u.to(dtype), v.to(dtype), c
