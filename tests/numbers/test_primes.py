"""Primes against published counts (OEIS A006880, A006988), sympy, and the definition."""

import subprocess
import sys

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import config

from cllm.errors import InputError
from cllm.numbers.primes import (
    factorise,
    first_primes,
    is_prime,
    next_prime,
    nth_prime,
    previous_prime,
    prime_pi,
    prime_segments,
    primes_up_to,
)

# π(10^k) for k = 1 … 13, and the 10^k-th primes for k = 0 … 12.
COUNTS = [
    4, 25, 168, 1229, 9592, 78498, 664579, 5761455, 50847534, 455052511, 4118054813,
    37607912018, 346065536839,
]  # fmt: skip
NTH = [
    2, 29, 541, 7919, 104729, 1299709, 15485863, 179424673, 2038074743, 22801763489,
    252097800623, 2760727302517, 29996224275833,
]  # fmt: skip


@pytest.fixture
def unchecked():
    """Annotations are not checked, as outside of tests."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 16, 17, 18, 100, 289, 1000, 2**20, 2**20 + 7])
def test_small_lists_are_sympys(limit):
    assert primes_up_to(limit).tolist() == list(sympy.primerange(limit + 1))


def test_a_long_list_has_as_many_primes_as_published():
    primes = primes_up_to(10**8)
    assert primes.dtype == np.int64
    assert len(primes) == COUNTS[7]
    assert (primes[-1], primes[10**6 - 1]) == (99999989, NTH[6])
    assert (np.diff(primes) > 0).all()
    narrow = primes_up_to(10**7, np.uint32)
    assert narrow.dtype == np.uint32
    assert (narrow == primes[: COUNTS[6]]).all()


@given(st.integers(0, 10**13), st.integers(0, 3000))
def test_a_stretch_anywhere_is_sympys(start, length):
    found = [prime for part in prime_segments(start + length, start) for prime in part.tolist()]
    assert found == list(sympy.primerange(start, start + length + 1))


def test_windows_join_without_gap_or_overlap():
    # Longer than one window of the sieve, from an even start.
    start, end = 10**9 + 2, 10**9 + 10**7
    segments = list(prime_segments(end, start))
    assert len(segments) > 1
    # π(10⁹ + 10⁷) − π(10⁹), counted without sieving the stretch.
    assert sum(map(len, segments)) == prime_pi(end) - COUNTS[8]
    assert (np.diff(np.concatenate(segments)) > 0).all()


def test_the_sieve_to_a_thousand_million_stays_within_500_megabytes():
    # Sampled from inside: the usual count of the peak goes on with that of the parent.
    code = (
        "import psutil; from cllm.numbers.primes import prime_segments;"
        "process, count, most = psutil.Process(), 0, 0\n"
        "for number, segment in enumerate(prime_segments(10**9)):\n"
        "    count += len(segment)\n"
        "    if number % 50 == 0: most = max(most, process.memory_info().rss)\n"
        "print(count, most)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, most = map(int, done.stdout.split())
    assert count == COUNTS[8]
    assert most < 500 * 10**6


@pytest.mark.parametrize(("power", "count"), list(enumerate(COUNTS, 1)))
def test_published_counts(power, count):
    assert prime_pi(10**power) == count


def test_counts_step_at_primes_alone():
    # The squares, cubes and fourth powers of primes are where a sieve cut off wrongly would err.
    for x in (1021**2, 101**3, 31**4, 1031 * 1033, 2**20, 2**20 + 1):
        assert [prime_pi(x - 1), prime_pi(x)] == [sympy.primepi(x - 1), sympy.primepi(x)]


@given(st.integers(2**20, 10**8))
def test_counts_are_lengths_of_lists(x):
    below = prime_pi(x - 5000)
    assert prime_pi(x) == below + sum(map(len, prime_segments(x, x - 4999)))


@pytest.mark.parametrize(("power", "prime"), list(enumerate(NTH)))
def test_published_nth_primes(power, prime):
    assert nth_prime(10**power) == prime


@given(st.integers(1, 10**7) | st.integers(49_990, 50_010))
def test_the_nth_prime_is_a_prime_with_n_up_to_it(n):
    prime = nth_prime(n)
    assert sympy.isprime(prime)
    assert prime_pi(prime) == n


def test_first_primes():
    for count in (0, 1, 5, 6, 7, 1000):
        assert first_primes(count).tolist() == [sympy.prime(k) for k in range(1, count + 1)]


def test_numbers_that_fool_simpler_tests_are_composite():
    # Carmichael numbers, the least strong pseudoprimes to the first 1 … 9 and to 12 prime bases
    # (OEIS A014233; Sorenson and Webster, 2015), and a Lucas pseudoprime.
    liars = [561, 41041, 825265, 2047, 1373653, 25326001, 3215031751, 2152302898747]
    liars += [3474749660383, 341550071728321, 3825123056546413051, 318665857834031151167461, 5459]
    assert not any(map(is_prime, liars))


def test_large_primes_are_proven():
    assert is_prime(2**127 - 1) and is_prime(2**521 - 1) and is_prime(2**64 - 59)
    assert not is_prime(2**67 - 1)  # 193707721 · 761838257287 (Cole, 1903)
    assert not is_prime((2**61 - 1) * (2**89 - 1))


@given(st.integers(-5, 10**20))
def test_primality_and_neighbours_are_sympys(n):
    assert is_prime(n) == sympy.isprime(n)
    assert next_prime(n) == sympy.nextprime(n)
    if n > 2:
        assert previous_prime(n) == sympy.prevprime(n)


@given(st.integers(1, 10**18))
def test_factors_multiply_to_the_number(n):
    factors = factorise(n)
    assert factors == sympy.factorint(n)
    assert list(factors) == sorted(factors)


def test_factors_by_hand():
    assert factorise(1) == {}
    assert factorise(24) == {2: 3, 3: 1}
    # The sixth Fermat number (Landry, 1880).
    assert factorise(2**64 + 1) == {274177: 1, 67280421310721: 1}


def test_numpy_integers_are_numbers():
    assert nth_prime(np.int64(10)) == 29
    assert is_prime(np.uint32(29))


def test_what_is_out_of_range_is_refused():
    for call, value in [
        (primes_up_to, -1), (prime_segments, -1), (first_primes, -1), (prime_pi, -1),
        (nth_prime, 0), (nth_prime, -3), (factorise, 0), (factorise, -6), (previous_prime, 2),
        (prime_pi, 2**53), (nth_prime, 10**15), (prime_segments, 2**63), (prime_pi, 10**5000),
    ]:  # fmt: skip
        with pytest.raises(InputError):
            call(value)
    with pytest.raises(InputError, match="4,294,967,295"):
        primes_up_to(2**32, np.uint32)


def test_what_does_not_fit_into_memory_says_how_much_it_needs():
    # π(10¹⁵) · 8 bytes is 239 TB; the bound that is used lies a little above.
    with pytest.raises(InputError, match=r"would need 24\d,\d{3},\d{3},\d{3},\d{3} bytes"):
        primes_up_to(10**15)
    with pytest.raises(InputError, match="bytes"):
        first_primes(10**14)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", [primes_up_to, nth_prime, is_prime, prime_pi, factorise])
def test_floats_texts_and_truth_values_are_refused(call):
    for value in (7.0, "7", True, None):
        with pytest.raises(InputError, match="no whole number"):
            call(value)
