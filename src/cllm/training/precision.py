"""Which number format this machine multiplies fastest, measured."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from cllm.config import Precision
from cllm.errors import SettingsError

# A product of bfloat16-rounded factors has relative error near 2^-8; 2^-6 allows for the
# accumulation and still catches a kernel that is plainly wrong.
_LARGEST_ERROR = 2.0**-6
_LEAST_GAIN = 1.2


def dtype_of(precision: Precision) -> torch.dtype:
    """Torch's type of a decided precision."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def measure_precision(device: str) -> Precision:
    """Choose bfloat16 where its products are at least a fifth faster and accurate enough.

    Takes about 50 ms on two cores. Other devices than the CPU are asked what they support.
    Raises: SettingsError when this machine has no such device.
    """
    if device != "cpu":
        _check_device(device)
        supported = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        return "bfloat16" if supported else "float32"
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(1024, 256, generator=generator)
    b = torch.randn(768, 256, generator=generator)
    exact = a.double() @ b.double().t()
    low_a, low_b = a.bfloat16(), b.bfloat16()
    error = float((low_a @ low_b.t()).double().sub(exact).norm() / exact.norm())
    if not error < _LARGEST_ERROR:
        return "float32"
    # In turns, and the best of each: whatever else the machine does then hits both alike.
    single, low = [], []
    for _ in range(12):
        single.append(_time(a, b))
        low.append(_time(low_a, low_b))
    return "bfloat16" if min(single[2:]) / min(low[2:]) >= _LEAST_GAIN else "float32"


def _time(a: Tensor, b: Tensor) -> float:
    start = time.perf_counter()
    torch.nn.functional.linear(a, b)
    return time.perf_counter() - start


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            f"{device!r} can't be used: {str(error).splitlines()[0]}",
            where="train.device",
            hint="Choose a device this machine has; cpu always works.",
        ) from None
