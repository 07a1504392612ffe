"""The tablet Plimpton 322, made again from its generators, and Pythagorean triples in general.

The tablet (Larsa, about 1800 BC) lists fifteen right triangles by falling slope. Each comes from
two regular numbers p > q, coprime and with no prime factor above 5: short side p² − q², long
side 2pq, diagonal p² + q². All such pairs with q < 60 and p/q < 1 + √2 are 38 triangles; the
tablet has the first fifteen of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Int64

from cllm.errors import InputError
from cllm.numbers.checks import require_memory, whole_number

Triple = tuple[int, int, int]
Column = Literal["ratio", "short", "diagonal"]

NUM_ROWS = 15
# Row 11, of (3, 4, 5), stands on the tablet as (45, 60, 75).
_SCALES = {11: 15}


@dataclass(frozen=True, slots=True)
class ScribalError:
    """A number on the tablet that is not what its row needs: sexagesimal digits, as written."""

    column: Column
    written: str
    correct: str
    remark: str


# Source: Neugebauer & Sachs, 1945, Mathematical Cuneiform Texts; Robson, 2001, Historia
# Mathematica 28. The first two are digits written without the gap between them.
ERRORS: dict[int, tuple[ScribalError, ...]] = {
    2: (
        ScribalError("ratio", "1;56,56,58,14,56,15", "1;56,56,58,14,50,6,15", "56 for 50,6"),
        ScribalError("diagonal", "3,12,1", "1,20,25", "11521 for 4825; no simple slip explains it"),
    ),
    8: (ScribalError("ratio", "1;41,33,59,3,45", "1;41,33,45,14,3,45", "59 for 45,14, their sum"),),
    9: (ScribalError("short", "9,1", "8,1", "a 9 for an 8"),),
    13: (ScribalError("short", "7,12,1", "2,41", "the square of the number"),),
    15: (ScribalError("diagonal", "53", "1,46", "half of it; or 53 is right and 56 twice 28"),),
}


@dataclass(frozen=True, slots=True)
class TabletRow:
    """One row of the tablet, corrected: the triangle of p and q, `scale` times enlarged."""

    number: int
    p: int
    q: int
    scale: int
    errors: tuple[ScribalError, ...]

    @property
    def short(self) -> int:
        """The short side, second column of the tablet."""
        return self.scale * (self.p**2 - self.q**2)

    @property
    def long(self) -> int:
        """The long side, which the tablet does not show: a regular number."""
        return self.scale * 2 * self.p * self.q

    @property
    def diagonal(self) -> int:
        """The diagonal, third column of the tablet."""
        return self.scale * (self.p**2 + self.q**2)

    @property
    def ratio(self) -> Fraction:
        """(diagonal / long side)², first column of the tablet: a finite sexagesimal fraction."""
        return Fraction(self.diagonal, self.long) ** 2

    @property
    def direction(self) -> tuple[Fraction, Fraction]:
        """((p²−q²)/(p²+q²), 2pq/(p²+q²)): a rational point of the unit circle."""
        return Fraction(self.short, self.diagonal), Fraction(self.long, self.diagonal)


def tablet_rows() -> tuple[TabletRow, ...]:
    """The fifteen rows, corrected, each with the errors that the tablet has in it.

    Source: the rule for p and q, de Solla Price, 1964, Centaurus 10.
    """
    pairs = regular_generators(60)[:NUM_ROWS]
    return tuple(
        TabletRow(number, p, q, _SCALES.get(number, 1), ERRORS.get(number, ()))
        for number, (p, q) in enumerate(pairs, 1)
    )


def regular_generators(limit: int) -> list[tuple[int, int]]:
    """All coprime regular pairs (p, q) with q < limit and 1 < p/q < 1 + √2, steepest first.

    Below 1 + √2 the side p² − q² is the short one. Raises: InputError for a limit below 1.
    """
    bound = whole_number(limit, "limit", 1)
    regular = [number for number in range(1, 3 * bound) if is_regular(number)]
    pairs = [
        (p, q)
        for q in regular
        if q < bound
        for p in regular
        if q < p and p * p - 2 * p * q - q * q < 0 and math.gcd(p, q) == 1
    ]
    return sorted(pairs, key=lambda pair: Fraction(*pair), reverse=True)


def is_regular(number: int) -> bool:
    """Whether 1/number is a finite sexagesimal fraction: no prime factor above 5."""
    rest = whole_number(number, "number", 1)
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def to_sexagesimal(value: Fraction | int) -> str:
    """`1;59,0,15` for 1 + 59/60 + 15/60³: digits in base 60, `;` before the fraction.

    Raises: InputError for a negative value or one without a finite expansion.
    """
    fraction = Fraction(value)
    if fraction < 0:
        raise InputError(f"{fraction} is negative", hint="Base 60 is written without a sign here.")
    if not is_regular(fraction.denominator):
        hint = "The denominator may have no prime factor above 5."
        raise InputError(f"{fraction} never ends in base 60", hint=hint)
    whole, rest = divmod(fraction, 1)
    digits = [int(whole) % 60]
    while (whole := whole // 60) > 0:
        digits.append(int(whole) % 60)
    places = []
    while rest:
        place, rest = divmod(rest * 60, 1)
        places.append(int(place))
    text = ",".join(map(str, reversed(digits)))
    return f"{text};{','.join(map(str, places))}" if places else text


def from_sexagesimal(text: str) -> Fraction:
    """The number that `to_sexagesimal` writes so. Raises: InputError."""
    whole, _, places = text.partition(";")
    try:
        digits = [int(digit) for digit in whole.split(",")]
        fraction = [int(digit) for digit in places.split(",")] if places else []
    except ValueError as error:
        raise InputError(f"{text!r} is no number in base 60", hint="Such as 1;59,0,15.") from error
    if not all(0 <= digit < 60 for digit in digits + fraction):
        raise InputError(f"{text!r} has a digit that is not between 0 and 59")
    value = Fraction(0)
    for digit in digits:
        value = value * 60 + digit
    return value + sum(Fraction(digit, 60**place) for place, digit in enumerate(fraction, 1))


def primitive_triples(limit: int) -> Int64[np.ndarray, "N 3"]:
    """All triples a² + b² = c² without common factor and c ≤ limit: (a odd, b even, c).

    In order of c, then of a. Raises: InputError below 0 or beyond memory.
    Cost: time and memory in proportion to the limit, about limit/6.28 rows.
    Source: Euclid, Elements X.29: a = p² − q², b = 2pq, c = p² + q².
    """
    bound = whole_number(limit, "limit", 0)
    require_memory(20 * bound, f"a table of the triples up to {bound:,}")
    most = math.isqrt(bound)
    parts = [np.empty((0, 3), np.int64)]
    for q in range(1, most + 1):
        top = math.isqrt(bound - q * q)
        p = np.arange(q + 1, top + 1, 2, dtype=np.int64)
        if len(p) == 0:
            break
        p = p[np.gcd(p, q) == 1]
        parts.append(np.stack([p * p - q * q, 2 * p * q, p * p + q * q], axis=1))
    triples = np.concatenate(parts)
    return triples[np.lexsort((triples[:, 0], triples[:, 2]))]


def triple_tree(depth: int) -> Iterator[Triple]:
    """The primitive triples of the ternary tree, level by level from (3, 4, 5), depth levels.

    Every primitive triple with odd a stands in the tree exactly once. Cost: 3^depth triples.
    Raises: InputError for a depth below 0. Source: Berggren, 1934; Barning, 1963.
    """
    level = [(3, 4, 5)]
    for _ in range(whole_number(depth, "depth", 0)):
        yield from level
        level = [child for triple in level for child in _children(triple)]


def _children(triple: Triple) -> tuple[Triple, Triple, Triple]:
    a, b, c = triple
    return (
        (a - 2 * b + 2 * c, 2 * a - b + 2 * c, 2 * a - 2 * b + 3 * c),
        (a + 2 * b + 2 * c, 2 * a + b + 2 * c, 2 * a + 2 * b + 3 * c),
        (-a + 2 * b + 2 * c, -2 * a + b + 2 * c, -2 * a + 2 * b + 3 * c),
    )
