"""Ulam's spiral against the classical picture, the golden angle against many more digits."""

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.spirals import (
    diagonal_counts,
    golden_places,
    golden_points,
    golden_turns,
    parastichy_counts,
    prime_mask,
    quadratic_primes,
    ulam_index,
    ulam_indices,
    ulam_point,
    ulam_points,
)

# Stein, Ulam & Wells, 1964, American Mathematical Monthly 71.
PICTURE = """
17 16 15 14 13
18  5  4  3 12
19  6  1  2 11
20  7  8  9 10
21 22 23 24 25
"""
FARTHEST = (2 * 1518500248 + 1) ** 2


def test_the_spiral_is_the_classical_one():
    rows = [[int(word) for word in line.split()] for line in PICTURE.strip().split("\n")]
    for row, y in zip(rows, range(2, -3, -1), strict=True):
        for number, x in zip(row, range(-2, 3), strict=True):
            assert ulam_point(number) == (x, y)
            assert ulam_index(x, y) == number


@given(st.integers(1, 10**60))
def test_numbers_of_any_size_there_and_back(number):
    x, y = ulam_point(number)
    assert ulam_index(x, y) == number
    # The next number is the next point of the square lattice.
    next_x, next_y = ulam_point(number + 1)
    assert abs(next_x - x) + abs(next_y - y) == 1


@given(st.lists(st.integers(1, FARTHEST), max_size=20))
def test_arrays_agree_with_single_numbers(numbers):
    points = ulam_points(np.array(numbers, np.int64))
    assert list(map(tuple, points.tolist())) == [ulam_point(number) for number in numbers]
    assert ulam_indices(points).tolist() == numbers


def test_squares_and_their_neighbours_far_out():
    # Where a floating-point square root is off by one.
    roots = [3, 94906265, 94906267, 2**31 - 1, 3037000497]
    numbers = [root**2 + shift for root in roots for shift in (-1, 0, 1) if root**2 < FARTHEST]
    numbers.append(FARTHEST)
    points = ulam_points(np.array(numbers, np.int64))
    assert list(map(tuple, points.tolist())) == [ulam_point(number) for number in numbers]


def test_what_is_not_on_the_spiral():
    for call in (
        lambda: ulam_point(0),
        lambda: ulam_points(np.array([0], np.int64)),
        lambda: ulam_points(np.array([FARTHEST + 1], np.int64)),
        lambda: ulam_indices(np.array([[1518500249, 0]], np.int64)),
        lambda: golden_turns(np.array([-1], np.int64)),
        lambda: golden_points(-1),
        lambda: golden_points(10**15),
    ):
        with pytest.raises(InputError):
            call()


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20))
def test_golden_angles_keep_every_digit(multiples):
    found = golden_turns(np.array(multiples, np.int64))
    with mpmath.workdps(60):
        for multiple, turn in zip(multiples, found.tolist(), strict=True):
            exact = multiple / mpmath.phi**2
            exact -= mpmath.floor(exact + mpmath.mpf(1) / 2)
            assert abs(exact - turn) <= mpmath.mpf(2) ** -54


def test_golden_points_fill_the_disc_evenly():
    points = golden_points(10_000)
    radii = np.hypot(points[:, 0], points[:, 1])
    assert np.allclose(radii**2, np.arange(1, 10_001) / 10_000)
    # 137.5077…° is the golden angle.
    first, second = np.arctan2(points[:2, 1], points[:2, 0]) % (2 * np.pi)
    assert np.degrees(first) == pytest.approx(137.50776405)
    assert np.degrees(second) == pytest.approx(275.01552810)
    # In each of 64 equal sectors there are about as many points.
    sectors = np.bincount(
        ((np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi)) % 1 * 64).astype(int)
    )
    assert sectors.max() - sectors.min() <= 8


def test_golden_places_stand_as_high_as_their_primes_logarithms():
    places = golden_places(500)
    assert np.array_equal(places[:, :2], golden_points(500))
    last = mpmath.log(sympy.prime(500))
    heights = [float(mpmath.log(sympy.prime(n)) / last) for n in range(1, 501)]
    assert np.allclose(places[:, 2], heights, rtol=1e-15)
    # One place is the rim at full height, and none are none.
    assert golden_places(1)[:, 2].tolist() == [1.0]
    assert golden_places(0).shape == (0, 3)
    with pytest.raises(InputError):
        golden_places(-1)


def test_primes_on_the_spirals():
    assert np.flatnonzero(prime_mask(30)).tolist() == [1, 2, 4, 6, 10, 12, 16, 18, 22, 28]
    assert prime_mask(0).shape == (0,)
    counts = diagonal_counts(10)
    # π(441) = 85, each prime on one diagonal of either direction.
    assert counts[:, 2].sum() == counts[:, 3].sum() == 85
    assert counts[:, 1].sum() == 441
    by_hand = [0, 0]
    for prime in sympy.primerange(442):
        x, y = ulam_point(int(prime))
        by_hand[0] += y - x == 0
        by_hand[1] += y + x == -2
    assert counts[counts[:, 0] == 0, 2] == by_hand[0]
    assert counts[counts[:, 0] == -2, 3] == by_hand[1]


def test_arms_share_the_primes_by_dirichlet():
    counts = parastichy_counts(100_000, 21)
    assert counts[:, 0].sum() == 100_000 and counts[:, 1].sum() == 9592
    coprime = [residue for residue in range(21) if np.gcd(residue, 21) == 1]
    others = [residue for residue in range(21) if np.gcd(residue, 21) > 1]
    assert counts[others, 1].tolist() == [int(r in (3, 7)) for r in others]
    assert np.ptp(counts[coprime, 1]) < 0.05 * 9592 / 12


def test_eulers_polynomial():
    primes = quadratic_primes(1, 41, 1000)
    assert primes[:40].all() and not primes[40] and not primes[41]
    assert primes.sum() == sum(sympy.isprime(n * n + n + 41) for n in range(1000))
    # Its values lie on one diagonal of the spiral that begins with 41.
    points = np.array([ulam_point(n * n + n + 41 - 40) for n in range(100)])
    assert (points[:, 0] == points[:, 1]).all()
