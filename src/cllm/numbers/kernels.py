"""How alike two numbers are by their divisors: three kernels, and the features behind them.

gcd(a, b) = Σ φ(d) over the common divisors d (Smith, 1876), and log gcd(a, b) = Σ log p over the
common prime powers p^e, which is Σ Λ(q) with von Mangoldt's Λ. Each is an inner product of
features that belong to one number alone, so each is positive semidefinite. Status: theorem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt64
from numba import types
from numba.extending import intrinsic

from cllm.errors import InputError
from cllm.numbers.arithmetic import divisors, totient
from cllm.numbers.checks import require_memory
from cllm.numbers.compiled import compiled
from cllm.numbers.primes import factorise

# So many gcds are computed in step: more lanes wait longer for the slowest, fewer fill no vector.
_LANES = 128


@dataclass(frozen=True, slots=True)
class Features:
    """Which number has which feature, and what each feature weighs.

    The kernel of rows i and j is Σ weights over the features that both have; √weight where a
    row has the feature, and 0 elsewhere, is the feature map.
    """

    labels: Int64[np.ndarray, " F"]
    weights: Float64[np.ndarray, " F"]
    present: Bool[np.ndarray, "N F"]

    @property
    def vectors(self) -> Float64[np.ndarray, "N F"]:
        """The feature map: rows whose inner products are the kernel."""
        vectors: Float64[np.ndarray, "N F"] = self.present * np.sqrt(self.weights)
        return vectors

    @property
    def gram(self) -> Float64[np.ndarray, "N N"]:
        """The kernel matrix by the features; exact where the weights are whole and below 2⁵³."""
        present = self.present.astype(np.float64)
        gram: Float64[np.ndarray, "N N"] = (present * self.weights) @ present.T
        return gram


def gcd_kernel(
    rows: Int64[np.ndarray, " N"], columns: Int64[np.ndarray, " M"]
) -> Int64[np.ndarray, "N M"]:
    """gcd(a, b) for every pair, by the binary algorithm in machine code.

    Raises: InputError for a number below 1 or a matrix beyond memory. Cost: 5 to 10
    nanoseconds a pair (benchmarks/gcd_kernels.py).
    Source: Stein, 1967, Journal of Computational Physics 1.
    """
    _check(rows, columns, 8)
    out = np.empty((len(rows), len(columns)), np.int64)
    _fill_gcd(*(np.ascontiguousarray(part).view(np.uint64) for part in (rows, columns, out)))
    return out


def normalised_gcd_kernel(
    rows: Int64[np.ndarray, " N"], columns: Int64[np.ndarray, " M"]
) -> Float64[np.ndarray, "N M"]:
    """gcd(a, b)/√(ab) for every pair: 1 for equal numbers, as a cosine is. Raises: InputError."""
    _check(rows, columns, 24)
    roots = np.sqrt(rows.astype(np.float64))[:, None] * np.sqrt(columns.astype(np.float64))
    cosines: Float64[np.ndarray, "N M"] = gcd_kernel(rows, columns) / roots
    return cosines


def log_gcd_kernel(
    rows: Int64[np.ndarray, " N"], columns: Int64[np.ndarray, " M"]
) -> Float64[np.ndarray, "N M"]:
    """Logarithm of gcd(a, b) for every pair, in nats: 0 if coprime. Raises: InputError."""
    _check(rows, columns, 16)
    logs: Float64[np.ndarray, "N M"] = np.log(gcd_kernel(rows, columns))
    return logs


def gcd_features(numbers: Int64[np.ndarray, " N"]) -> Features:
    """Features of the gcd: one for each divisor d of any of the numbers, of weight φ(d).

    Raises: InputError. Source: Smith, 1876, On the value of a certain arithmetical determinant.
    """
    _check(numbers, numbers[:0], 0)
    owned = [divisors(number) for number in numbers.tolist()]
    labels = sorted(set().union(*owned)) if owned else []
    return _features(owned, labels, [float(totient(label)) for label in labels])


def log_gcd_features(numbers: Int64[np.ndarray, " N"]) -> Features:
    """Features of log gcd: one for each prime power p^e in any of the numbers, of weight log p.

    There are few: a number below 2⁶⁴ has 63 at the most, most have less than ten.
    Raises: InputError.
    """
    _check(numbers, numbers[:0], 0)
    owned: list[list[int]] = []
    base_of: dict[int, int] = {}
    for number in numbers.tolist():
        bases = {p**e: p for p, most in factorise(number).items() for e in range(1, most + 1)}
        owned.append(list(bases))
        base_of |= bases
    labels = sorted(base_of)
    return _features(owned, labels, [math.log(base_of[label]) for label in labels])


def _features(owned: list[list[int]], labels: list[int], weights: list[float]) -> Features:
    require_memory(9 * len(owned) * len(labels), f"{len(labels):,} features of {len(owned):,} rows")
    place = {label: column for column, label in enumerate(labels)}
    present = np.zeros((len(owned), len(labels)), np.bool_)
    for row, own in enumerate(owned):
        present[row, [place[label] for label in own]] = True
    return Features(np.array(labels, np.int64), np.array(weights, np.float64), present)


def _check(
    rows: Int64[np.ndarray, " N"], columns: Int64[np.ndarray, " M"], bytes_per_pair: int
) -> None:
    for numbers in (rows, columns):
        if len(numbers) and int(numbers.min()) < 1:
            hint = "The kernels are defined for whole numbers from 1."
            raise InputError(f"{int(numbers.min())} is less than 1", hint=hint)
    pairs = len(rows) * len(columns)
    require_memory(bytes_per_pair * pairs, f"a kernel of {pairs:,} pairs")


@intrinsic  # type: ignore[untyped-decorator]
def _trailing_zeros(_context: Any, value: Any) -> Any:
    """The number of zero bits below the lowest one of a non-zero integer: one instruction."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return value(value), generate


@compiled
def _fill_gcd(
    rows: UInt64[np.ndarray, " N"],
    columns: UInt64[np.ndarray, " M"],
    out: UInt64[np.ndarray, "N M"],
) -> None:
    """Stein's binary algorithm on many columns in step, so that vector instructions do it."""
    lows, highs = np.empty(_LANES, np.uint64), np.empty(_LANES, np.uint64)
    top = np.uint64(1) << np.uint64(63)
    for i in range(len(rows)):
        odd_row = rows[i] >> _trailing_zeros(rows[i])
        for start in range(0, len(columns), _LANES):
            lanes = min(_LANES, len(columns) - start)
            for k in range(lanes):
                column = columns[start + k]
                lows[k], highs[k] = odd_row, column >> _trailing_zeros(column)
            is_open = True
            while is_open:
                difference = np.uint64(0)
                for k in range(lanes):
                    low, high = min(lows[k], highs[k]), max(lows[k], highs[k])
                    # The top bit, which no number has, keeps the count of zeros defined at 0.
                    odd = (high - low) >> _trailing_zeros((high - low) | top)
                    # Equal lanes have finished and stay as they are.
                    lows[k], highs[k] = low, (odd if odd else low)
                    difference |= odd
                is_open = difference != 0
            for k in range(lanes):
                twos = _trailing_zeros(rows[i] | columns[start + k])
                out[i, start + k] = lows[k] << twos
