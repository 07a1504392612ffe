"""Primes: all of them up to a limit, the n-th, how many there are, tests and factors."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np
from flint import arb, fmpz
from jaxtyping import Int64, Integer

from cllm.numbers.checks import require_memory, whole_number

# Up to here a sieve in numpy is done sooner than numba is loaded.
_NUMPY_LIMIT = 1 << 20
# Numbers a window: its primes are copied once, 2 MB at a time.
_WINDOW = 1 << 22
# Every multiple of a base prime must be a 64-bit integer.
_SIEVE_LIMIT = 1 << 62
# count_primes divides in double precision, and the last prime before has this number.
_COUNT_LIMIT = (1 << 53) - 1
_NTH_LIMIT = 250_000_000_000_000


def primes_up_to(
    limit: SupportsIndex, dtype: type[np.int64] | type[np.uint32] = np.int64
) -> Integer[np.ndarray, " N"]:
    """All primes up to `limit`, ascending.

    About a second for 10⁹. 8 bytes a prime, or 4 as uint32, which holds primes below 2³²;
    `prime_segments` goes through them in memory that does not grow.

    Raises: InputError for a negative limit, or for more primes than memory holds.
    Source: the segmented sieve of Eratosthenes (Bays and Hudson, 1977).
    """
    last = whole_number(limit, "limit", 0, min(_SIEVE_LIMIT, int(np.iinfo(dtype).max)))
    size = _most_primes(last)
    require_memory(np.dtype(dtype).itemsize * size, f"The list of all primes up to {last:,}")
    primes = np.empty(size, dtype)
    count = 0
    for segment in prime_segments(last):
        primes[count : count + len(segment)] = segment
        count += len(segment)
    # Gives the rest back to the system, where slicing would keep it.
    primes.resize(count, refcheck=False)
    return primes


def prime_segments(
    limit: SupportsIndex, start: SupportsIndex = 0
) -> Iterator[Int64[np.ndarray, " N"]]:
    """All primes from `start` to `limit`, ascending, in arrays of some 100,000.

    Memory grows with √limit alone: 10 MB for 10⁹, 1.5 GB at the end of the reach, 2⁶².

    Raises: InputError for negative numbers or a limit beyond the reach.
    """
    low, high = whole_number(start, "start", 0), whole_number(limit, "limit", 0, _SIEVE_LIMIT)
    require_memory(16 * _most_primes(math.isqrt(high)), f"Sieving up to {high:,}")
    return _segments(low, high)


def _segments(low: int, high: int) -> Iterator[Int64[np.ndarray, " N"]]:
    if high <= _NUMPY_LIMIT:
        primes = _small_primes(high)
        yield primes[np.searchsorted(primes, low) :]
        return
    from cllm.numbers.sieve import SMALL_PRIMES, odd_primes_between

    if low <= SMALL_PRIMES[-1]:
        yield np.array([prime for prime in SMALL_PRIMES if prime >= low], np.int64)
    base = primes_up_to(math.isqrt(high))[len(SMALL_PRIMES) :]
    # Brun and Titchmarsh: at most 2y / log y primes among y numbers (Montgomery, Vaughan, 1973).
    found = np.empty(int(2 * _WINDOW / math.log(_WINDOW)) + 1, np.int64)
    for first in range(max(low, SMALL_PRIMES[-1] + 4) | 1, high + 1, _WINDOW):
        count = odd_primes_between(first, min(first + _WINDOW - 2, high), base, found)
        yield found[:count].copy()


def _small_primes(limit: int) -> Int64[np.ndarray, " N"]:
    # Index i stands for 2i + 1, and index 0 for the prime 2.
    if limit < 2:
        return np.empty(0, np.int64)
    is_prime_odd = np.ones((limit + 1) // 2, bool)
    for index in range(1, math.isqrt(limit) // 2 + 1):
        if is_prime_odd[index]:
            prime = 2 * index + 1
            is_prime_odd[prime * prime // 2 :: prime] = False
    primes = 2 * np.flatnonzero(is_prime_odd) + 1
    primes[0] = 2
    return primes.astype(np.int64, copy=False)


def _most_primes(limit: int) -> int:
    """No fewer than the primes up to `limit`. Source: Dusart, 1999, for limit > 1."""
    if limit < 17:
        return 6
    log = math.log(limit)
    return int(limit / log * (1 + 1.2762 / log)) + 1


def first_primes(count: SupportsIndex) -> Int64[np.ndarray, " count"]:
    """The first `count` primes. Raises: InputError for a negative count, or too large a one."""
    number = whole_number(count, "count", 0, _NTH_LIMIT)
    if number < 6:
        return np.array([2, 3, 5, 7, 11, 13][:number], np.int64)
    require_memory(8 * number, f"The list of the first {number:,} primes")
    log = math.log(number)
    # The n-th prime is less than n(log n + log log n) for n ≥ 6 (Rosser, 1941).
    primes = primes_up_to(int(number * (log + math.log(log))) + 1)
    primes.resize(number, refcheck=False)
    return primes


def prime_pi(x: SupportsIndex) -> int:
    """π(x), the number of primes up to x.

    Exact. 0.1 s for 10¹², 3 s for 10¹⁴; time grows as x^¾ / log x, memory as √x.

    Raises: InputError for a negative x or one of 2⁵³ and more.
    """
    number = whole_number(x, "x", 0, _COUNT_LIMIT)
    if number <= _NUMPY_LIMIT:
        return len(_small_primes(number))
    from cllm.numbers.prime_count import count_primes

    root = math.isqrt(number)
    require_memory(9 * root, f"Counting the primes up to {number:,}")
    return count_primes(number, root)


def nth_prime(n: SupportsIndex) -> int:
    """The n-th prime; the first is 2.

    Exact. Time as for `prime_pi` of the result: 10 ms for n = 10⁹, 1.5 s for 10¹².

    Raises: InputError for n below 1 or above 2.5 · 10¹⁴.
    """
    index = whole_number(n, "n", 1, _NTH_LIMIT)
    if index <= 50_000:
        return int(first_primes(index)[-1])
    guess = _inverse_riemann(index)
    missing = index - prime_pi(guess)
    # Twice as far as so many primes reach on average.
    width = int((abs(missing) + 20) * 2 * math.log(guess))
    while True:
        low, high = (guess + 1, guess + width) if missing > 0 else (guess - width, guess)
        near = np.concatenate(list(prime_segments(high, low)))
        if len(near) >= (missing if missing > 0 else 1 - missing):
            return int(near[missing - 1])
        width *= 2


def _inverse_riemann(n: int) -> int:
    """Where Riemann's R, the smooth part of π, reaches n; off by about √n."""
    x = n * math.log(n)
    for _ in range(50):
        # R′ is nearly 1 / log x.
        step = (_riemann(x) - n) * math.log(x)
        x -= step
        if abs(step) < 0.5:
            break
    return int(x)


def _riemann(x: float) -> float:
    """R(x) = 1 + Σ (log x)^k / (k · k! · ζ(k + 1)). Source: Gram, 1884."""
    log, term, total = math.log(x), 1.0, 1.0
    for k, zeta in enumerate(_zetas(), 1):
        term *= log / k
        total += term / (k * zeta)
    return total


@functools.cache
def _zetas() -> tuple[float, ...]:
    # Terms beyond are below 10⁻⁶ of the last count that can be reached, log x < 37.
    return tuple(float(arb(k + 1).zeta()) for k in range(1, 150))


def is_prime(n: SupportsIndex) -> bool:
    """Whether n is a prime, proven.

    Below 2⁶⁴ in microseconds; above by a proof (Pocklington, Morrison or APR-CL, in FLINT), which
    takes seconds at 300 digits. Negative numbers are no primes.
    """
    return bool(fmpz(whole_number(n, "n")).is_prime())


def next_prime(n: SupportsIndex) -> int:
    """The least prime above n."""
    number = whole_number(n, "n")
    if number < 2:
        return 2
    for candidate in itertools.count(number + 1 | 1, 2):
        if _is_likely_prime(candidate) and is_prime(candidate):
            return candidate
    raise AssertionError("there is always another prime")


def previous_prime(n: SupportsIndex) -> int:
    """The greatest prime below n. Raises: InputError for n up to 2, where there is none."""
    number = whole_number(n, "n", 3)
    if number == 3:
        return 2
    candidate = (number - 2) | 1
    while not (_is_likely_prime(candidate) and is_prime(candidate)):
        candidate -= 2
    return candidate


def _is_likely_prime(n: int) -> bool:
    return bool(fmpz(n).is_probable_prime())


def factorise(n: SupportsIndex) -> dict[int, int]:
    """The primes that divide n ≥ 1, ascending, and how often: {2: 3, 3: 1} for 24, {} for 1.

    Milliseconds up to 20 digits, seconds at 50, hours at 100 for two primes of one length
    (quadratic sieve, in FLINT). Every factor is proven to be prime.

    Raises: InputError for n below 1.
    """
    number = whole_number(n, "n", 1)
    factors = {int(prime): int(power) for prime, power in fmpz(number).factor()}
    assert all(is_prime(prime) for prime in factors)
    return dict(sorted(factors.items()))
