"""Real numbers with proven bounds, to as many digits as are asked for.

A `Real` knows how to enclose itself in a ball (centre and radius, in FLINT's `arb`) at any
working precision. Where a ball is too wide to decide what was asked, the precision grows until
one does (Ziv's strategy, 1991), so that every digit shown is right.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, SupportsIndex

from flint import arb, fmpq, fmpz

from cllm.errors import InputError
from cllm.numbers.checks import require_memory, short_text, whole_number
from cllm.numbers.decimals import BITS_PER_DIGIT, decimal_text, rounded_ball, rounded_quotient
from cllm.numbers.precision import working_precision

# Measured with the text: 10 bytes a digit for constants, 23 for a sine. The rest is room to spare.
_BYTES_PER_DIGIT = 64
# Beyond so many extra bits, two numbers that still look equal are taken for equal.
_EXTRA_BITS = 1 << 17
_MOST_EXPONENT = 1 << 30
_DECIMAL = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,12}))?", re.ASCII)
_QUOTIENT = re.compile(r"([+-]?\d+)/(\d+)", re.ASCII)


class Real:
    """A real number that can be had to any precision; `digits` are shown unless asked otherwise.

    `enclose(bits)` gives a ball that holds the number, narrower the more bits FLINT works with;
    `exact` is its value where it is rational and known. Sums, differences, products, quotients
    and whole powers are reals again; what they are made of is evaluated anew for each precision.
    Comparing raises InputError where two numbers that are not known exactly look equal to some
    100,000 bits.

    Raises: InputError for digits below 1 or beyond memory.
    """

    __slots__ = ("_ball", "_bits", "_enclose", "digits", "exact")
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, enclose: Callable[[int], arb], digits: SupportsIndex = 50, exact: fmpq | None = None
    ) -> None:
        self.digits = checked_digits(digits)
        self.exact = exact
        self._enclose = enclose
        self._ball: arb | None = None
        self._bits = 0

    def enclosure(self, bits: int) -> arb:
        """A ball that holds the number, from a working precision of `bits` at least."""
        with working_precision(bits):
            if self._ball is None or self._bits < bits:
                self._ball = arb(self._enclose(bits))
                self._bits = bits
            return self._ball

    def ball(self, digits: SupportsIndex | None = None) -> arb:
        """A ball that holds the number, of radius below 10^−digits of it.

        A number that can't be told from 0 with 4 · digits gets one around 0, of radius below
        10^(−4 · digits). Raises: InputError where no finite ball was found.
        """
        count = self.digits if digits is None else checked_digits(digits)
        goal = int(count * BITS_PER_DIGIT) + 2
        for bits in _precisions(goal):
            ball = self.enclosure(bits)
            is_nothing = ball.contains(0) and ball.abs_upper() < arb(2) ** (-4 * goal)
            if ball.rel_accuracy_bits() >= goal or (ball.is_finite() and is_nothing):
                return ball
        raise _undecided("no narrow enough bounds were found")

    @property
    def lower(self) -> Fraction:
        """An exact number that is no greater, within 10^−digits of the value."""
        ball = self.ball()
        return _fraction(ball.mid()) - _fraction(ball.rad())

    @property
    def upper(self) -> Fraction:
        """An exact number that is no less, within 10^−digits of the value."""
        ball = self.ball()
        return _fraction(ball.mid()) + _fraction(ball.rad())

    @property
    def radius(self) -> Fraction:
        """Half the distance between the bounds, exactly."""
        return _fraction(self.ball().rad())

    def digits_text(self, digits: SupportsIndex | None = None) -> str:
        """The decimal number of so many significant digits that is nearest, ties to even.

        In full where its point lies among the digits or up to 5 zeros before them, else with
        an exponent: 3.14, 0.00314, 3.14e+9. The number 0 is "0".

        Raises: InputError where the number can't be told from 0 or from a tie.
        """
        count = self.digits if digits is None else checked_digits(digits)
        if self.exact is not None:
            return "0" if self.exact == 0 else decimal_text(*rounded_quotient(self.exact, count))
        for bits in _precisions(int(count * BITS_PER_DIGIT) + 2):
            ball = self.enclosure(bits)
            with working_precision(bits):
                found = rounded_ball(ball, count)
            if found is not None:
                return decimal_text(*found)
        raise _undecided(f"{count} digits can't be decided")

    def sign(self) -> int:
        """−1, 0 or 1. Raises: InputError where the number can't be told from 0."""
        if self.exact is not None:
            return int(self.exact > 0) - int(self.exact < 0)
        for bits in _precisions(32):
            ball = self.enclosure(bits)
            if ball > 0 or ball < 0:
                return 1 if ball > 0 else -1
        raise _undecided("the number can't be told from 0")

    def __add__(self, other: Real | Fraction | int) -> Real:
        return self._joined(as_real(other, self.digits), operator.add)

    __radd__ = __add__

    def __neg__(self) -> Real:
        exact = None if self.exact is None else -self.exact
        return Real(lambda bits: -self.enclosure(bits), self.digits, exact)

    def __sub__(self, other: Real | Fraction | int) -> Real:
        return self + -as_real(other, self.digits)

    def __rsub__(self, other: Fraction | int) -> Real:
        return -self + other

    def __mul__(self, other: Real | Fraction | int) -> Real:
        return self._joined(as_real(other, self.digits), operator.mul)

    __rmul__ = __mul__

    def __truediv__(self, other: Real | Fraction | int) -> Real:
        second = as_real(other, self.digits)
        if second.sign() == 0:
            raise InputError("division by zero", where="Real")
        return self._joined(second, operator.truediv)

    def __rtruediv__(self, other: Fraction | int) -> Real:
        return as_real(other, self.digits) / self

    def __abs__(self) -> Real:
        exact = None if self.exact is None else abs(self.exact)
        return Real(lambda bits: abs(self.enclosure(bits)), self.digits, exact)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Real | Fraction | int):
            return NotImplemented
        return (self - other).sign() == 0

    def __lt__(self, other: Real | Fraction | int) -> bool:
        return (self - other).sign() < 0

    def __le__(self, other: Real | Fraction | int) -> bool:
        return (self - other).sign() <= 0

    def __gt__(self, other: Real | Fraction | int) -> bool:
        return (self - other).sign() > 0

    def __ge__(self, other: Real | Fraction | int) -> bool:
        return (self - other).sign() >= 0

    def __float__(self) -> float:
        """The nearest double."""
        for bits in _precisions(64):
            ball = self.enclosure(bits)
            with working_precision(bits):
                low, high = float(ball.lower()), float(ball.upper())
            if low == high:
                return low
        raise _undecided("the nearest double can't be decided")

    def __str__(self) -> str:
        return self.digits_text()

    def __repr__(self) -> str:
        return f"Real({self.digits_text(min(self.digits, 20))})"

    def _joined(self, other: Real, combine: Callable[[Any, Any], Any]) -> Real:
        digits = max(self.digits, other.digits)
        if self.exact is not None and other.exact is not None:
            return rational_real(combine(self.exact, other.exact), digits)
        return Real(lambda bits: combine(self.enclosure(bits), other.enclosure(bits)), digits, None)


def as_real(value: Real | Fraction | int | str, digits: SupportsIndex = 50) -> Real:
    """`value` as a real; a text is a decimal or a quotient: "0.1", "-2.5e-3", "1/3".

    Raises: InputError for any other text, and for a float, which is not the decimal it shows.
    """
    if isinstance(value, Real):
        return value
    if isinstance(value, str):
        return rational_real(_read(value), digits)
    if isinstance(value, Fraction):
        return rational_real(fmpq(value.numerator, value.denominator), digits)
    if isinstance(value, float):
        raise InputError(
            f"{value!r} is a float, a binary number near the decimal it shows",
            hint=f'Write "{value!r}" for the decimal, Fraction({value!r}) for the binary number.',
        )
    return rational_real(fmpq(whole_number(value, "value")), digits)


def rational_real(exact: fmpq, digits: SupportsIndex = 50) -> Real:
    """The real of a rational number that is known exactly."""
    return Real(lambda _bits: arb(exact), digits, exact)


def checked_digits(digits: SupportsIndex) -> int:
    """A number of decimal digits. Raises: InputError below 1, or where memory is too small."""
    count = whole_number(digits, "digits", 1)
    require_memory(_BYTES_PER_DIGIT * count, f"A number of {short_text(count)} digits")
    return count


def _read(text: str) -> fmpq:
    quotient = _QUOTIENT.fullmatch(text.strip())
    if quotient is not None and fmpz(quotient[2]) != 0:
        return fmpq(fmpz(quotient[1]), fmpz(quotient[2]))
    decimal = _DECIMAL.fullmatch(text.strip())
    if decimal is None or not (decimal[2] or decimal[3]):
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        hint = 'Write a decimal or a quotient of integers: "0.1", "-2.5e-3", "1/3".'
        raise InputError(f"{shown!r} is no number", where="value", hint=hint)
    places = decimal[3] or ""
    exponent = int(decimal[4] or 0) - len(places)
    require_memory(abs(exponent), f"The power of ten in {text[:40]!r}")
    mantissa = fmpz(f"{decimal[1]}{decimal[2]}{places}".removeprefix("+"))
    power = fmpz(10) ** abs(exponent)
    return fmpq(mantissa * power) if exponent >= 0 else fmpq(mantissa, power)


def _precisions(goal: int) -> Iterator[int]:
    """Working precisions for a result of `goal` bits, ever larger."""
    extra = 32
    while extra <= max(_EXTRA_BITS, 4 * goal):
        yield goal + extra
        extra *= 4


def _fraction(exact: arb) -> Fraction:
    mantissa, exponent = (int(part) for part in exact.man_exp())
    if abs(exponent) > _MOST_EXPONENT:
        raise InputError(
            "the bounds are too large or too small to be written as fractions",
            hint="digits_text shows the number with an exponent.",
        )
    return Fraction(mantissa) * Fraction(2) ** exponent


def _undecided(what: str) -> InputError:
    return InputError(
        f"{what}, however precisely it was worked out",
        where="Real",
        hint="Two numbers that are equal can't be told apart, nor can a pole be told from a "
        "large value. Give rational numbers as integers, fractions or texts: they stay exact.",
    )
