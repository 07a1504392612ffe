"""Congruences against their definition, the books, and sympy."""

import itertools
import math

import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st
from sympy.ntheory import n_order
from sympy.ntheory.modular import crt

from cllm.errors import InputError
from cllm.numbers.congruences import (
    are_coprime,
    bezout,
    chinese_remainder,
    inverse,
    multiplicative_order,
    primitive_root,
    reduced_residues,
    residues,
)

WHOLE = st.integers(-(10**30), 10**30)
MODULI = st.integers(1, 10**30)


@given(WHOLE, WHOLE)
def test_bezouts_identity(a, b):
    found = bezout(a, b)
    assert found.gcd == math.gcd(a, b) == a * found.first + b * found.second


@given(WHOLE, MODULI)
def test_an_inverse_multiplies_to_1(a, modulus):
    if math.gcd(a, modulus) == 1:
        found = inverse(a, modulus)
        assert 0 <= found < modulus
        assert a * found % modulus == 1 % modulus
    else:
        with pytest.raises(InputError, match="no inverse"):
            inverse(a, modulus)


def test_sunzi():
    # The oldest known problem of the kind, Sunzi Suanjing, about 400.
    assert chinese_remainder([2, 3, 2], [3, 5, 7]) == (23, 105)
    assert chinese_remainder([], []) == (0, 1)


@given(WHOLE, st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_a_number_is_found_again_from_its_remainders(number, moduli):
    found = chinese_remainder([number % modulus for modulus in moduli], moduli)
    assert found.modulus == math.lcm(*moduli)
    assert found.residue == number % found.modulus


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=2, max_size=4))
def test_contradictions_are_refused_where_sympy_finds_no_solution(pairs):
    remainders, moduli = zip(*pairs, strict=True)
    expected = crt(moduli, remainders)
    if expected is None:
        with pytest.raises(InputError, match="no number is"):
            chinese_remainder(remainders, moduli)
    else:
        modulus = math.lcm(*moduli)
        assert chinese_remainder(remainders, moduli) == (expected[0] % modulus, modulus)


def test_bad_systems_are_refused():
    with pytest.raises(InputError, match="2 remainders and 1 moduli"):
        chinese_remainder([1, 2], [3])
    with pytest.raises(InputError, match="less than 1"):
        chinese_remainder([1], [0])


@given(st.integers(1, 3000))
def test_residue_systems(modulus):
    assert list(residues(modulus)) == [n % modulus for n in range(modulus)]
    coprime = [n for n in range(modulus) if math.gcd(n, modulus) == 1]
    assert reduced_residues(modulus).tolist() == coprime


@given(st.lists(st.integers(-60, 60), max_size=5))
def test_coprime_means_every_pair(numbers):
    expected = all(math.gcd(a, b) == 1 for a, b in itertools.combinations(numbers, 2))
    assert are_coprime(numbers) == expected


@given(st.integers(1, 10**9), st.integers(2, 10**9))
def test_orders_are_sympys(a, modulus):
    assume(math.gcd(a, modulus) == 1)
    assert multiplicative_order(a, modulus) == n_order(a, modulus)


@given(st.integers(2, 2000))
def test_a_primitive_root_reaches_every_coprime_residue(modulus):
    if sympy.primitive_root(modulus) is None:
        with pytest.raises(InputError, match="no primitive root"):
            primitive_root(modulus)
    else:
        found = primitive_root(modulus)
        powers = {pow(found, k, modulus) for k in range(modulus)}
        assert powers == set(reduced_residues(modulus).tolist())


def test_the_edge_of_the_smallest_moduli():
    assert primitive_root(1) == 0
    assert multiplicative_order(5, 1) == 1
    assert inverse(5, 1) == 0
    with pytest.raises(InputError):
        multiplicative_order(2, 4)
    with pytest.raises(InputError, match="bytes"):
        reduced_residues(10**13)
