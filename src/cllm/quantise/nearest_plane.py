"""GPTQ: column after column, what rounding one loses is made up for by those after it.

That is Babai's nearest plane in the lattice of the scaled columns of a square root of H.
Source: Frantar 2022, arXiv:2210.17323; the equality: Chen 2025, arXiv:2507.18553.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from cllm.model.packed import GROUP, Kind, Packed
from cllm.quantise.curvature import feedback_of
from cllm.quantise.groups import (
    LIMITS,
    candidate_scales,
    packed_groups,
    padded_rows,
    round_group,
)


def gptq(
    matrix: Float[np.ndarray, "N K"], kind: Kind, curvature: Float64[np.ndarray, "K K"]
) -> Packed:
    """`matrix` rounded with the errors of earlier columns fed into later ones.

    `curvature` is positive definite (`damped`). The scale of a group is chosen when the group's
    turn comes, by the error that counts. O(N·K²).
    """
    rows = padded_rows(matrix)
    columns, width = matrix.shape[1], rows.shape[1]
    factor, weights = np.eye(width), np.zeros(width)
    found = feedback_of(curvature)
    factor[:columns, :columns], weights[:columns] = found.factor, found.weights[:, 0, 0]
    values = np.zeros(rows.shape, np.int8)
    scales = np.zeros((len(rows), width // GROUP), np.float16)
    errors = np.zeros(rows.shape)
    for group in range(width // GROUP):
        start, end = group * GROUP, (group + 1) * GROUP
        targets = rows[:, start:end] + errors[:, :start] @ factor[:start, start:end]
        values[:, start:end], scales[:, group] = round_group(
            np.ascontiguousarray(rows[:, start:end]),
            targets,
            candidate_scales(targets, kind),
            np.ascontiguousarray(factor[start:end, start:end]),
            weights[start:end],
            LIMITS[kind],
        )
        rounded = values[:, start:end] * scales[:, group, None].astype(np.float64)
        errors[:, start:end] = rows[:, start:end] - rounded
    return packed_groups(kind, columns, values, scales)


def polish(
    matrix: Float[np.ndarray, "N K"],
    packed: Packed,
    curvature: Float64[np.ndarray, "K K"],
    sweeps: int = 2,
) -> Packed:
    """The same matrix with each integer and each scale chosen anew, all others known.

    A plane once fallen to is not left again; this leaves it where that lowers the error. The
    error never rises but for the rounding of scales. O(N·K²) a sweep.
    """
    rows, columns = padded_rows(matrix), matrix.shape[1]
    metric = np.zeros((rows.shape[1], rows.shape[1]))
    metric[:columns, :columns] = curvature
    values = packed.integers().astype(np.float64)
    scales = packed.scales.astype(np.float64)
    low, high = LIMITS[packed.kind]
    for _ in range(sweeps):
        errors = rows - values * np.repeat(scales, GROUP, 1)
        for group in range(scales.shape[1]):
            span = slice(group * GROUP, (group + 1) * GROUP)
            slope = errors @ metric[:, span]
            own, step = metric[span, span], scales[:, group]
            for j in range(min(GROUP, columns - span.start)):
                column = span.start + j
                is_sound = step != 0
                moved = slope[:, j] / np.where(is_sound, step * own[j, j], 1.0)
                new = np.clip(np.rint(values[:, column] + moved * is_sound), low, high)
                change = (new - values[:, column]) * step
                values[:, column] = new
                slope -= change[:, None] * own[j]
            part = values[:, span]
            length = ((part @ own) * part).sum(1)
            better = step + (slope * part).sum(1) / np.where(length > 0, length, 1.0) * (length > 0)
            scales[:, group] = better.astype(np.float16)
            errors[:, span] = rows[:, span] - part * scales[:, group, None]
    return packed_groups(packed.kind, columns, values.astype(np.int8), scales.astype(np.float16))
