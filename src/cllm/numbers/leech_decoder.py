"""The nearest point of the Leech lattice, exactly, for many points at a time.

In coordinates times √8 the lattice is the union over m = 0, 1 and the 4096 Golay words c of
x = m + 2c + 4z with Σz ≡ m mod 2. In a column of the MOG a hexacode digit leaves two patterns,
and each has a nearest x with either parity of Σz: four costs, by the top bit and that parity.
Over the six columns both add up mod 2, so the best of all patterns for one hexacode word is a
minimum over sums of such costs, and 2 · 2 · 64 of these minima find the nearest point.
Source: Conway and Sloane, IEEE Trans. Inf. Theory 32, 1986; Vardy and Be'ery, ibid. 39, 1993.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, Shaped

from cllm.numbers.compiled import compiled
from cllm.numbers.golay import column_patterns, hexacode_words
from cllm.numbers.point_batches import checked_points, run_in_batches

_SCALE = 8.0**0.5
# Beyond, neighbouring doubles are too far apart for a distance to mean anything.
_LIMIT = 2.0**28
# So many points are worked on side by side, each step a few vector instructions.
_LANES = 16


def nearest_leech_coordinates(
    points: Shaped[np.ndarray, "*shape"], threads: int | None = None
) -> Int32[np.ndarray, "N 24"]:
    """The nearest lattice points' coordinates times √8, which are integers.

    `points` [N, 24] in the lattice's own scale (minimal norm 4), float32 or float64; equally
    near points are told apart in a fixed way. `threads`: one a core unless given. About 3 µs a
    point and core. Raises: InputError for another shape or type, values that are not finite or
    beyond 2²⁸.
    """
    values = checked_points(points, 24)
    out = np.empty(values.shape, np.int32)
    tables = (column_patterns(), hexacode_words())

    def work(first: int, last: int) -> bool:
        scaled = values[first:last].astype(np.float64) * _SCALE
        # A comparison with a NaN is false.
        if not np.all(np.abs(scaled) < _LIMIT):
            return False
        _decode(scaled, *tables, out[first:last])
        return True

    run_in_batches(work, len(values), threads, limit=_LIMIT / _SCALE)
    return out


def nearest_leech(
    points: Shaped[np.ndarray, "*shape"], threads: int | None = None
) -> Float[np.ndarray, "N 24"]:
    """The nearest lattice points in the lattice's own scale, in the type of `points`.

    As `nearest_leech_coordinates`, divided by √8.
    """
    whole = nearest_leech_coordinates(points, threads)
    return (whole / _SCALE).astype(points.dtype)


@compiled
def _coordinate(value: float, residue: int) -> tuple[float, int, float]:
    """Nearest residue + 4k: the squared distance, k's parity, and what the other parity costs."""
    quotient = np.rint((value - residue) * 0.25)
    distance = abs(value - residue - 4.0 * quotient)
    return distance * distance, int(quotient) & 1, 16.0 - 8.0 * distance


@compiled
def _column_costs(
    scaled: Float64[np.ndarray, "N 24"],
    first: int,
    patterns: Int64[np.ndarray, "2 4 2"],
    costs: Float64[np.ndarray, "2 2 6 4 4 lanes"],
) -> None:
    """Fill costs[m, parity, column, digit, 2·top + odd, lane] for the points from `first` on."""
    near = np.empty((2, 4))
    odd = np.empty((2, 4), np.int64)
    more = np.empty((2, 4))
    for lane in range(min(costs.shape[5], len(scaled) - first)):
        for m in range(2):
            for column in range(6):
                for row in range(4):
                    for bit in range(2):
                        value = scaled[first + lane, 4 * column + row]
                        a, b, c = _coordinate(value, m + 2 * bit)
                        near[bit, row], odd[bit, row], more[bit, row] = a, b, c
                for parity in range(2):
                    for digit in range(4):
                        for top in range(2):
                            pattern = patterns[parity, digit, top]
                            total, parities, least = 0.0, 0, 16.0
                            for row in range(4):
                                bit = pattern >> row & 1
                                total += near[bit, row]
                                parities ^= odd[bit, row]
                                least = min(least, more[bit, row])
                            cell = costs[m, parity, column, digit]
                            cell[2 * top + parities, lane] = total
                            cell[2 * top + 1 - parities, lane] = total + least


@compiled
def _pair_costs(
    columns: Float64[np.ndarray, "6 4 4 lanes"], pairs: Float64[np.ndarray, "3 16 4 lanes"]
) -> None:
    """Best sums of two neighbouring columns, by both digits and the sums of their parities."""
    for pair in range(3):
        for left in range(4):
            for right in range(4):
                a, b = columns[2 * pair, left], columns[2 * pair + 1, right]
                sums = pairs[pair, 4 * left + right]
                for state in range(4):
                    for lane in range(sums.shape[1]):
                        sums[state, lane] = min(
                            a[0, lane] + b[state, lane],
                            a[1, lane] + b[state ^ 1, lane],
                            a[2, lane] + b[state ^ 2, lane],
                            a[3, lane] + b[state ^ 3, lane],
                        )


@compiled
def _try_word(
    a: Float64[np.ndarray, "4 lanes"],
    b: Float64[np.ndarray, "4 lanes"],
    c: Float64[np.ndarray, "4 lanes"],
    target: int,
    number: float,
    best: Float64[np.ndarray, "2 lanes"],
) -> None:
    """Keep the least cost of this hexacode word, and its number, where it beats the best."""
    zero, one, two, three = target, target ^ 1, target ^ 2, target ^ 3
    for lane in range(best.shape[1]):
        a0, a1, a2, a3 = a[0, lane], a[1, lane], a[2, lane], a[3, lane]
        b0, b1, b2, b3 = b[0, lane], b[1, lane], b[2, lane], b[3, lane]
        even = min(a0 + b0, a1 + b1, a2 + b2, a3 + b3) + c[zero, lane]
        odd = min(a0 + b1, a1 + b0, a2 + b3, a3 + b2) + c[one, lane]
        top = min(a0 + b2, a1 + b3, a2 + b0, a3 + b1) + c[two, lane]
        both = min(a0 + b3, a1 + b2, a2 + b1, a3 + b0) + c[three, lane]
        cost = min(even, odd, top, both)
        is_better = cost < best[0, lane]
        best[0, lane] = cost if is_better else best[0, lane]
        best[1, lane] = number if is_better else best[1, lane]


@compiled
def _choose_states(
    costs: Float64[np.ndarray, "6 4 4 lanes"],
    lane: int,
    digits: Int64[np.ndarray, " 6"],
    target: int,
    states: Int64[np.ndarray, " 6"],
) -> None:
    """The six columns' states (2·top + odd) of least total cost whose sum mod 2 is `target`."""
    best = np.full((7, 4), np.inf)
    came = np.zeros((7, 4), np.int64)
    best[0, 0] = 0.0
    for column in range(6):
        for before in range(4):
            for state in range(4):
                total = best[column, before] + costs[column, digits[column], state, lane]
                if total < best[column + 1, before ^ state]:
                    best[column + 1, before ^ state] = total
                    came[column + 1, before ^ state] = state
    for column in range(5, -1, -1):
        states[column] = came[column + 1, target]
        target ^= states[column]


@compiled
def _write_column(
    values: Float64[np.ndarray, " 4"],
    m: int,
    pattern: int,
    is_odd: int,
    out: Int32[np.ndarray, " 4"],
) -> None:
    """The nearest four coordinates with these bits and this parity of Σz."""
    least, place, parities = 17.0, 0, 0
    for row in range(4):
        residue = m + 2 * (pattern >> row & 1)
        _, odd, more = _coordinate(values[row], residue)
        parities ^= odd
        out[row] = residue + 4 * int(np.rint((values[row] - residue) * 0.25))
        if more < least:
            least, place = more, row
    if parities != is_odd:
        out[place] += 4 if values[place] >= out[place] else -4


@compiled
def _decode(
    scaled: Float64[np.ndarray, "N 24"],
    patterns: Int64[np.ndarray, "2 4 2"],
    words: Int64[np.ndarray, "64 6"],
    out: Int32[np.ndarray, "N 24"],
) -> None:
    costs = np.zeros((2, 2, 6, 4, 4, _LANES))
    pairs = np.empty((3, 16, 4, _LANES))
    best = np.empty((2, _LANES))
    states = np.empty(6, np.int64)
    for first in range(0, len(scaled), _LANES):
        _column_costs(scaled, first, patterns, costs)
        best[0] = np.inf
        for m in range(2):
            for parity in range(2):
                _pair_costs(costs[m, parity], pairs)
                for word in range(64):
                    w = words[word]
                    _try_word(
                        pairs[0, 4 * w[0] + w[1]],
                        pairs[1, 4 * w[2] + w[3]],
                        pairs[2, 4 * w[4] + w[5]],
                        2 * parity + m,
                        128.0 * m + 64.0 * parity + word,
                        best,
                    )
        for lane in range(min(_LANES, len(scaled) - first)):
            number = int(best[1, lane])
            m, parity, digits = number >> 7, number >> 6 & 1, words[number & 63]
            _choose_states(costs[m, parity], lane, digits, 2 * parity + m, states)
            for column in range(6):
                pattern = patterns[parity, digits[column], states[column] >> 1]
                place = slice(4 * column, 4 * column + 4)
                values, found = scaled[first + lane, place], out[first + lane, place]
                _write_column(values, m, pattern, states[column] & 1, found)
