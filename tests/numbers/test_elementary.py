"""Elementary functions against mpmath, independent series, and known digits."""

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import flint
import mpmath
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers import elementary
from cllm.numbers.elementary import (
    acos,
    e,
    exp,
    golden_ratio,
    log,
    log2,
    pi,
    power,
    root,
    sin,
    sqrt,
    tan,
)
from cllm.numbers.reals import Real

ANYWHERE = ["exp", "sin", "cos", "tan", "atan", "sinh", "cosh", "tanh", "asinh"]
UNIT = ["asin", "acos", "atanh"]
NUMBERS = st.fractions(-20, 20, max_denominator=10**6)
DIGITS = st.integers(1, 120)


def is_mpmaths(found: Real, name: str, value: Fraction) -> bool:
    """Whether all digits shown are those of mpmath's far more precise result, rounded once."""
    with mpmath.workdps(300):
        result = getattr(mpmath, name)(mpmath.mpf(value.numerator) / value.denominator)
        expected = Fraction(*mpmath.libmp.to_rational(result._mpf_))
    if found.exact is not None:
        # A tie may be one here and miss being one there.
        return abs(Fraction(int(found.exact.p), int(found.exact.q)) - expected) < 10**-280
    context = Context(prec=found.digits, rounding=ROUND_HALF_EVEN)
    rounded = context.divide(Decimal(expected.numerator), Decimal(expected.denominator))
    return Decimal(found.digits_text()) == rounded


@pytest.mark.parametrize("name", ANYWHERE)
@given(value=NUMBERS, digits=DIGITS)
def test_functions_of_every_number_are_mpmaths(name, value, digits):
    assert is_mpmaths(getattr(elementary, name)(value, digits), name, value)


@pytest.mark.parametrize("name", UNIT)
@given(value=st.fractions(-1, 1, max_denominator=10**6), digits=DIGITS)
def test_functions_of_the_unit_interval_are_mpmaths(name, value, digits):
    assume(name != "atanh" or abs(value) != 1)
    assert is_mpmaths(getattr(elementary, name)(value, digits), name, value)


@given(value=st.fractions(Fraction(1, 10**6), 10**6), digits=DIGITS)
def test_logarithms_and_roots_are_mpmaths(value, digits):
    assert is_mpmaths(log(value, digits), "log", value)
    assert is_mpmaths(sqrt(value, digits), "sqrt", value)
    assert is_mpmaths(root(value, 3, digits), "cbrt", value)
    assert is_mpmaths(elementary.acosh(value + 1, digits), "acosh", value + 1)


@given(st.fractions(Fraction(1, 1000), 1000), st.fractions(-30, 30, max_denominator=99), DIGITS)
def test_powers_are_mpmaths(x, y, digits):
    with mpmath.workdps(400):
        base, exponent = (mpmath.mpf(z.numerator) / z.denominator for z in (x, y))
        expected = Fraction(*mpmath.libmp.to_rational(mpmath.power(base, exponent)._mpf_))
    found = power(x, y, digits)
    assert abs(Fraction(found.digits_text()) - expected) <= expected / 10 ** (digits - 1) / 2
    assert found.lower * (1 - Fraction(1, 10**390)) <= expected
    assert expected <= found.upper * (1 + Fraction(1, 10**390))


def test_exact_values_are_exact():
    assert [f(0).exact for f in (exp, sin, elementary.cos, tan)] == [1, 0, 1, 0]
    assert (log(1).exact, acos(1).exact, elementary.acosh(1).exact) == (0, 0, 0)
    assert sqrt("2.25").exact == flint.fmpq(3, 2)
    assert root(Fraction(-8, 27), 3).exact == flint.fmpq(-2, 3)
    assert power(4, Fraction(-3, 2)).exact == flint.fmpq(1, 8)
    assert power(-2, 3).exact == -8 and power(-2, -2).exact == flint.fmpq(1, 4)
    assert power(0, 0).exact == 1 and power(0, "1/2").exact == 0
    assert power(-1, 10**40 + 1).exact == -1
    # A tie, decided because √0.0625 = 0.25 is known.
    assert sqrt("0.0625").digits_text(1) == "0.2"
    assert sqrt(2).exact is None


def test_identities_at_a_thousand_digits():
    # Machin, 1706: π = 16 atan 1/5 − 4 atan 1/239.
    machin = 16 * elementary.atan("1/5", 1000) - 4 * elementary.atan("1/239", 1000)
    assert machin.digits_text() == pi(1000).digits_text()
    assert (golden_ratio(1000) - 1 / golden_ratio(1000)).digits_text(990) == f"1.{'0' * 989}"
    assert exp(log2(1000)).digits_text() == f"2.{'0' * 999}"
    x = Fraction(7, 5)
    assert (sin(x, 500) * sin(x, 500) + elementary.cos(x) * elementary.cos(x)).digits_text(
        500
    ) == f"1.{'0' * 499}"


def by_integers(series, digits: int) -> str:
    """A constant's digits from a sum of integers scaled by 10^(digits + 20), cut off."""
    return str(flint.fmpz(series(10 ** (digits + 20))))


def arctangent(inverse: int, one: int) -> int:
    total, term, k = 0, one // inverse, 0
    while term:
        total += (-1) ** k * (term // (2 * k + 1))
        term //= inverse * inverse
        k += 1
    return total


def exponential(one: int) -> int:
    total, term, k = 0, one, 0
    while term:
        total, k = total + term, k + 1
        term //= k
    return total


def logarithm_of_2(one: int) -> int:
    # Machin-like: log 2 = 18 L(26) − 2 L(4801) + 8 L(8749), L(n) = artanh 1/n (Sebah, Gourdon).
    def area(inverse: int) -> int:
        total, term, k = 0, one // inverse, 1
        while term:
            total += term // k
            term, k = term // (inverse * inverse), k + 2
        return total

    return 18 * area(26) - 2 * area(4801) + 8 * area(8749)


CONSTANTS = [
    (pi, lambda one: 16 * arctangent(5, one) - 4 * arctangent(239, one), mpmath.pi),
    (e, exponential, mpmath.e),
    (golden_ratio, lambda one: (one + math.isqrt(5 * one * one)) // 2, mpmath.phi),
    (log2, logarithm_of_2, mpmath.ln2),
]


@pytest.mark.parametrize(("constant", "series", "peer"), CONSTANTS)
def test_ten_thousand_digits_by_an_independent_series_and_by_mpmath(constant, series, peer):
    text = constant(10_000).digits_text()
    with mpmath.workdps(10_050):
        assert text == mpmath.nstr(+peer, 10_000, strip_zeros=False)
    shown = text.removeprefix("0").replace(".", "")
    assert by_integers(series, 10_000).startswith(shown[:-1])


def test_published_digits():
    assert pi(50).digits_text() == "3.1415926535897932384626433832795028841971693993751"
    assert e(50).digits_text() == "2.7182818284590452353602874713526624977572470937000"
    assert golden_ratio(30).digits_text() == "1.61803398874989484820458683437"
    assert log2(30).digits_text() == "0.693147180559945309417232121458"
    # Six nines from the 762nd decimal on; the 10,000th decimal is the 8 of 75678.
    assert pi(800).digits_text()[763:769] == "999999"
    assert pi(10_010).digits_text()[9997:10002] == "75678"


def test_huge_and_tiny_arguments():
    # 10^1000 mod 2π needs 1,000 digits of π more than the result has.
    with mpmath.workdps(1100):
        expected = mpmath.nstr(mpmath.sin(mpmath.mpf(10) ** 1000), 30, strip_zeros=False)
    assert sin(10**1000, 30).digits_text() == expected
    assert sin("1e-400", 5).digits_text() == "1.0000e-400"
    # e^(10^6) = 10^434294.48…
    assert exp(10**6, 10).digits_text() == "3.033215397e+434294"
    assert exp("-1e-30", 29).digits_text() == f"1.{'0' * 28}"
    assert exp("-1e-30", 30).digits_text() == f"0.{'9' * 30}"


@pytest.mark.parametrize(
    "ask",
    [
        lambda: log(0),
        lambda: log("-0.1"),
        lambda: elementary.asin(2),
        lambda: acos("-1.0000000000000000000000000000001"),
        lambda: elementary.acosh("0.999"),
        lambda: elementary.atanh(1),
        lambda: sqrt(-1),
        lambda: root(-16, 4),
        lambda: root(2, 0),
        lambda: power(0, -1),
        lambda: power(-2, "1/3"),
        lambda: power(-2, sqrt(2)),
        lambda: log(sin(pi())),
    ],
)
def test_outside_of_a_domain(ask):
    with pytest.raises(InputError):
        ask()


def test_digits_come_from_the_argument_unless_given():
    assert sin(sqrt(2, 20)).digits == 20
    assert sin(sqrt(2, 20), 30).digits == 30
    assert sin("0.1").digits == 50
    assert power(2, sqrt(2, 20)).digits == 20
