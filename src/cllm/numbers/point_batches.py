"""Run a decoder over many points: inputs checked, threads fed."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Shaped

from cllm.errors import InputError
from cllm.numbers.checks import require_memory, whole_number

# Few enough points to stay in the second-level cache, and enough to make up for a task's cost.
_BATCH = 1 << 14


def checked_points(points: Shaped[np.ndarray, "*shape"], width: int) -> Float[np.ndarray, "N n"]:
    """`points`, contiguous.

    Raises: InputError unless they are [N, width], float32 or float64, and fit into memory twice.
    """
    if points.ndim != 2 or points.shape[1] != width:
        raise InputError(
            f"points of shape {list(points.shape)} do not fit a lattice of dimension {width}",
            hint=f"Give an array of shape [N, {width}], one point a row.",
        )
    if points.dtype not in (np.float32, np.float64):
        raise InputError(
            f"points of type {points.dtype} can't be decoded",
            hint="Give float32 or float64.",
        )
    require_memory(2 * 8 * points.size, f"decoding {len(points):,} points")
    return np.ascontiguousarray(points)


def run_in_batches(
    work: Callable[[int, int], bool], num_points: int, threads: int | None, *, limit: float
) -> None:
    """Call work(first, last) over all points, on `threads` threads (None: one a core).

    `work` says whether its points could be decoded. Raises: InputError when some could not.
    """
    num_threads = os.cpu_count() or 1 if threads is None else whole_number(threads, "threads", 1)
    starts = range(0, num_points, _BATCH)
    spans = [(start, min(start + _BATCH, num_points)) for start in starts]
    if num_threads == 1 or len(spans) < 2:
        done = [work(first, last) for first, last in spans]
    else:
        with ThreadPoolExecutor(min(num_threads, len(spans))) as pool:
            done = list(pool.map(lambda span: work(*span), spans))
    if not all(done):
        raise InputError(
            f"points have values that are not finite, or beyond {limit:.3g}",
            hint="Look for NaN or infinity, or scale the points down.",
        )
