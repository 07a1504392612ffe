"""The rotation before lattice codes: random signs, then Walsh–Hadamard in blocks of the input.

It makes the entries of a row alike, so that one small table of codes fits them all.
Source: Chee, Cai, Kuleshov and De Sa, QuIP, 2023, arXiv:2307.13304.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8

LEAST_BLOCK = 8


def block_of(columns: int) -> int:
    """B: the largest power of two that divides `columns`."""
    return columns & -columns


def can_rotate(columns: int) -> bool:
    """Whether blocks of at least 8 divide the columns."""
    return block_of(columns) >= LEAST_BLOCK


def random_signs(columns: int, seed: int) -> Int8[np.ndarray, " K"]:
    """±1 for each column."""
    drawn = np.random.default_rng(seed).integers(0, 2, columns, np.int8)
    signs: Int8[np.ndarray, " K"] = 1 - 2 * drawn
    return signs


def rotate(
    rows: Float[np.ndarray, "N K"], signs: Int8[np.ndarray, " K"]
) -> Float[np.ndarray, "N K"]:
    """rows·D·H, of the type of `rows`: what a rotated matrix stores, and what it reads.

    Lengths and inner products stay. N·K·log₂ B additions.
    """
    return _hadamard(rows * signs.astype(rows.dtype))


def rotate_back(
    rows: Float[np.ndarray, "N K"], signs: Int8[np.ndarray, " K"]
) -> Float[np.ndarray, "N K"]:
    """The inverse of `rotate`: rows·H·D."""
    turned: Float[np.ndarray, "N K"] = _hadamard(rows) * signs.astype(rows.dtype)
    return turned


def _hadamard(rows: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K"]:
    """rows·H: orthonormal, symmetric, in Sylvester's order within each block."""
    columns = rows.shape[1]
    block, half = block_of(columns), 1
    values = np.array(rows)
    while half < block:
        pairs = values.reshape(-1, 2, half)
        values = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), 1)
        half *= 2
    scaled: Float[np.ndarray, "N K"] = values.reshape(rows.shape) * rows.dtype.type(block**-0.5)
    return scaled
