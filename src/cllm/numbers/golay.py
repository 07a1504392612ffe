"""The hexacode and the extended binary Golay code, in the coordinates of the MOG.

The 24 coordinates are six columns of four: coordinate 4·column + row. A column's bits
b₀b₁b₂b₃ score b₁ + ωb₂ + ω̄b₃ in F₄ = {0, 1, ω, ω̄}, written 0, 1, 2, 3 (addition is exclusive
or). A word is in the Golay code when the six scores are a word of the hexacode and every
column's parity is the top row's.
Source: Curtis, A new combinatorial approach to M24, 1976; Conway and Sloane, SPLAG, chapter 11.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from jaxtyping import Int64, UInt8

# The Golay code is cyclic in these labels of its coordinates (23 stands for ∞): coordinate i has
# label CYCLIC_LABELS[i], and label → label + 1 mod 23 maps the code to itself.
CYCLIC_LABELS = (
    *(0, 1, 2, 3, 4, 15, 17, 20, 5, 8, 13, 6),
    *(18, 11, 10, 7, 16, 19, 22, 14, 21, 12, 23, 9),
)


def _times(a: int, b: int) -> int:
    # Non-zero elements are the powers of ω: 1, ω, ω̄ have the logarithms 0, 1, 2.
    return (a + b - 2) % 3 + 1 if a and b else 0


@functools.cache
def hexacode_words() -> Int64[np.ndarray, "64 6"]:
    """The 64 words of the hexacode, a [6, 3, 4] code over F₄; read-only.

    (a, b, c, f(1), f(ω), f(ω̄)) with f(x) = ax² + bx + c, in the order of (a, b, c).
    """
    words = [
        (a, b, c, *(_times(a, _times(x, x)) ^ _times(b, x) ^ c for x in (1, 2, 3)))
        for a, b, c in itertools.product(range(4), repeat=3)
    ]
    table = np.array(words, np.int64)
    table.setflags(write=False)
    return table


@functools.cache
def column_patterns() -> Int64[np.ndarray, "2 4 2"]:
    """The four bits of a column by (parity, score, top bit), bit r of the number for row r.

    A column's parity, score and top bit determine it; read-only.
    """
    table = np.zeros((2, 4, 2), np.int64)
    for pattern in range(16):
        bits = [pattern >> row & 1 for row in range(4)]
        score = (bits[1] * 1) ^ (bits[2] * 2) ^ (bits[3] * 3)
        table[sum(bits) % 2, score, bits[0]] = pattern
    table.setflags(write=False)
    return table


@functools.cache
def golay_words() -> UInt8[np.ndarray, "4096 24"]:
    """The 4096 words of the extended binary Golay code, a [24, 12, 8] code; read-only."""
    tops = np.array(list(itertools.product((0, 1), repeat=6)))
    columns = np.arange(6)
    parts = []
    for parity in (0, 1):
        allowed = tops[tops.sum(1) % 2 == parity]
        # [words, tops, column]
        parts.append(column_patterns()[parity, hexacode_words()[:, None], allowed[None]])
    patterns = np.concatenate(parts).reshape(-1, len(columns))
    words = (patterns[:, :, None] >> np.arange(4)) & 1
    table = words.reshape(-1, 24).astype(np.uint8)
    table.setflags(write=False)
    return table
