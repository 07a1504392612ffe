"""Elementary functions and constants, correct to any number of digits.

Each takes an integer, a fraction, a text ("0.1", "1/3") or a real, and gives a real that shows
`digits` digits; left out, those of its argument, or 50. What is asked for outside a function's
domain is refused before any work. A few values are rational (e⁰, √4) and known as such; all
others at rational arguments are irrational, so that their digits can always be decided.

Source: FLINT's arb (Johansson, 2017) for the enclosures; Hermite, Lindemann and Weierstrass,
1873–1885, for the irrationality.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import SupportsIndex, TypeAlias

from flint import arb, fmpq

from cllm.errors import InputError
from cllm.numbers.checks import whole_number
from cllm.numbers.reals import Real, as_real, rational_real

Number: TypeAlias = Real | Fraction | int | str
# An exact power is written out up to so many bits.
_EXACT_BITS = 1 << 20


def pi(digits: SupportsIndex = 50) -> Real:
    """π. Source: Chudnovsky's series (1988), in FLINT; 0.4 s for a million digits."""
    return Real(lambda _bits: arb.pi(), digits)


def e(digits: SupportsIndex = 50) -> Real:
    """Euler's number e = Σ 1/k!."""
    return Real(lambda _bits: arb.const_e(), digits)


def golden_ratio(digits: SupportsIndex = 50) -> Real:
    """φ = (1 + √5) / 2."""
    return Real(lambda _bits: (1 + arb(5).sqrt()) / 2, digits)


def log2(digits: SupportsIndex = 50) -> Real:
    """The constant log 2, to base e."""
    return Real(lambda _bits: arb.const_log2(), digits)


def exp(x: Number, digits: SupportsIndex | None = None) -> Real:
    """e^x."""
    return _applied(arb.exp, x, digits, 0, 1)


def log(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The natural logarithm. Raises: InputError for x ≤ 0."""
    number = _argument(x, digits)
    _require(number.sign() > 0, "log", "only numbers above 0 have a real logarithm")
    return _applied(arb.log, number, digits, 1, 0)


def sin(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The sine of x radians."""
    return _applied(arb.sin, x, digits, 0, 0)


def cos(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The cosine of x radians."""
    return _applied(arb.cos, x, digits, 0, 1)


def tan(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The tangent of x radians. A pole lies at no rational x."""
    return _applied(arb.tan, x, digits, 0, 0)


def asin(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The angle from −π/2 to π/2 whose sine is x. Raises: InputError for |x| > 1."""
    number = _argument(x, digits)
    _require_unit("asin", number)
    return _applied(arb.asin, number, digits, 0, 0)


def acos(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The angle from 0 to π whose cosine is x. Raises: InputError for |x| > 1."""
    number = _argument(x, digits)
    _require_unit("acos", number)
    return _applied(arb.acos, number, digits, 1, 0)


def atan(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The angle between −π/2 and π/2 whose tangent is x."""
    return _applied(arb.atan, x, digits, 0, 0)


def sinh(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The hyperbolic sine (e^x − e^−x) / 2."""
    return _applied(arb.sinh, x, digits, 0, 0)


def cosh(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The hyperbolic cosine (e^x + e^−x) / 2."""
    return _applied(arb.cosh, x, digits, 0, 1)


def tanh(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The hyperbolic tangent sinh x / cosh x."""
    return _applied(arb.tanh, x, digits, 0, 0)


def asinh(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The number whose hyperbolic sine is x."""
    return _applied(arb.asinh, x, digits, 0, 0)


def acosh(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The number ≥ 0 whose hyperbolic cosine is x. Raises: InputError for x < 1."""
    number = _argument(x, digits)
    _require(number >= 1, "acosh", "no hyperbolic cosine is below 1")
    return _applied(arb.acosh, number, digits, 1, 0)


def atanh(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The number whose hyperbolic tangent is x. Raises: InputError for |x| ≥ 1."""
    number = _argument(x, digits)
    _require(abs(number) < 1, "atanh", "hyperbolic tangents lie between −1 and 1")
    return _applied(arb.atanh, number, digits, 0, 0)


def sqrt(x: Number, digits: SupportsIndex | None = None) -> Real:
    """The square root that is ≥ 0. Raises: InputError for x < 0."""
    return root(x, 2, digits)


def root(x: Number, degree: SupportsIndex, digits: SupportsIndex | None = None) -> Real:
    """The real root of a degree ≥ 1; negative numbers have one of odd degree.

    Raises: InputError for an even root of a negative number.
    """
    number, n = _argument(x, digits), whole_number(degree, "degree", 1, (1 << 63) - 1)
    sign = number.sign()
    if sign < 0:
        _require(n % 2 == 1, "root", "a negative number has no real root of even degree")
        return -root(-number, n, digits)
    exact = None if number.exact is None else _exact_root(number.exact, n)
    if exact is not None:
        return rational_real(exact, number.digits)
    return Real(lambda bits: number.enclosure(bits).root(n), number.digits)


def power(x: Number, y: Number, digits: SupportsIndex | None = None) -> Real:
    """x^y; 0⁰ is 1.

    Raises: InputError for a power of 0 below 0, or one of a negative number by what is not known
    to be an integer.
    """
    base, exponent = _argument(x, digits), _argument(y, digits)
    shown = exponent.digits if digits is None and not isinstance(x, Real) else base.digits
    known = exponent.exact
    is_whole = known is not None and known.q == 1
    sign = 1 if is_whole and known is not None and known >= 0 else base.sign()
    _require(sign >= 0 or is_whole, "power", "a negative number to a broken power is not real")
    if sign == 0:
        _require(exponent.sign() > 0, "power", "0 to a power below 0 is a division by zero")
        return rational_real(fmpq(0), shown)
    exact = _exact_power(base.exact, known)
    if exact is not None:
        return rational_real(exact, shown)
    return Real(lambda bits: base.enclosure(bits) ** exponent.enclosure(bits), shown)


def _argument(x: Number, digits: SupportsIndex | None) -> Real:
    """`x` as a real that shows `digits`."""
    number = as_real(x, 50 if digits is None else digits)
    if digits is None or not isinstance(x, Real):
        return number
    return Real(number.enclosure, digits, number.exact)


def _applied(
    function: Callable[[arb], arb],
    x: Number,
    digits: SupportsIndex | None,
    argument: int,
    value: int,
) -> Real:
    """The function at x; `value` at `argument`, the one rational x where it is rational."""
    number = _argument(x, digits)
    if number.exact is not None and number.exact == argument:
        return rational_real(fmpq(value), number.digits)
    return Real(lambda bits: function(number.enclosure(bits)), number.digits)


def _exact_root(x: fmpq, degree: int) -> fmpq | None:
    """The root of x ≥ 0 where it is rational: where numerator and denominator are powers."""
    parts = []
    for part in (x.p, x.q):
        candidate = part if part < 2 else part.root(degree)
        if candidate**degree != part:
            return None
        parts.append(candidate)
    return fmpq(*parts)


def _exact_power(base: fmpq | None, exponent: fmpq | None) -> fmpq | None:
    """base^exponent where it is rational and short enough to be written out."""
    if base is None or exponent is None or (base < 0 and exponent.q != 1):
        return None
    if exponent.q.bit_length() > 63:
        return fmpq(1) if base == 1 or exponent == 0 else None
    rational = base if exponent.q == 1 else _exact_root(base, int(exponent.q))
    if rational is None:
        return None
    size = max(rational.p.bit_length(), rational.q.bit_length(), 1)
    if abs(rational) == 1 or rational == 0:
        return rational ** int(exponent.p % 2 if rational != 0 else exponent.p > 0)
    return rational ** int(exponent.p) if size * abs(exponent.p) <= _EXACT_BITS else None


def _require_unit(name: str, number: Real) -> None:
    _require(abs(number) <= 1, name, "sines and cosines lie from −1 to 1")


def _require(is_fulfilled: bool, name: str, reason: str) -> None:
    if not is_fulfilled:
        raise InputError(reason, where=name)
