"""Reals against exact fractions, Python's own decimals, and mpmath."""

import threading
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import flint
import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import config

from cllm.errors import InputError
from cllm.numbers.elementary import exp, pi, sin, sqrt
from cllm.numbers.precision import working_precision
from cllm.numbers.reals import Real, as_real

FRACTIONS = st.fractions(max_denominator=10**30)


def decimal_digits(value: Fraction, digits: int) -> Decimal:
    """The value rounded once to so many digits, by the decimal module."""
    context = Context(prec=digits, rounding=ROUND_HALF_EVEN, Emin=-(10**6), Emax=10**6)
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


@given(FRACTIONS, st.integers(1, 40))
def test_rational_numbers_are_rounded_as_decimals_are(value, digits):
    text = as_real(value).digits_text(digits)
    assert Decimal(text) == decimal_digits(value, digits)
    if value:
        mantissa = text.lstrip("-").split("e")[0].replace(".", "").lstrip("0")
        assert len(mantissa) == digits


@given(FRACTIONS.filter(bool), st.integers(1, 40))
def test_balls_are_rounded_as_rational_numbers_are(value, digits):
    # The same number, but known through its enclosures only; ties can't be decided then.
    ball = Real(lambda bits: flint.arb(flint.fmpq(value.numerator, value.denominator)))
    scaled = value * Fraction(10) ** 80
    if scaled.denominator != 1:
        assert ball.digits_text(digits) == as_real(value).digits_text(digits)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        ("0.15", 1, "0.2"), ("0.25", 1, "0.2"), ("25", 1, "2e+1"), ("35", 1, "4e+1"),
        ("0.99994", 4, "0.9999"), ("0.99996", 4, "1.000"), ("9.9996", 4, "10.00"),
        ("-1/3", 5, "-0.33333"), ("123456", 6, "123456"), ("123456", 5, "1.2346e+5"),
        ("0.00000123", 3, "0.00000123"), ("0.000000123", 3, "1.23e-7"), ("0", 9, "0"),
        ("-2.5e-3", 3, "-0.00250"), ("+.5", 1, "0.5"), ("7.", 2, "7.0"),
        ("1e400", 2, "1.0e+400"),
    ],
)  # fmt: skip
def test_texts_by_hand(value, digits, text):
    assert as_real(value).digits_text(digits) == text


@given(FRACTIONS, FRACTIONS)
def test_rational_arithmetic_stays_exact(a, b):
    x, y = as_real(a), as_real(b)
    for found, expected in [(x + y, a + b), (x - y, a - b), (x * y, a * b), (abs(x), abs(a))]:
        assert found.exact == flint.fmpq(expected.numerator, expected.denominator)
    if b:
        assert (x / y) == a / b
    assert [x < y, x <= y, x > y, x >= y, x == y] == [a < b, a <= b, a > b, a >= b, a == b]
    assert x.sign() == (a > 0) - (a < 0)


@given(FRACTIONS, st.integers(1, 60))
def test_bounds_enclose_and_are_as_narrow_as_promised(value, digits):
    real = as_real(value, digits)
    assert real.lower <= value <= real.upper
    assert real.upper - real.lower == 2 * real.radius
    assert real.radius <= abs(value) / 10**digits


@given(st.fractions(-50, 50, max_denominator=1000), st.integers(1, 80))
def test_bounds_of_irrational_numbers_enclose(value, digits):
    real = exp(value, digits)
    with mpmath.workdps(400):
        truth = mpmath.exp(mpmath.mpf(value.numerator) / value.denominator)
        low, high = (mpmath.mpf(x.numerator) / x.denominator for x in (real.lower, real.upper))
        slack = truth / mpmath.mpf(10) ** 395
        assert low - slack <= truth <= high + slack
        assert high - low <= 2 * truth / mpmath.mpf(10) ** digits


def test_cancellation_costs_no_digit():
    # √(10^60 + 1) − 10^30 = 1 / (2 · 10^30) − …: 60 digits cancel.
    difference = sqrt(10**60 + 1) - 10**30
    assert difference.digits_text(20) == "5.0000000000000000000e-31"
    assert (1 / difference).digits_text(12) == "2.00000000000e+30"


def test_the_value_does_not_depend_on_how_it_was_asked_before():
    real = sin("0.1")
    first = real.digits_text(5)
    real.digits_text(500)
    assert (first, real.digits_text(5)) == ("0.099833", "0.099833")
    # sin 0.1 = 0.1 − 10⁻³/6 + 10⁻⁵/120 − …
    assert float(real) == 0.09983341664682815


def test_doubles_are_the_nearest():
    assert float(pi()) == 3.141592653589793
    assert float(as_real("1/3")) == 1 / 3
    assert float(sqrt(2) * sqrt(2)) == 2.0
    assert float(exp(-(10**4))) == 0.0


def test_what_can_not_be_told_apart_is_said():
    nothing = sin(pi())
    assert nothing.lower <= 0 <= nothing.upper < Fraction(1, 10**200)
    for ask in (nothing.sign, nothing.digits_text, lambda: 1 / nothing, lambda: nothing > 0):
        with pytest.raises(InputError, match=r"told|decided"):
            ask()
    assert (sqrt(2) == sqrt(3)) is False
    with pytest.raises(InputError, match="told"):
        assert sqrt(2) * sqrt(2) != 2


def test_division_by_zero():
    with pytest.raises(InputError, match="division by zero"):
        as_real(1) / 0
    with pytest.raises(InputError, match="division by zero"):
        1 / as_real("0.0")


@pytest.mark.parametrize("text", ["", ".", "abc", "1/0", "1/-2", "1.5/2", "0x10", "1e", "nan", "٣"])
def test_texts_that_are_no_number(text):
    with pytest.raises(InputError, match="no number"):
        as_real(text)


def test_too_many_digits_are_refused_before_any_work():
    for ask in (
        lambda: pi(10**13),
        lambda: pi().digits_text(10**13),
        lambda: as_real("1e-999999999999"),
    ):
        with pytest.raises(InputError, match="bytes"):
            ask()
    for digits in (0, -5):
        with pytest.raises(InputError, match="less than 1"):
            pi(digits)
    with pytest.raises(InputError, match="fractions"):
        _ = exp(10**30).lower


def test_floats_are_refused_with_what_to_write():
    config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(InputError, match=r"Fraction\(0.1\)"):
            as_real(0.1)
    finally:
        config.update("jaxtyping_disable", False)


def test_flints_precision_is_put_back_even_after_an_error():
    before = flint.ctx.prec
    with pytest.raises(ZeroDivisionError), working_precision(1000):
        assert flint.ctx.prec == 1000
        raise ZeroDivisionError
    exp("0.1").digits_text(300)
    assert flint.ctx.prec == before


def test_threads_do_not_spoil_each_others_precision():
    texts: dict[int, str] = {}

    def work(digits: int) -> None:
        texts[digits] = sqrt(2, digits).digits_text()

    threads = [threading.Thread(target=work, args=(digits,)) for digits in range(100, 2000, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with mpmath.workdps(2100):
        for digits, text in texts.items():
            assert text == mpmath.nstr(mpmath.sqrt(2), digits, strip_zeros=False)
    assert len(texts) == len(threads)
