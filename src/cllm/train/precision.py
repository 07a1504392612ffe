"""Which number format this machine multiplies fastest, measured."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from cllm.config import Precision

# A product of bfloat16-rounded factors has relative error near 2^-8; 2^-6 allows for the
# accumulation and still catches a kernel that is plainly wrong.
_LARGEST_ERROR = 2.0**-6


def dtype_of(precision: Precision) -> torch.dtype:
    """Torch's type of a decided precision."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def measure_precision(width: int, rows: int, device: str) -> Precision:
    """Choose bfloat16 where its products are at least a fifth faster and accurate enough.

    Takes about 50 ms on two cores. Other devices than the CPU are asked what they support.
    """
    if device != "cpu":
        supported = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        return "bfloat16" if supported else "float32"
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(min(rows, 2048), width, generator=generator)
    b = torch.randn(4 * width, width, generator=generator)
    exact = a.double() @ b.double().t()
    low_a, low_b = a.bfloat16(), b.bfloat16()
    error = float((low_a @ low_b.t()).double().sub(exact).norm() / exact.norm())
    if not error < _LARGEST_ERROR:
        return "float32"
    gain = _fastest(a, b) / _fastest(low_a, low_b)
    return "bfloat16" if gain >= 1.2 else "float32"


def _fastest(a: Tensor, b: Tensor) -> float:
    times = []
    for _ in range(9):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        times.append(time.perf_counter() - start)
    return min(times[2:])
