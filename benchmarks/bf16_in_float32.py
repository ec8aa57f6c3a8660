"""hyperlm in bf16 where a processor has none: ``python benchmarks/bf16_in_float32.py train ...``.

A processor with instructions for bf16 multiplies numbers of 8 bits of mantissa, which is exact in
float32, adds in float32 and rounds the sum. Without them torch does the same many times slower than
it multiplies float32. Here matrix products and attention get their bf16 operands as float32, at the
speed of that, and what comes out is rounded; everything else is torch's own bf16. Numbers differ
from the hardware's by the order of sums (attention keeps its weights in float32 too): enough that
runs are not equal, as those of two processors are not.

``--check`` compares a product with torch's own bf16, and says what each takes. All other arguments
are those of ``hyperlm``. Records of experiments say in ``machine`` that they were made so.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hyperlm.experiments import runner, trials

aten = torch.ops.aten
FORWARD = aten._scaled_dot_product_flash_attention_for_cpu.default
BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
PRODUCTS = {
    aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, FORWARD, BACKWARD,
}  # fmt: skip


class InFloat32(TorchDispatchMode):
    """Products of bf16 tensors by way of float32."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in PRODUCTS or not any(map(_is_bf16, args)):
            return func(*args, **kwargs)
        out = func(*(arg.float() if _is_bf16(arg) else arg for arg in args), **kwargs)
        if func is FORWARD:  # what its backward needs of the softmax is float32 in any case
            return (out[0].bfloat16(), *out[1:])
        return tuple(part.bfloat16() for part in out) if func is BACKWARD else out.bfloat16()


def _is_bf16(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16


def check() -> None:
    """One product, of a batch of MiniLM, in each way."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    a, b = torch.randn(2048, 384).bfloat16(), torch.randn(384, 1536).bfloat16()
    with InFloat32():
        ours, seconds = _timed(lambda: a @ b)
    own, own_seconds = _timed(lambda: a @ b)
    _, plain = _timed(lambda: a.float() @ b.float())
    differ = float((ours != own).float().mean())
    ulps = ((ours - own).abs() / own.abs().clamp(min=1e-3)).max() / torch.finfo(ours.dtype).eps
    print(f"{100 * differ:.3f} % of the numbers differ, by {float(ulps):.0f} in the last place")
    print(f"time / float32: {seconds / plain:.2f}; torch's own bf16: {own_seconds / plain:.2f}")


def _timed(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """What it gives, and the best of ten times."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return found, min(times)


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        check()
        return
    from hyperlm.cli import main as hyperlm

    machine = trials.machine

    def told() -> str:
        return f"{machine()}, bf16 multiplied in float32"

    trials.machine = runner.machine = told
    torch.cpu._is_avx512_bf16_supported = lambda: True  # what --precision auto asks
    with InFloat32():
        hyperlm()


if __name__ == "__main__":
    main()
