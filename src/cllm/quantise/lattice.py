"""Lattice codes: rotated rows, E8 in stages, errors fed into the blocks that follow.

Eight columns are one block. Source: Tseng 2024, QuIP#, arXiv:2402.04396 (E8P, block LDLQ,
stages); here the rotation is of the inputs alone, and each row has its own scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Float64, Int8
from numpy.typing import NDArray

from cllm.model.packed import BLOCK, Packed, padded
from cllm.model.packed_files import nearest_on_grid
from cllm.model.rotation import can_rotate, random_signs, rotate
from cllm.quantise.curvature import feedback_of, rotated_curvature, row_errors
from cllm.quantise.e8_codes import Codes, nearest_codes, values_of

LatticeBits: TypeAlias = Literal[2, 3, 4]
# Each stage's kind and ratio, and the scale that is best for normal numbers of deviation 1
# (mean squared errors 0.0917, 0.0297 and 0.0084: benchmarks/quantisation.py).
STAGES: dict[int, tuple[tuple[tuple[Codes, int], ...], float]] = {
    2: ((("pairs", 1),), 0.242),
    3: ((("pairs", 1), ("direct", 1)), 0.25),
    4: ((("pairs", 4), ("pairs", 1)), 0.07),
}
# Scales that are tried for each row, over that one: what is fed back widens the rows.
_TRIED = (0.9, 1.0, 1.1)
_SWEEPS = 1


@dataclass(frozen=True, slots=True, eq=False)
class _Coding:
    """The codes of rows [N, K'], a column of the list a stage, and the integers they make."""

    codes: tuple[NDArray[Any], ...]
    values: Int8[np.ndarray, "N K2"]


def lattice(
    matrix: Float[np.ndarray, "N K"],
    bits: LatticeBits,
    curvature: Float64[np.ndarray, "K K"],
    seed: int,
) -> Packed:
    """`matrix` in `bits` bits a weight and one scale a row.

    `curvature` is positive definite (`damped`); `seed` draws the rotation's signs. O(N·K²), and
    about 1 µs a block, stage and scale tried.
    """
    columns = matrix.shape[1]
    signs = random_signs(columns, seed) if can_rotate(columns) else None
    rows, metric = matrix.astype(np.float64), curvature
    if signs is not None:
        rows, metric = rotate(rows, signs), rotated_curvature(curvature, signs)
    extra = padded(columns) - columns
    rows, metric = np.pad(rows, ((0, 0), (0, extra))), np.pad(metric, ((0, extra), (0, extra)))
    metric[range(columns, columns + extra), range(columns, columns + extra)] = 1e-3
    stages, start = STAGES[bits]
    deviation = np.sqrt((rows[:, :columns] ** 2).mean(1))
    best, scales = _best_of(rows, metric, stages, [start * share * deviation for share in _TRIED])
    for _ in range(_SWEEPS):
        scales = nearest_on_grid(fitted_scales(rows, best.values, metric, scales))
        best = _swept(rows, metric, stages, scales, best)
    scales = nearest_on_grid(fitted_scales(rows, best.values, metric, scales))
    ratios = tuple(ratio for _, ratio in stages)
    return Packed("e8", columns, best.codes, scales, ratios, signs)


def fitted_scales(
    rows: Float64[np.ndarray, "N K2"],
    values: Int8[np.ndarray, "N K2"],
    metric: Float64[np.ndarray, "K2 K2"],
    otherwise: Float[np.ndarray, " N"],
) -> Float64[np.ndarray, " N"]:
    """The scale with the least error for the integers of each row, where one above 0 is."""
    read = values.astype(np.float64)
    turned = read @ metric
    along, length = (turned * rows).sum(1), (turned * read).sum(1)
    is_sound = (along > 0) & (length > 0)
    found: Float64[np.ndarray, " N"] = np.where(
        is_sound, along / np.where(is_sound, length, 1.0), otherwise
    )
    return found


def _best_of(
    rows: Float64[np.ndarray, "N K2"],
    metric: Float64[np.ndarray, "K2 K2"],
    stages: tuple[tuple[Codes, int], ...],
    tried: list[Float64[np.ndarray, " N"]],
) -> tuple[_Coding, Float64[np.ndarray, " N"]]:
    """Of the scales that are tried, each row's best, and its codes."""
    found = feedback_of(metric, BLOCK)
    least = np.full(len(rows), np.inf)
    best: _Coding | None = None
    chosen = np.zeros(len(rows))
    for wanted in tried:
        scales = nearest_on_grid(wanted).astype(np.float64)
        coding = _fed_forward(rows, found.factor, stages, scales)
        errors = row_errors(rows - scales[:, None] * coding.values, metric)
        is_better = errors < least
        least[is_better], chosen[is_better] = errors[is_better], scales[is_better]
        best = coding if best is None else _mixed(best, coding, is_better)
    assert best is not None
    return best, chosen


def _mixed(first: _Coding, second: _Coding, takes_second: NDArray[np.bool_]) -> _Coding:
    which = takes_second[:, None]
    pairs = zip(first.codes, second.codes, strict=True)
    codes = tuple(np.where(which, new, old) for old, new in pairs)
    return _Coding(codes, np.where(which, second.values, first.values))


def _fed_forward(
    rows: Float64[np.ndarray, "N K2"],
    factor: Float64[np.ndarray, "K2 K2"],
    stages: tuple[tuple[Codes, int], ...],
    scales: Float64[np.ndarray, " N"],
) -> _Coding:
    coding = _empty(rows, stages)
    errors = np.zeros(rows.shape)
    inverse = _inverse(scales)[:, None]
    for start in range(0, rows.shape[1], BLOCK):
        span = slice(start, start + BLOCK)
        targets = rows[:, span] + errors[:, :start] @ factor[:start, span]
        codes, values = _coded(targets * inverse, stages)
        coding.values[:, span] = values
        for stage, found in zip(coding.codes, codes, strict=True):
            stage[:, start // BLOCK] = found
        errors[:, span] = rows[:, span] - scales[:, None] * values
    return coding


def _swept(
    rows: Float64[np.ndarray, "N K2"],
    metric: Float64[np.ndarray, "K2 K2"],
    stages: tuple[tuple[Codes, int], ...],
    scales: Float[np.ndarray, " N"],
    coding: _Coding,
) -> _Coding:
    """Each block once more, now that those after it are known too; never for the worse."""
    inverse, wide = _inverse(scales)[:, None], scales.astype(np.float64)[:, None]
    errors = rows - wide * coding.values
    for start in range(0, rows.shape[1], BLOCK):
        span = slice(start, start + BLOCK)
        own = metric[span, span]
        # The block's value at which the error is least, whatever the codes allow.
        targets = rows[:, span] + (errors @ metric[:, span]) @ np.linalg.inv(own) - errors[:, span]
        codes, values = _coded(targets * inverse, stages)
        old = row_errors(targets - wide * coding.values[:, span], own)
        is_better = row_errors(targets - wide * values, own) < old
        coding.values[is_better, span] = values[is_better]
        for stage, found in zip(coding.codes, codes, strict=True):
            stage[is_better, start // BLOCK] = found[is_better]
        errors[:, span] = rows[:, span] - wide * coding.values[:, span]
    return coding


def _coded(
    blocks: Float64[np.ndarray, "N 8"], stages: tuple[tuple[Codes, int], ...]
) -> tuple[list[NDArray[Any]], Int8[np.ndarray, "N 8"]]:
    """The codes of each stage, each of what the stages before leave over, and their sum."""
    codes, total = [], np.zeros(blocks.shape, np.int8)
    for kind, ratio in stages:
        found = nearest_codes(((blocks - total) / ratio).astype(np.float32), kind)
        codes.append(found)
        total += np.int8(ratio) * values_of(found)
    return codes, total


def _empty(rows: Float64[np.ndarray, "N K2"], stages: tuple[tuple[Codes, int], ...]) -> _Coding:
    shape = (len(rows), rows.shape[1] // BLOCK)
    types = [np.uint16 if kind == "pairs" else np.uint8 for kind, _ in stages]
    return _Coding(tuple(np.zeros(shape, kind) for kind in types), np.zeros(rows.shape, np.int8))


def _inverse(scales: Float[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    wide = scales.astype(np.float64)
    found: Float64[np.ndarray, " N"] = np.divide(1.0, wide, out=np.zeros_like(wide), where=wide > 0)
    return found
