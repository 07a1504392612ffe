"""Each component against mpmath and hand calculation, the float table against the reals."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.lattice_formula import (
    COLUMNS,
    FREQUENCIES,
    components,
    density,
    exponent,
    formula_table,
    ratios,
    standardised_table,
    twist,
    wave,
)

RANKS = [1, 2, 11, 12, 13, 15, 16, 600, 12_345, 99_999]


def by_mpmath(rank):
    """Every number of the formula by the definition, with 60 digits more than are looked at."""
    pi, k = mpmath.pi, rank // 12
    power = (rank - 1) * (pi / 6) / mpmath.log(3) + mpmath.log(3, 3) + k * pi * (1 + mpmath.sqrt(5))
    theta = 2 * pi * rank / mpmath.phi**2
    waves = [mpmath.cos(theta * frequency) for frequency in FREQUENCIES]
    thickness = mpmath.log(mpmath.mpf(rank) / sympy.prime(rank), 2)
    return power, waves, thickness


@pytest.mark.parametrize("rank", RANKS)
def test_the_components_to_forty_digits(rank):
    found = components(rank, 40)
    with mpmath.workdps(110):
        power, waves, thickness = by_mpmath(rank)
        sign = (-1) ** (rank // 12)
        product = 3**power * mpmath.fprod(waves) * sign * 3 * mpmath.mpf(3) / 144000 * thickness
        short, long = (mpmath.mpf(part.numerator) / part.denominator for part in found.ratios)
        pairs = [
            (found.exponent, power),
            (found.density, thickness),
            *zip(found.waves, waves, strict=True),
            (found.value[0], product * short),
            (found.value[1], product * long),
        ]
        for real, expected in pairs:
            shown = mpmath.mpf(real.digits_text(40))
            assert abs(shown - expected) <= abs(expected) * mpmath.mpf(10) ** -39
    assert (found.twist, found.phonetic, found.einstein) == (sign, 3, Fraction(1, 48000))
    assert found.prime == sympy.prime(rank)
    assert found.ratios[0] ** 2 + found.ratios[1] ** 2 == 1


def test_the_first_rank_by_hand():
    # O(1) = 0 + log₃ 3 + 0, the first prime is 2, and row 1 is the triangle (119, 120, 169).
    assert exponent(1).digits_text(5) == "1.0000"
    assert density(1).digits_text(3) == "-1.00"
    assert ratios(1) == (Fraction(119, 169), Fraction(120, 169))
    assert ratios(15) == (Fraction(28, 53), Fraction(45, 53))
    assert ratios(16) == ratios(1)
    assert [twist(rank) for rank in (11, 12, 23, 24)] == [1, -1, -1, 1]


@given(st.integers(1, 10**30), st.sampled_from(FREQUENCIES))
def test_waves_keep_their_digits_at_any_rank(rank, frequency):
    with mpmath.workdps(90):
        expected = mpmath.cos(2 * mpmath.pi * rank * frequency / mpmath.phi**2)
        assert abs(mpmath.mpf(wave(rank, frequency).digits_text(20)) - expected) < 1e-18


def test_the_table_agrees_with_the_reals():
    table = formula_table(max(RANKS))
    assert table.shape == (99_999, len(COLUMNS)) and len(COLUMNS) == 17
    with mpmath.workdps(60):
        for rank in RANKS:
            power, waves, thickness = by_mpmath(rank)
            short, long = ratios(rank)
            row = [power, *waves, twist(rank), float(short), float(long), thickness]
            for name, expected, found in zip(COLUMNS, row, table[rank - 1], strict=True):
                tolerance = 2e-15 * max(1.0, abs(float(expected)))
                assert abs(expected - float(found)) <= tolerance, (rank, name)


def test_no_two_ranks_have_the_same_waves():
    waves = formula_table(3000)[:, 1:13]
    assert len(np.unique(waves.round(9), axis=0)) == 3000


def test_the_standardised_table():
    table = standardised_table(500)
    assert np.allclose(table.mean(axis=0), 0) and np.allclose(table.std(axis=0), 1)
    # Before the twelfth rank the twist is constant.
    assert (standardised_table(11)[:, COLUMNS.index("twist")] == 0).all()
    assert (standardised_table(1) == 0).all()
    assert formula_table(0).shape == standardised_table(0).shape == (0, 17)


def test_bad_ranks():
    for call in (
        lambda: components(0),
        lambda: wave(0, 3),
        lambda: twist(-1),
        lambda: formula_table(-1),
        lambda: formula_table(10**13),
        lambda: density(10**18),
    ):
        with pytest.raises(InputError):
            call()
