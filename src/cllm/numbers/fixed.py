"""Exact fixed-point numbers: mantissa · 2^−scale, in integers alone, on every machine alike.

Every operation gives the multiple of 2^−scale that is nearest to the exact result, and of two
equally near ones the one with the even mantissa, as IEEE 754 rounds. Overflow can't happen:
mantissas grow as they must.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import SupportsIndex

from cllm.errors import InputError
from cllm.numbers.checks import require_memory, whole_number


@dataclass(frozen=True, slots=True)
class Fixed:
    """The number mantissa · 2^−scale; scale ≥ 0 counts binary places after the point.

    Two numbers combine to the larger of their scales; an integer combines with any. Sums and
    differences are exact, products, quotients and roots are rounded once. Numbers compare by
    value. Raises: InputError for a scale below 0 or beyond memory.
    """

    mantissa: int
    scale: int

    def __post_init__(self) -> None:
        whole_number(self.mantissa, "mantissa")
        require_memory(whole_number(self.scale, "scale", 0) // 4, "A number of so many places")

    @property
    def fraction(self) -> Fraction:
        """The value, exactly."""
        return Fraction(self.mantissa, 1 << self.scale)

    def rescaled(self, scale: int) -> Fixed:
        """The nearest number of `scale` places. Exact where that is more than now."""
        if scale >= self.scale:
            return Fixed(self.mantissa << Fixed(0, scale).scale - self.scale, scale)
        return Fixed(nearest_integer(self.mantissa, 1 << self.scale - scale), scale)

    def sqrt(self) -> Fixed:
        """The square root. Raises: InputError for a negative number."""
        if self.mantissa < 0:
            raise InputError("a negative number has no real square root", where="sqrt")
        square = self.mantissa << self.scale
        root = math.isqrt(square)
        # √square is an integer or irrational, so that it never lies halfway between two.
        return Fixed(root + (square - root * root > root), self.scale)

    def __add__(self, other: Fixed | int) -> Fixed:
        first, second, scale = self._aligned(other)
        return Fixed(first + second, scale)

    __radd__ = __add__

    def __sub__(self, other: Fixed | int) -> Fixed:
        return self + -other

    def __rsub__(self, other: int) -> Fixed:
        return -self + other

    def __mul__(self, other: Fixed | int) -> Fixed:
        first, second, scale = self._aligned(other)
        return Fixed(nearest_integer(first * second, 1 << scale), scale)

    __rmul__ = __mul__

    def __truediv__(self, other: Fixed | int) -> Fixed:
        return Fixed._quotient(*self._aligned(other))

    def __rtruediv__(self, other: int) -> Fixed:
        divisor, dividend, scale = self._aligned(other)
        return Fixed._quotient(dividend, divisor, scale)

    def __neg__(self) -> Fixed:
        return Fixed(-self.mantissa, self.scale)

    def __abs__(self) -> Fixed:
        return Fixed(abs(self.mantissa), self.scale)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fixed | int):
            return NotImplemented
        first, second, _ = self._aligned(other)
        return first == second

    def __hash__(self) -> int:
        return hash(self.fraction)

    def __lt__(self, other: Fixed | int) -> bool:
        first, second, _ = self._aligned(other)
        return first < second

    def __le__(self, other: Fixed | int) -> bool:
        return self < other or self == other

    def __gt__(self, other: Fixed | int) -> bool:
        return not self <= other

    def __ge__(self, other: Fixed | int) -> bool:
        return not self < other

    def __float__(self) -> float:
        return float(self.fraction)

    def __bool__(self) -> bool:
        return self.mantissa != 0

    def __str__(self) -> str:
        """All decimal places: as many as there are binary ones, less the zeros at the end."""
        whole, part = divmod(abs(self.mantissa), 1 << self.scale)
        # 2^−s = 5^s · 10^−s.
        places = str(part * 5**self.scale).zfill(self.scale).rstrip("0")
        return ("-" if self.mantissa < 0 else "") + (f"{whole}.{places}" if places else str(whole))

    def _aligned(self, other: Fixed | int) -> tuple[int, int, int]:
        """Both mantissas at the larger scale, and that scale."""
        if isinstance(other, int):
            return self.mantissa, other << self.scale, self.scale
        scale = max(self.scale, other.scale)
        first, second = self.mantissa << scale - self.scale, other.mantissa << scale - other.scale
        return first, second, scale

    @staticmethod
    def _quotient(dividend: int, divisor: int, scale: int) -> Fixed:
        if divisor == 0:
            raise InputError("division by zero", where="Fixed")
        return Fixed(nearest_integer(dividend << scale, divisor), scale)


def to_fixed(value: Fraction | int | str | float, scale: SupportsIndex) -> Fixed:
    """The number of `scale` binary places that is nearest to `value`, ties to even.

    A text is read as a decimal or a quotient ("0.1", "1/3"), a float as the binary number it is.

    Raises: InputError for what is no finite number, or a scale below 0.
    """
    places = Fixed(0, whole_number(scale, "scale", 0)).scale
    try:
        exact = Fraction(value)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise InputError(f"{value!r} is no finite number", where="value") from error
    return Fixed(nearest_integer(exact.numerator << places, exact.denominator), places)


def nearest_integer(dividend: int, divisor: int) -> int:
    """The integer nearest to dividend / divisor, of two the even one; divisor ≠ 0."""
    if divisor < 0:
        dividend, divisor = -dividend, -divisor
    quotient, rest = divmod(dividend, divisor)
    is_up = 2 * rest > divisor or (2 * rest == divisor and quotient % 2 == 1)
    return quotient + is_up
