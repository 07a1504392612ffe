"""Arithmetic functions of all numbers up to a limit at once, in machine code.

Each table has limit + 1 places, and place n holds the value at n; place 0 holds 0. Raises:
InputError for a negative limit, or one whose table memory does not hold.
"""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np
from jaxtyping import Float64, Int8, Int64

from cllm.numbers.checks import require_memory, whole_number
from cllm.numbers.compiled import compiled


def smallest_prime_factors(limit: SupportsIndex) -> Int64[np.ndarray, " N"]:
    """The least prime that divides n, and 1 for n = 1. 12 bytes a number while it is made."""
    last = _checked(limit, 12)
    factors = np.zeros(last + 1, np.int64)
    _fill_factors(factors)
    return factors


def totients(limit: SupportsIndex) -> Int64[np.ndarray, " N"]:
    """Euler's φ(n). 20 bytes a number while it is made."""
    last = _checked(limit, 20)
    factors, values = smallest_prime_factors(last), np.zeros(last + 1, np.int64)
    _fill_totients(factors, values)
    return values


def mobius_table(limit: SupportsIndex) -> Int8[np.ndarray, " N"]:
    """Möbius' μ(n). 13 bytes a number while it is made."""
    last = _checked(limit, 13)
    factors, values = smallest_prime_factors(last), np.zeros(last + 1, np.int8)
    _fill_mobius(factors, values)
    return values


def von_mangoldt_table(limit: SupportsIndex) -> Float64[np.ndarray, " N"]:
    """Λ(n) in nats: log p at the powers of a prime p, else 0.

    36 bytes a number while it is made.
    """
    last = _checked(limit, 36)
    factors = smallest_prime_factors(last)
    is_prime = factors == np.arange(last + 1)
    is_prime[:2] = False
    values, primes = np.zeros(last + 1, np.float64), np.flatnonzero(is_prime)
    logs = np.log(primes.astype(np.float64))
    powers = primes
    while len(powers):
        values[powers] = logs
        # p^k · p ≤ limit, asked without a product that may overflow.
        fits = powers <= last // primes
        primes, logs = primes[fits], logs[fits]
        powers = powers[fits] * primes
    return values


def divisor_counts(limit: SupportsIndex) -> Int64[np.ndarray, " N"]:
    """How many positive numbers divide n. 20 bytes a number while it is made."""
    last = _checked(limit, 20)
    factors, values = smallest_prime_factors(last), np.zeros(last + 1, np.int64)
    _fill_divisor_counts(factors, values)
    return values


def _checked(limit: SupportsIndex, bytes_per_number: int) -> int:
    last = whole_number(limit, "limit", 0)
    require_memory(bytes_per_number * (last + 1), "The table")
    return last


@compiled
def _fill_factors(factors: Int64[np.ndarray, " N"]) -> None:
    """Euler's sieve: every composite is crossed off once, by its least prime."""
    size = len(factors)
    primes = np.empty(size // 2 + 2, np.int64)
    count = 0
    if size > 1:
        factors[1] = 1
    for n in range(2, size):
        if factors[n] == 0:
            factors[n] = n
            primes[count] = n
            count += 1
        least = factors[n]
        for j in range(count):
            prime = primes[j]
            if prime > least or prime * n >= size:
                break
            factors[prime * n] = prime


@compiled
def _fill_totients(factors: Int64[np.ndarray, " N"], values: Int64[np.ndarray, " N"]) -> None:
    values[1:2] = 1
    for n in range(2, len(values)):
        prime = factors[n]
        rest = n // prime
        values[n] = values[rest] * (prime if factors[rest] == prime else prime - 1)


@compiled
def _fill_mobius(factors: Int64[np.ndarray, " N"], values: Int8[np.ndarray, " N"]) -> None:
    values[1:2] = 1
    for n in range(2, len(values)):
        rest = n // factors[n]
        values[n] = 0 if factors[rest] == factors[n] else -values[rest]


@compiled
def _fill_divisor_counts(factors: Int64[np.ndarray, " N"], values: Int64[np.ndarray, " N"]) -> None:
    values[1:2] = 1
    for n in range(2, len(values)):
        prime, rest, power = factors[n], n, 0
        while factors[rest] == prime:
            rest //= prime
            power += 1
        values[n] = values[rest] * (power + 1)
