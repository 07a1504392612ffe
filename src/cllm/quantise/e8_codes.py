"""The nearest codes of blocks of eight numbers: E8P ("pairs") and the table of short E8 vectors.

Source: Tseng 2024, arXiv:2402.04396. Exact: every row of the table with every choice of signs
is compared, at 256 rows a block and shift, for a sign that does not fit the row's parity costs
most cheaply at the coordinate with the least product.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Int8
from numpy.typing import NDArray

from cllm.model.codebooks import direct_table, odd_rows, pair_table, pair_values
from cllm.numbers.compiled import compiled

Codes: TypeAlias = Literal["pairs", "direct"]
_BATCH = 4096


def nearest_codes(blocks: Float32[np.ndarray, "N 8"], kind: Codes) -> NDArray[Any]:
    """The code of the point nearest to each block: uint16 or uint8 [N]. About 1 µs a block."""
    values = np.ascontiguousarray(blocks, np.float32)
    dtype = np.uint16 if kind == "pairs" else np.uint8
    codes: NDArray[Any] = np.empty(len(values), dtype)
    table, lengths, odd = _tables(kind)

    def work(start: int) -> None:
        part = slice(start, start + _BATCH)
        if kind == "pairs":
            _nearest_pairs(values[part], table, lengths, odd, codes[part])
        else:
            _nearest_rows(values[part], table, lengths, codes[part])

    starts = range(0, len(values), _BATCH)
    if len(starts) < 2:
        for start in starts:
            work(start)
    else:
        with ThreadPoolExecutor() as pool:
            list(pool.map(work, starts))
    return codes


def values_of(codes: NDArray[Any]) -> Int8[np.ndarray, "*shape8"]:
    """The eight integers of each code."""
    values: Int8[np.ndarray, "*shape8"] = (
        pair_values(codes) if codes.dtype == np.uint16 else direct_table()[codes]
    )
    return values


@cache
def _tables(
    kind: Codes,
) -> tuple[Float32[np.ndarray, "8 256"], Float32[np.ndarray, " 256"], Float32[np.ndarray, " 256"]]:
    """The table by columns, the squared lengths of its rows, and 1 where a row is odd."""
    table = (pair_table() if kind == "pairs" else direct_table()).astype(np.float32)
    odd = odd_rows() if kind == "pairs" else np.zeros(256, bool)
    return np.ascontiguousarray(table.T), (table**2).sum(1), odd.astype(np.float32)


@compiled
def _nearest_pairs(
    blocks: Float32[np.ndarray, "N 8"],
    table: Float32[np.ndarray, "8 256"],
    lengths: Float32[np.ndarray, " 256"],
    odd: Float32[np.ndarray, " 256"],
    codes: NDArray[np.uint16],
) -> None:
    gain, least = np.empty(256, np.float32), np.empty(256, np.float32)
    for n in range(len(blocks)):
        best, best_row, best_shift = np.float32(np.inf), 0, 0
        for shift in range(2):
            offset = np.float32(2 * shift - 1)
            minus, length = 0, np.float32(0)
            for r in range(256):
                gain[r], least[r] = np.float32(0), np.float32(np.inf)
            for k in range(8):
                y = blocks[n, k] - offset
                minus ^= 1 if y < 0 else 0
                y = abs(y)
                length += y * y
                for r in range(256):
                    product = y * table[k, r]
                    gain[r] += product
                    least[r] = min(least[r], product)
            parity = np.float32(minus)
            for r in range(256):
                wrong = abs(odd[r] - parity)
                distance = length + lengths[r] - 2 * gain[r] + 4 * wrong * least[r]
                gain[r] = distance
            for r in range(256):
                if gain[r] < best:
                    best, best_row, best_shift = gain[r], r, shift
        codes[n] = _pair_code(blocks[n], table, odd, best_row, best_shift)


@compiled
def _pair_code(
    block: Float32[np.ndarray, " 8"],
    table: Float32[np.ndarray, "8 256"],
    odd: Float32[np.ndarray, " 256"],
    row: int,
    shift: int,
) -> int:
    """The code of a row and shift with the best signs."""
    offset = np.float32(2 * shift - 1)
    minus, parity, place, least = 0, 0, 0, np.float32(np.inf)
    for k in range(8):
        y = block[k] - offset
        if y < 0:
            minus |= 1 << k
            parity ^= 1
        if abs(y) * table[k, row] < least:
            least, place = abs(y) * table[k, row], k
    if parity != int(odd[row]):
        minus ^= 1 << place
    return row | (minus & 127) << 8 | shift << 15


@compiled
def _nearest_rows(
    blocks: Float32[np.ndarray, "N 8"],
    table: Float32[np.ndarray, "8 256"],
    lengths: Float32[np.ndarray, " 256"],
    codes: NDArray[np.uint8],
) -> None:
    distance = np.empty(256, np.float32)
    for n in range(len(blocks)):
        for r in range(256):
            distance[r] = lengths[r]
        for k in range(8):
            y = 2 * blocks[n, k]
            for r in range(256):
                distance[r] -= y * table[k, r]
        best = 0
        for r in range(256):
            if distance[r] < distance[best]:
                best = r
        codes[n] = best
