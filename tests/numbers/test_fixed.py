"""Fixed point against exact fractions, rounded as Python's `round` does: nearest, ties to even."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.fixed import Fixed, nearest_integer, to_fixed

SCALES = st.integers(0, 90)
NUMBERS = st.builds(Fixed, st.integers(-(2**100), 2**100) | st.integers(-40, 40), SCALES)
FRACTIONS = st.fractions(max_denominator=2**40)


def nearest(exact, scale):
    """What IEEE 754 calls correctly rounded, by Python's own rounding of fractions."""
    return Fraction(round(exact * 2**scale), 2**scale)


@given(NUMBERS, NUMBERS)
def test_sums_and_differences_are_exact(a, b):
    assert (a + b).fraction == a.fraction + b.fraction
    assert (a - b).fraction == a.fraction - b.fraction
    assert (a + b).scale == max(a.scale, b.scale)


@given(NUMBERS, NUMBERS)
def test_products_and_quotients_are_correctly_rounded(a, b):
    scale = max(a.scale, b.scale)
    assert (a * b).fraction == nearest(a.fraction * b.fraction, scale)
    if b:
        assert (a / b).fraction == nearest(a.fraction / b.fraction, scale)


@given(NUMBERS, st.integers(-100, 100))
def test_integers_combine_without_a_scale(a, n):
    assert (a + n).fraction == (n + a).fraction == a.fraction + n
    assert (a - n).fraction == -(n - a).fraction == a.fraction - n
    assert (a * n).fraction == (n * a).fraction == a.fraction * n
    if a:
        assert (n / a).fraction == nearest(n / a.fraction, a.scale)
    if n:
        assert (a / n).fraction == nearest(a.fraction / n, a.scale)


@given(NUMBERS)
def test_a_root_is_the_nearest_of_its_scale(a):
    if a.mantissa < 0:
        with pytest.raises(InputError, match="negative"):
            a.sqrt()
        return
    root, half = a.sqrt(), Fraction(1, 2 ** (a.scale + 1))
    low, high = max(root.fraction - half, Fraction(0)), root.fraction + half
    assert low**2 <= a.fraction <= high**2


@given(NUMBERS, SCALES)
def test_rescaling_rounds_once(a, scale):
    assert a.rescaled(scale).fraction == nearest(a.fraction, scale)
    assert a.rescaled(scale).scale == scale


@given(NUMBERS, NUMBERS)
def test_order_and_hash_are_those_of_the_values(a, b):
    first, second = a.fraction, b.fraction
    assert [a < b, a <= b, a > b, a >= b, a == b] == [
        first < second, first <= second, first > second, first >= second, first == second
    ]  # fmt: skip
    assert a == a.rescaled(a.scale + 3) and hash(a) == hash(a.rescaled(a.scale + 3))
    assert Fixed(12, 2) == 3 and hash(Fixed(12, 2)) == hash(3)
    assert Fixed(1, 0) != "1"


@given(FRACTIONS, SCALES)
def test_conversion_is_correctly_rounded(value, scale):
    assert to_fixed(value, scale).fraction == nearest(value, scale)
    assert to_fixed(str(value), scale) == to_fixed(value, scale)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_floats_go_there_and_back(value):
    # The least float32 is 2^−149.
    assert float(to_fixed(value, 149)) == value


@given(NUMBERS)
def test_the_text_is_the_value(a):
    assert Fraction(str(a)) == a.fraction
    assert Fraction(str(abs(a))) == abs(a.fraction)


@given(st.integers(), st.integers().filter(bool))
def test_the_nearest_integer(dividend, divisor):
    assert nearest_integer(dividend, divisor) == round(Fraction(dividend, divisor))


def test_by_hand():
    assert [nearest_integer(n, 2) for n in (-3, -1, 1, 3, 5)] == [-2, 0, 0, 2, 2]
    # 0.1 in 8 places is 26/256: 25.6 rounds up.
    assert to_fixed("0.1", 8) == Fixed(26, 8)
    assert str(Fixed(-26, 8)) == "-0.1015625"
    assert str(Fixed(8, 2)) == "2"
    # ⌊√2 · 2^20⌉, from √2 = 1.41421356237…
    assert to_fixed(2, 20).sqrt() == Fixed(round(math.sqrt(2) * 2**20), 20)


def test_what_is_no_number_is_refused():
    with pytest.raises(InputError, match="division by zero"):
        Fixed(1, 4) / 0
    with pytest.raises(InputError, match="division by zero"):
        1 / Fixed(0, 4)
    with pytest.raises(InputError, match="less than 0"):
        Fixed(1, -1)
    for value in ("abc", "1/0", math.inf, math.nan):
        with pytest.raises(InputError, match="no finite number"):
            to_fixed(value, 8)
    with pytest.raises(InputError, match="bytes"):
        to_fixed(1, 10**15)
    with pytest.raises(InputError, match="bytes"):
        Fixed(1, 4).rescaled(10**15)
