"""The tables of eight small integers from which lattice codes are made.

Source: Tseng, Chee, Sun, Kuleshov and De Sa, QuIP#, 2024, arXiv:2402.04396 (E8P and its one-bit
companion). Coordinates are whole numbers: quarters of E8's own in the first, halves in the second.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from jaxtyping import Bool, Int8, UInt16

# Of the 56 patterns of squared length 12 with five 3/2, so many fill the table up to 256.
_NUM_OUTER = 29


@cache
def pair_table() -> Int8[np.ndarray, "256 8"]:
    """Absolute values of the points of E8 + ¼ before the shift by ±¼, in quarters: 2, 6 or 10.

    All 227 patterns of halves of odd integers of squared length up to 10, and 29 of length 12.
    """
    halves = np.array(list(itertools.product((2, 6, 10), repeat=8)), np.int64)
    lengths = (halves**2).sum(1)
    inner = halves[lengths <= 160]
    outer = halves[(lengths == 192) & (halves.max(1) == 6)]
    # Evenly spaced, so that no coordinate is favoured by much.
    chosen = outer[np.arange(_NUM_OUTER) * len(outer) // _NUM_OUTER]
    table = np.concatenate((inner, chosen)).astype(np.int8)
    table.setflags(write=False)
    return table


@cache
def odd_rows() -> Bool[np.ndarray, " 256"]:
    """Which rows of the pair table need an odd number of minus signs.

    Their absolute values have an odd sum, and a point of D8 + ½ has an even one.
    """
    odd: Bool[np.ndarray, " 256"] = pair_table().sum(1, dtype=np.int64) // 4 % 2 == 1
    odd.setflags(write=False)
    return odd


@cache
def direct_table() -> Int8[np.ndarray, "256 8"]:
    """0, the 240 shortest vectors of E8 and 15 of the next length, in halves."""
    pairs = []
    for i, j in itertools.combinations(range(8), 2):
        for a, b in itertools.product((2, -2), repeat=2):
            row = [0] * 8
            row[i], row[j] = a, b
            pairs.append(row)
    signs = np.array(list(itertools.product((1, -1), repeat=8)))
    even = signs[(signs < 0).sum(1) % 2 == 0]
    axes = np.concatenate((4 * np.eye(8, dtype=np.int64), -4 * np.eye(8, dtype=np.int64)))[:15]
    table = np.concatenate((np.zeros((1, 8)), pairs, even, axes)).astype(np.int8)
    table.setflags(write=False)
    return table


def pair_values(codes: UInt16[np.ndarray, "*shape"]) -> Int8[np.ndarray, "*shape8"]:
    """The eight integers of each pair code, in quarters: odd, from −11 to 11.

    Bits 0–7 choose the row, 8–14 the signs of the first seven (set: minus); the eighth's sign
    makes the number of minus signs fit the row. Bit 15: ¼ is added (set) or taken away.
    """
    row = (codes & 255).astype(np.intp)
    minus = (codes[..., None] >> np.arange(8, 15, dtype=np.uint16)) & 1
    last = minus.sum(-1) % 2 ^ odd_rows()[row]
    signs = 1 - 2 * np.concatenate((minus, last[..., None]), -1).astype(np.int8)
    shift = np.where(codes >> 15, 1, -1).astype(np.int8)
    values: Int8[np.ndarray, "*shape8"] = signs * pair_table()[row] + shift[..., None]
    return values
