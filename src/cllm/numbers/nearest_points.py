"""The nearest points of A2, Dₙ and E8, exactly, for many points at a time.

Source: Conway and Sloane, Fast quantizing and decoding algorithms, IEEE Trans. Inf. Theory 28,
1982. "Exactly" up to the rounding of a distance in double precision; equally near points are
told apart in a fixed way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float64, Shaped

from cllm.errors import InputError
from cllm.numbers.compiled import compiled
from cllm.numbers.point_batches import checked_points, run_in_batches

_SQRT_HALF = 0.5**0.5
_SQRT_THREE_HALVES = 1.5**0.5
Kernel: TypeAlias = Callable[[npt.NDArray[Any], float, npt.NDArray[Any]], bool]
# So many points of E8 side by side, each step a few vector instructions.
_LANES = 16


def nearest_a2(
    points: Shaped[np.ndarray, "*shape"], threads: int | None = None
) -> Float[np.ndarray, "N 2"]:
    """The nearest points of the hexagonal lattice of minimal norm 2 in the plane.

    `points` [N, 2], float32 or float64, and so is the result: (a/√2, b·√(3/2)) with integers
    a + b even. Raises: InputError as `nearest_e8`.
    """
    return _nearest(points, 2, _round_to_a2, threads)


def nearest_d4(
    points: Shaped[np.ndarray, "*shape"], threads: int | None = None
) -> Float[np.ndarray, "N 4"]:
    """The nearest integer points of even sum in four dimensions; see `nearest_d`."""
    return _nearest(points, 4, _round_to_d, threads)


def nearest_d(
    points: Shaped[np.ndarray, "*shape"], threads: int | None = None
) -> Float[np.ndarray, "N n"]:
    """The nearest points of Dₙ, the integer points of even sum, in any dimension n ≥ 2.

    `points` [N, n], float32 or float64, and so is the result. Raises: InputError as `nearest_e8`.
    """
    width = points.shape[-1] if points.ndim else 0
    if width < 2:
        raise InputError("Dₙ needs at least two dimensions", where=f"shape {list(points.shape)}")
    return _nearest(points, width, _round_to_d, threads)


def nearest_e8(
    points: Shaped[np.ndarray, "*shape"], threads: int | None = None
) -> Float[np.ndarray, "N 8"]:
    """The nearest points of E8: integers of even sum, or all halves of odd integers likewise.

    `points` [N, 8], float32 or float64, and so is the result. `threads`: one a core unless
    given. About 20 ns a point and core. Raises: InputError for another shape or type, values
    that are not finite, or so large that their type can't hold halves (2²², or 2⁵⁰ in float64).
    """
    return _nearest(points, 8, _round_to_e8, threads)


def _nearest(
    points: Shaped[np.ndarray, "*shape"], width: int, kernel: Kernel, threads: int | None
) -> Float[np.ndarray, "N n"]:
    values = checked_points(points, width)
    out = np.empty_like(values)
    limit = 2.0**22 if values.dtype == np.float32 else 2.0**50

    def work(first: int, last: int) -> bool:
        return bool(kernel(values[first:last], limit, out[first:last]))

    run_in_batches(work, len(values), threads, limit=limit)
    return out


@compiled
def _round_to_a2(
    points: Float[np.ndarray, "N 2"], limit: float, out: Float[np.ndarray, "N 2"]
) -> bool:
    """The better of two rectangular cosets: a, b both even or both odd."""
    is_sound = True
    for i in range(len(points)):
        x, y = points[i, 0] / _SQRT_HALF, points[i, 1] / _SQRT_THREE_HALVES
        is_sound &= abs(x) < limit and abs(y) < limit
        a, b = 2.0 * np.rint(0.5 * x), 2.0 * np.rint(0.5 * y)
        c, d = 2.0 * np.floor(0.5 * x) + 1.0, 2.0 * np.floor(0.5 * y) + 1.0
        even = (x - a) ** 2 + 3.0 * (y - b) ** 2
        odd = (x - c) ** 2 + 3.0 * (y - d) ** 2
        out[i, 0] = (a if even <= odd else c) * _SQRT_HALF
        out[i, 1] = (b if even <= odd else d) * _SQRT_THREE_HALVES
    return is_sound


@compiled
def _round_to_d(
    points: Float[np.ndarray, "N n"], limit: float, out: Float[np.ndarray, "N n"]
) -> bool:
    """Round; where the sum is odd, the coordinate farthest from its integer goes the other way."""
    is_sound = True
    for i in range(len(points)):
        parity, farthest, place = 0, -1.0, 0
        for k in range(points.shape[1]):
            x = points[i, k]
            is_sound &= abs(x) < limit
            near = np.rint(x)
            out[i, k] = near
            parity ^= int(near)
            if abs(x - near) > farthest:
                farthest, place = abs(x - near), k
        if parity & 1:
            out[i, place] += 1.0 if points[i, place] >= out[i, place] else -1.0
    return is_sound


@compiled
def _survey(
    values: Float64[np.ndarray, "8 lanes"],
    limit: float,
    sums: Float64[np.ndarray, "5 lanes"],
    num_wrong: Float64[np.ndarray, " lanes"],
) -> None:
    """Of each point: Σ nearest integers, Σ floors, and Σ, max, min of the distances away."""
    for lane in range(_LANES):
        sums[0, lane], sums[1, lane], sums[2, lane] = 0.0, 0.0, 0.0
        sums[3, lane], sums[4, lane] = 0.0, 1.0
    for k in range(8):
        for lane in range(_LANES):
            x = values[k, lane]
            near = np.rint(x)
            away = abs(x - near)
            sums[0, lane] += near
            sums[1, lane] += near - (1.0 if x < near else 0.0)
            sums[2, lane] += away
            sums[3, lane] = max(sums[3, lane], away)
            sums[4, lane] = min(sums[4, lane], away)
            # A comparison with a NaN is false.
            num_wrong[lane] += 0.0 if abs(x) < limit else 1.0


@compiled
def _choose_coset(sums: Float64[np.ndarray, "5 lanes"]) -> None:
    """Sums to: the coset's shift, which distance away goes the other way, and whether one does.

    A coordinate `away` from its integer is ½ − away from its half, so over eight coordinates
    the squares differ by 2 − Σ away; going the other way costs 1 − 2·max away, or 2·min away.
    """
    for lane in range(_LANES):
        whole_odd = 2.0 * abs(0.5 * sums[0, lane] - np.rint(0.5 * sums[0, lane]))
        half_odd = 2.0 * abs(0.5 * sums[1, lane] - np.rint(0.5 * sums[1, lane]))
        whole = sums[2, lane] - 2.0 + whole_odd * (1.0 - 2.0 * sums[3, lane])
        half = half_odd * 2.0 * sums[4, lane]
        is_half = half < whole
        sums[0, lane] = 0.5 if is_half else 0.0
        sums[1, lane] = sums[4, lane] if is_half else sums[3, lane]
        sums[2, lane] = half_odd if is_half else whole_odd


@compiled
def _move(values: Float64[np.ndarray, "8 lanes"], sums: Float64[np.ndarray, "5 lanes"]) -> None:
    """Each value to its coset's nearest, but the first at the chosen distance the other way."""
    for k in range(8):
        for lane in range(_LANES):
            x, shift = values[k, lane], sums[0, lane]
            near = np.rint(x)
            side = 1.0 if x >= near else -1.0
            flip = sums[2, lane] if abs(x - near) == sums[1, lane] else 0.0
            sums[2, lane] -= flip
            values[k, lane] = near + side * (shift + flip * (1.0 - 4.0 * shift))


@compiled
def _round_to_e8(
    points: Float[np.ndarray, "N 8"], limit: float, out: Float[np.ndarray, "N 8"]
) -> bool:
    """The better of two cosets of D8, sixteen points side by side."""
    values, sums = np.zeros((8, _LANES)), np.empty((5, _LANES))
    num_wrong = np.zeros(_LANES)
    for first in range(0, len(points), _LANES):
        count = min(_LANES, len(points) - first)
        for lane in range(count):
            for k in range(8):
                values[k, lane] = points[first + lane, k]
        _survey(values, limit, sums, num_wrong)
        _choose_coset(sums)
        _move(values, sums)
        for lane in range(count):
            for k in range(8):
                out[first + lane, k] = values[k, lane]
    return bool(num_wrong.sum() == 0.0)
