"""Two spirals over the natural numbers, Ulam's and the golden one, and the primes on them.

Ulam's spiral winds the numbers 1, 2, 3, … around the origin of the square lattice, anticlockwise
from the right. The golden (Vogel) spiral puts the n-th point at the angle 2πn/φ².
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt64

from cllm.errors import InputError
from cllm.numbers.checks import require_memory, whole_number
from cllm.numbers.primes import first_primes, is_prime, primes_up_to

# 1/φ² = (3 − √5)/2, the golden angle as a fraction of a turn, with 128 bits after the point.
_GOLDEN_BITS = (3 * 2**128 - math.isqrt(5 * 2**256)) >> 1
_GOLDEN_HIGH, _GOLDEN_LOW = _GOLDEN_BITS >> 64, _GOLDEN_BITS & (2**64 - 1)
# The last whole ring of Ulam's spiral below 2⁶³, and the coordinates on it.
_FAR = (math.isqrt(2**63) - 2) // 2
_LAST = (2 * _FAR + 1) ** 2


def ulam_point(index: int) -> tuple[int, int]:
    """Coordinates of the number `index` ≥ 1, of any size: 1 at (0, 0), 2 at (1, 0), 3 at (1, 1).

    Raises: InputError.
    """
    number = whole_number(index, "index", 1)
    # Ring k ends with (2k + 1)² at (k, −k).
    ring = (math.isqrt(number - 1) + 1) // 2
    side, back = divmod((2 * ring + 1) ** 2 - number, max(2 * ring, 1))
    corner = ((ring - back, -ring), (-ring, back - ring), (back - ring, ring), (ring, ring - back))
    return corner[side]


def ulam_index(x: int, y: int) -> int:
    """The number at (x, y), of any size: what `ulam_point` undoes."""
    x, y = whole_number(x, "x"), whole_number(y, "y")
    ring = max(abs(x), abs(y))
    last = (2 * ring + 1) ** 2
    if y == -ring:
        return last - (ring - x)
    if x == -ring:
        return last - 2 * ring - (ring + y)
    if y == ring:
        return last - 4 * ring - (ring + x)
    return last - 6 * ring - (ring - y)


def ulam_points(indices: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, "N 2"]:
    """Coordinates of many numbers from 1 to (2·1518500248 + 1)², exactly.

    Raises: InputError for a number outside. `ulam_point` takes any size.
    """
    if len(indices) and (int(indices.min()) < 1 or int(indices.max()) > _LAST):
        raise InputError(f"an index is not between 1 and {_LAST}", where="indices")
    ring = (_square_roots(indices - 1) + 1) // 2
    side, back = np.divmod((2 * ring + 1) ** 2 - indices, np.maximum(2 * ring, 1))
    x = np.select([side == 0, side == 1, side == 2], [ring - back, -ring, back - ring], ring)
    y = np.select([side == 0, side == 1, side == 2], [-ring, back - ring, ring], ring - back)
    return np.stack([x, y], axis=1)


def ulam_indices(points: Int64[np.ndarray, "N 2"]) -> Int64[np.ndarray, " N"]:
    """The numbers at many points with coordinates up to ±1518500248, exactly.

    Raises: InputError for a point outside. `ulam_index` takes any size.
    """
    if points.size and (int(points.min()) < -_FAR or int(points.max()) > _FAR):
        raise InputError(f"a coordinate is beyond ±{_FAR}", where="points")
    x, y = points[:, 0], points[:, 1]
    ring = np.maximum(np.abs(x), np.abs(y))
    last = (2 * ring + 1) ** 2
    back = np.select(
        [y == -ring, x == -ring, y == ring],
        [ring - x, 3 * ring + y, 5 * ring + x],
        7 * ring - y,
    )
    indices: Int64[np.ndarray, " N"] = last - back
    return indices


def golden_turns(multiples: Int64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """The angles n/φ² as fractions of a turn in [−½, ½], for n ≥ 0: large n lose no digit.

    The reduction is done on 128 bits of 1/φ², so the error is that of the last rounding, 2⁻⁵⁴.
    Raises: InputError for a negative n.
    """
    if len(multiples) and int(multiples.min()) < 0:
        raise InputError("a multiple is negative", where="multiples")
    turns = multiples.astype(np.uint64)
    # Modulo one turn, which is 2⁶⁴: unsigned integers wrap around by themselves.
    fixed = turns * np.uint64(_GOLDEN_HIGH) + _high_product(turns, _GOLDEN_LOW)
    turned: Float64[np.ndarray, " N"] = np.ldexp(fixed.view(np.int64).astype(np.float64), -64)
    return turned


def golden_points(count: int) -> Float64[np.ndarray, "N 2"]:
    """Points 1..count of the golden spiral, spread evenly over the unit disc: radius √(n/count).

    Raises: InputError for a negative count or one beyond memory.
    Source: Vogel, 1979, Mathematical Biosciences 44.
    """
    number = whole_number(count, "count", 0)
    require_memory(64 * number, f"a golden spiral of {number:,} points")
    indices = np.arange(1, number + 1, dtype=np.int64)
    angles = 2.0 * np.pi * golden_turns(indices)
    radii = np.sqrt(indices / max(number, 1))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def golden_places(count: int) -> Float64[np.ndarray, "N 3"]:
    """The golden spiral in space: `golden_points`, point n at height log p_n / log p_count.

    p_n is the n-th prime, so heights rise to 1. Raises: InputError for a negative count or one
    beyond memory.
    """
    points = golden_points(count)
    heights = np.log(first_primes(count))
    return np.column_stack([points, heights / heights[-1:]])


def prime_mask(count: int) -> Bool[np.ndarray, " N"]:
    """Which of 1..count are prime: place i stands for i + 1. Raises: InputError."""
    number = whole_number(count, "count", 0)
    require_memory(3 * number, f"the primes among {number:,} points")
    mask = np.zeros(number, np.bool_)
    if number:
        mask[primes_up_to(number) - 1] = True
    return mask


def diagonal_counts(radius: int) -> Int64[np.ndarray, "D 4"]:
    """Primes on the diagonals of Ulam's spiral in the square |x|, |y| ≤ radius.

    One row for each offset −2·radius … 2·radius: the offset, the points of the diagonal with
    y − x = offset, the primes on it, and the primes on the one with y + x = offset.
    Raises: InputError. Cost: (2·radius + 1)² points.
    """
    far = whole_number(radius, "radius", 0)
    width = 2 * far + 1
    require_memory(64 * width * width, f"a spiral of {width * width:,} points")
    points = ulam_points(primes_up_to(width * width))
    offsets = np.arange(-2 * far, 2 * far + 1)
    rising = np.bincount(points[:, 1] - points[:, 0] + 2 * far, minlength=len(offsets))
    falling = np.bincount(points[:, 1] + points[:, 0] + 2 * far, minlength=len(offsets))
    return np.stack([offsets, width - np.abs(offsets), rising, falling], axis=1)


def parastichy_counts(count: int, step: int) -> Int64[np.ndarray, "R 2"]:
    """Points and primes among 1..count on each arm n ≡ r (mod step), r = 0 … step − 1.

    Where `step` is a Fibonacci number the arms are those that the eye sees on the golden spiral.
    By Dirichlet's theorem the arms with r coprime to `step` share the primes evenly in the long
    run; any other holds one at the most. Raises: InputError.
    """
    number, arms = whole_number(count, "count", 0), whole_number(step, "step", 1)
    arm_of = np.arange(1, number + 1, dtype=np.int64) % arms
    points = np.bincount(arm_of, minlength=arms)
    primes = np.bincount(arm_of[prime_mask(number)], minlength=arms)
    return np.stack([points, primes], axis=1)


def quadratic_primes(b: int, c: int, count: int) -> Bool[np.ndarray, " N"]:
    """Which of n² + bn + c, n = 0 … count − 1, are prime: a row of Ulam's spiral, or half of one.

    Euler's b = 1, c = 41 lies on one diagonal of the spiral that begins with 41, and is prime
    for the first forty n. Raises: InputError. Cost: one primality test each.
    """
    number = whole_number(count, "count", 0)
    values = (n * n + b * n + c for n in range(number))
    return np.fromiter((value > 1 and is_prime(value) for value in values), np.bool_, number)


def _square_roots(values: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """⌊√value⌋: the rounded floating-point root is off by one at the most."""
    roots = np.sqrt(values.astype(np.float64)).astype(np.int64)
    roots -= roots * roots > values
    roots += (roots + 1) * (roots + 1) <= values
    return roots


def _high_product(values: UInt64[np.ndarray, " N"], factor: int) -> UInt64[np.ndarray, " N"]:
    """The upper 64 of the 128 bits of value · factor."""
    half, low_bits = np.uint64(32), np.uint64(2**32 - 1)
    a1, a0 = values >> half, values & low_bits
    b1, b0 = np.uint64(factor >> 32), np.uint64(factor & (2**32 - 1))
    middle = a1 * b0 + (a0 * b0 >> half)
    other = a0 * b1 + (middle & low_bits)
    high: UInt64[np.ndarray, " N"] = a1 * b1 + (middle >> half) + (other >> half)
    return high
