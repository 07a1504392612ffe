"""The rows of a head in two orders: pairs (j, j + D/2) as Hugging Face turns them, or (2j, 2j + 1).

A rotation of positions pairs coordinates; llama.cpp's Llama pairs neighbours, so it needs the rows
of queries and keys in another order, and then computes the same. Qwen3 has the halves in both.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


def to_neighbours(rows: Float32[np.ndarray, "N C"], head_width: int) -> Float32[np.ndarray, "N C"]:
    """From halves to neighbours, head by head."""
    halves = rows.reshape(-1, 2, head_width // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def to_halves(rows: Float32[np.ndarray, "N C"], head_width: int) -> Float32[np.ndarray, "N C"]:
    """From neighbours to halves, head by head."""
    pairs = rows.reshape(-1, head_width // 2, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)
