"""Rotations by exactly rational sines and cosines, from Pythagorean triples.

cos = (m² − 1)/(m² + 1) and sin = 2m/(m² + 1) turn by exactly 2·atan(1/m). Products of such
rotations are rational too, so orthogonality can be tested without a tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import arb, fmpq, fmpq_mat
from jaxtyping import Float64, Int64

from cllm.errors import InputError
from cllm.numbers.checks import whole_number
from cllm.numbers.precision import working_precision

# One turn of the plane (i, j) by a rotation: i goes towards j.
Turn = tuple[int, int, "Rotation"]
# The search takes √(2·denominator) steps in Python: a second here.
_MOST_DENOMINATOR = 10**10


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation of the plane with rational cosine and sine. Raises: InputError if it is none."""

    cos: Fraction
    sin: Fraction

    def __post_init__(self) -> None:
        if self.cos**2 + self.sin**2 != 1:
            hint = "Their squares must sum to 1, as 3/5 and 4/5 do."
            raise InputError(f"{self.cos} and {self.sin} are no cosine and sine", hint=hint)

    @property
    def denominator(self) -> int:
        """The diagonal of its triple: cosine and sine in lowest terms have the same one."""
        return self.cos.denominator

    @property
    def angle(self) -> float:
        """Radians in (−π, π]."""
        return math.atan2(self.sin, self.cos)

    @property
    def inverse(self) -> Rotation:
        """The rotation back."""
        return Rotation(self.cos, -self.sin)

    def then(self, other: Rotation) -> Rotation:
        """Both, one after the other: the angles add."""
        return Rotation(
            self.cos * other.cos - self.sin * other.sin,
            self.sin * other.cos + self.cos * other.sin,
        )


def rotation_of_triple(a: int, b: int, c: int) -> Rotation:
    """The rotation with cosine a/c and sine b/c. Raises: InputError unless a² + b² = c² ≠ 0."""
    if c == 0 or a * a + b * b != c * c:
        raise InputError(f"({a}, {b}, {c}) is no Pythagorean triple", hint="Such as (3, 4, 5).")
    return Rotation(Fraction(a, c), Fraction(b, c))


def rotation_of_integer(m: int) -> Rotation:
    """The rotation by 2·atan(1/m), of the triple (m² − 1, 2m, m² + 1). Raises: InputError."""
    number = whole_number(m, "m", 1)
    return rotation_of_triple(number**2 - 1, 2 * number, number**2 + 1)


def nearest_rotation(angle: float | Fraction, max_denominator: int) -> Rotation:
    """The rational rotation nearest to `angle` (radians) of all with so small a denominator.

    Exact: the angle is taken as the rational number that it is, and neighbours are compared in
    balls. Raises: InputError for an angle that is not finite or beyond 10⁶, or a denominator
    beyond 10¹⁰. Cost: √(2·max_denominator) steps.
    """
    bound = whole_number(max_denominator, "max_denominator", 1, _MOST_DENOMINATOR)
    if not -1e6 <= angle <= 1e6:
        raise InputError(f"{angle} is no angle that can be reduced", hint="From −10⁶ to 10⁶.")
    exact = Fraction(angle)
    # Two rotations differ by 1/bound² at the least; so many bits tell them from the angle.
    bits = 128 + 4 * bound.bit_length() + exact.denominator.bit_length()
    with working_precision(bits):
        target = arb(fmpq(exact.numerator, exact.denominator))
        quarters = int((target * 2 / arb.pi()).floor().unique_fmpz())
        rest = target - quarters * arb.pi() / 2
        shift = bits - 32
        # The last bit may be wrong: a neighbour so near is the nearest from either side.
        tangent = int(((rest / 2).tan() * arb(2) ** shift).mid().floor().unique_fmpz())
        (p, q), (r, s) = _neighbours(tangent, shift, bound)
        below, above = (arb(fmpq(*pair)).atan() * 2 for pair in ((p, q), (r, s)))
        numerator, denominator = (p, q) if bool(rest - below <= above - rest) else (r, s)
    found = rotation_of_triple(
        denominator**2 - numerator**2, 2 * numerator * denominator, numerator**2 + denominator**2
    )
    for _ in range(quarters % 4):
        found = found.then(Rotation(Fraction(0), Fraction(1)))
    return found


def givens(size: int, first: int, second: int, rotation: Rotation) -> fmpq_mat:
    """The size × size matrix that turns the plane of two axes and keeps the others.

    Raises: InputError for axes that are equal or not below `size`.
    """
    if not (0 <= first < size and 0 <= second < size) or first == second:
        raise InputError(f"({first}, {second}) is no plane of {size} dimensions")
    matrix = _identity(size)
    cos, sin = (fmpq(part.numerator, part.denominator) for part in (rotation.cos, rotation.sin))
    matrix[first, first] = matrix[second, second] = cos
    matrix[second, first], matrix[first, second] = sin, -sin
    return matrix


def compose(size: int, turns: Iterable[Turn]) -> fmpq_mat:
    """The product of Givens rotations, the first turn applied first: an exact orthogonal matrix.

    Raises: InputError. Cost: numbers grow by the bits of each denominator.
    """
    matrix = _identity(size)
    for first, second, rotation in turns:
        matrix = givens(size, first, second, rotation) * matrix
    return matrix


def is_orthogonal(matrix: fmpq_mat) -> bool:
    """Whether M·Mᵀ is the identity: exactly, without a tolerance."""
    if matrix.nrows() != matrix.ncols():
        return False
    product = matrix * matrix.transpose()
    size = range(matrix.nrows())
    return all(product[i, j] == int(i == j) for i in size for j in size)


def to_floats(matrix: fmpq_mat) -> Float64[np.ndarray, "N N"]:
    """The entries rounded to the nearest float64."""
    values = [int(entry.p) / int(entry.q) for entry in matrix.entries()]
    return np.array(values, np.float64).reshape(matrix.nrows(), matrix.ncols())


def plimpton_integers(head_width: int, base: float) -> Int64[np.ndarray, " P"]:
    """m_j = max(1, round(2/ω_j)) for RoPE's ladder ω_j = base^(−2j/head_width), half of its pairs.

    2·atan(1/m_j) is near ω_j; the fastest pair has m = 2. Halves round up.
    Raises: InputError for an odd width, or a base below 1 or beyond 10¹⁵.
    """
    width = whole_number(head_width, "head_width", 2)
    if width % 2:
        raise InputError(f"a head width of {width} has no pairs", where="head_width")
    if not 1.0 <= base <= 1e15:
        raise InputError(f"{base} is no base for frequencies", where="base", hint="Such as 10000.")
    with working_precision(192):
        powers = [arb(base) ** (arb(2 * j) / width) for j in range(width // 2)]
        # 2·x + ½ is whole only where x is rational, and then the ball's middle is exact enough.
        rounded = [int((power * 2 + 0.5).mid().floor().unique_fmpz()) for power in powers]
    return np.array([max(1, number) for number in rounded], np.int64)


def step_angles(integers: Int64[np.ndarray, " P"]) -> Float64[np.ndarray, " P"]:
    """2·atan(1/m) for each m, in radians, the exact angle rounded to float64.

    Raises: InputError for an m below 1.
    """
    numbers = [whole_number(number, "integers", 1) for number in integers.tolist()]
    with working_precision(128):
        return np.array([float((arb(fmpq(1, m)).atan() * 2).mid()) for m in numbers], np.float64)


def plimpton_frequencies(head_width: int, base: float) -> Float64[np.ndarray, " P"]:
    """Step angles in radians of RoPE with exactly rational rotations, one for each pair.

    Position t turns pair j by t times its angle. Raises: InputError.
    Source: this project, after the triples (m² − 1, 2m, m² + 1).
    """
    return step_angles(plimpton_integers(head_width, base))


def _identity(size: int) -> fmpq_mat:
    matrix = fmpq_mat(size, size)
    for axis in range(size):
        matrix[axis, axis] = 1
    return matrix


def _neighbours(tangent: int, shift: int, bound: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The nearest p/q at or below, and above, tangent·2^−shift in [0, 1]: half-angle tangents.

    The denominator of the rotation is p² + q², or half of it where both are odd.
    """
    below, above = (0, 1), (1, 1)
    for q in range(1, math.isqrt(2 * bound) + 1):
        middle = (q * tangent) >> shift
        # The largest p that the bound allows for this q may lie below the tangent.
        outer = [math.isqrt(most * bound - q * q) for most in (1, 2) if most * bound >= q * q]
        for p in {middle - 1, middle, middle + 1, middle + 2, *outer, *(p - 1 for p in outer)}:
            if 0 <= p <= q and _denominator(p, q) <= bound:
                is_below = p << shift <= q * tangent
                if is_below and p * below[1] > below[0] * q:
                    below = (p, q)
                elif not is_below and p * above[1] < above[0] * q:
                    above = (p, q)
    return below, above


def _denominator(p: int, q: int) -> int:
    common = math.gcd(p, q)
    p, q = p // common, q // common
    return (p * p + q * q) // (2 if p % 2 and q % 2 else 1)
