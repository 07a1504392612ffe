"""Arithmetic functions against sympy and the sums over divisors that define them."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.arithmetic import (
    divisor_sum,
    divisors,
    mobius,
    num_divisors,
    radical,
    totient,
    von_mangoldt,
)
from cllm.numbers.arithmetic_tables import (
    divisor_counts,
    mobius_table,
    smallest_prime_factors,
    totients,
    von_mangoldt_table,
)

TABLES = [smallest_prime_factors, totients, mobius_table, von_mangoldt_table, divisor_counts]


@given(st.integers(1, 10**15))
def test_single_values_are_sympys(n):
    assert totient(n) == sympy.totient(n)
    assert mobius(n) == sympy.mobius(n)
    assert num_divisors(n) == sympy.divisor_count(n)
    assert divisor_sum(n) == sympy.divisor_sigma(n)
    assert divisors(n) == sympy.divisors(n)
    assert radical(n) == math.prod(sympy.primefactors(n))


@given(st.integers(1, 10**6))
def test_the_sums_over_divisors(n):
    parts = divisors(n)
    assert sum(map(totient, parts)) == n  # Gauss
    assert sum(map(mobius, parts)) == (n == 1)
    assert math.fsum(map(von_mangoldt, parts)) == pytest.approx(math.log(n))


def test_tables_are_sympys():
    limit = 3000
    numbers = range(1, limit + 1)
    assert totients(limit).tolist() == [0] + [sympy.totient(n) for n in numbers]
    assert mobius_table(limit).tolist() == [0] + [sympy.mobius(n) for n in numbers]
    assert divisor_counts(limit).tolist() == [0] + [sympy.divisor_count(n) for n in numbers]
    least = [0, 1] + [min(sympy.primefactors(n)) for n in range(2, limit + 1)]
    assert smallest_prime_factors(limit).tolist() == least


def test_sums_of_long_tables_are_as_published():
    # Φ(10⁶) and Mertens' M(10⁶): OEIS A064018, A084237.
    assert int(totients(10**6).sum()) == 303963552392
    assert int(mobius_table(10**6).sum()) == 212
    # Chebyshev's ψ(x) is the logarithm of lcm(1 … x).
    psi = von_mangoldt_table(10**4).sum()
    assert psi == pytest.approx(math.log(math.lcm(*range(1, 10**4 + 1))), rel=1e-12)


def test_the_table_of_von_mangoldt_has_the_single_values():
    found = von_mangoldt_table(2100)
    np.testing.assert_allclose(found[1:], [von_mangoldt(n) for n in range(1, 2101)], rtol=1e-15)


@pytest.mark.parametrize("table", TABLES)
def test_the_shortest_tables(table):
    assert len(table(0)) == 1 and len(table(1)) == 2
    assert table(0)[0] == table(1)[0] == 0


@pytest.mark.parametrize("table", TABLES)
def test_tables_beyond_memory_and_below_0_are_refused(table):
    with pytest.raises(InputError, match="bytes"):
        table(10**13)
    with pytest.raises(InputError, match="less than 0"):
        table(-1)


def test_functions_start_at_1():
    for function in (totient, mobius, von_mangoldt, divisors, radical, num_divisors, divisor_sum):
        with pytest.raises(InputError, match="less than 1"):
            function(0)


def test_more_divisors_than_memory_holds():
    # (1 + 1)^60 divisors.
    with pytest.raises(InputError, match="divisors"):
        divisors(sympy.primorial(60))
