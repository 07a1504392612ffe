"""Integers in groups of 32 columns with one scale each: "int8" and "int4".

The scale of a group is searched: of some that are a little smaller than the one at which
nothing is cut off, the one with the least (weighted) error, then fitted to the integers found.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float16, Float64, Int8
from numpy.typing import NDArray

from cllm.model.packed import GROUP, Kind, Packed, pack_nibbles, padded
from cllm.numbers.compiled import compiled

LIMITS: dict[Kind, tuple[int, int]] = {"int8": (-127, 127), "int4": (-8, 7)}
# Below the scale that reaches the largest value; the last is about what a Gaussian group likes.
_SHRINKING = {"int8": (1.0, 0.98), "int4": tuple(np.linspace(1.1, 0.65, 16).tolist())}


_NO_FEEDBACK = np.zeros((0, 0))


def padded_rows(rows: Float[np.ndarray, "N K"]) -> Float64[np.ndarray, "N K2"]:
    """Rows in float64 with zeros up to whole groups."""
    return np.pad(rows.astype(np.float64), ((0, 0), (0, padded(rows.shape[1]) - rows.shape[1])))


def candidate_scales(values: Float64[np.ndarray, "N G"], kind: Kind) -> Float16[np.ndarray, "N S"]:
    """Scales that are worth trying for a group of values; of both signs where −8 has no +8."""
    low, high = LIMITS[kind]
    largest = np.abs(values).max(1, keepdims=True) / (high if kind == "int8" else -low)
    tried = largest * np.array(_SHRINKING[kind])
    both = tried if kind == "int8" else np.hstack((tried, -tried))
    scales: Float16[np.ndarray, "N S"] = np.minimum(both, 60_000).astype(np.float16)
    return scales


def packed_groups(
    kind: Kind, columns: int, values: Int8[np.ndarray, "N K2"], scales: Float16[np.ndarray, "N G"]
) -> Packed:
    """A matrix of integers and scales, packed."""
    codes: NDArray[np.int8] | NDArray[np.uint8] = values if kind == "int8" else pack_nibbles(values)
    return Packed(kind, columns, (codes,), scales)


def nearest(
    matrix: Float[np.ndarray, "N K"],
    kind: Kind,
    weights: Float64[np.ndarray, " K"] | None = None,
) -> Packed:
    """Each weight to its nearest integer; `weights` are the columns' shares in the error."""
    rows = padded_rows(matrix)
    share = np.zeros(rows.shape[1])
    share[: matrix.shape[1]] = 1.0 if weights is None else weights
    values = np.zeros(rows.shape, np.int8)
    scales = np.zeros((len(rows), rows.shape[1] // GROUP), np.float16)
    for group in range(scales.shape[1]):
        span = slice(group * GROUP, (group + 1) * GROUP)
        part = np.ascontiguousarray(rows[:, span])
        values[:, span], scales[:, group] = round_group(
            part, part, candidate_scales(part, kind), _NO_FEEDBACK, share[span], LIMITS[kind]
        )
    return packed_groups(kind, matrix.shape[1], values, scales)


def round_group(
    wanted: Float64[np.ndarray, "N G"],
    targets: Float64[np.ndarray, "N G"],
    scales: Float16[np.ndarray, "N S"],
    factor: Float64[np.ndarray, "F F"],
    weights: Float64[np.ndarray, " G"],
    limits: tuple[int, int],
) -> tuple[Int8[np.ndarray, "N G"], Float16[np.ndarray, " N"]]:
    """Integers of a group and its scale, the best of those given.

    `targets` are the weights with what earlier groups feed into them. Column after column, what
    rounding takes from the weight is fed into those after it by `factor` (empty: it is not).
    """
    values = np.zeros(targets.shape, np.int8)
    chosen = np.zeros(len(targets), np.int64)
    _round_rows(wanted, targets, scales.astype(np.float64), factor, weights, limits, values, chosen)
    return values, scales[np.arange(len(scales)), chosen]


@compiled
def _round_rows(
    wanted: Float64[np.ndarray, "N G"],
    targets: Float64[np.ndarray, "N G"],
    scales: Float64[np.ndarray, "N S"],
    factor: Float64[np.ndarray, "F F"],
    weights: Float64[np.ndarray, " G"],
    limits: tuple[int, int],
    values: Int8[np.ndarray, "N G"],
    chosen: NDArray[np.int64],
) -> None:
    low, high, width = float(limits[0]), float(limits[1]), targets.shape[1]
    now, errors, tried = np.empty(width), np.empty(width), np.empty(width)
    for n in range(targets.shape[0]):
        best = np.inf
        for s in range(scales.shape[1]):
            scale, total = scales[n, s], 0.0
            for j in range(width):
                now[j] = targets[n, j]
            for j in range(width):
                q = np.rint(now[j] / scale) if scale != 0.0 else 0.0
                q = min(max(q, low), high)
                away = now[j] - scale * q
                total += weights[j] * away * away
                errors[j] = wanted[n, j] - scale * q
                tried[j] = q
                for k in range(j + 1, len(factor)):
                    now[k] += errors[j] * factor[j, k]
            if total < best:
                best = total
                chosen[n] = s
                for j in range(width):
                    values[n, j] = int(tried[j])
