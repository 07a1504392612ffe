"""Arithmetic functions of one number from its factors: totient, Möbius, divisors and others.

Those that end in `_of` take the factors as `factorise` gives them: {prime: power}.
Their tables over all numbers up to a limit are in `arithmetic_tables`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import SupportsIndex

from cllm.numbers.checks import require_memory
from cllm.numbers.primes import factorise

# What a Python integer of 64 bits takes, with its place in a list.
_INTEGER_BYTES = 40


def totient(n: SupportsIndex) -> int:
    """φ(n): how many of 1..n are coprime to n. Raises: InputError for n below 1."""
    return totient_of(factorise(n))


def totient_of(factors: Mapping[int, int]) -> int:
    """φ of the number with these factors."""
    return math.prod(prime ** (power - 1) * (prime - 1) for prime, power in factors.items())


def mobius(n: SupportsIndex) -> int:
    """μ(n): 0 where a square above 1 divides n, else (−1)^(number of primes that divide it).

    Raises: InputError for n below 1.
    """
    return mobius_of(factorise(n))


def mobius_of(factors: Mapping[int, int]) -> int:
    """μ of the number with these factors."""
    return 0 if any(power > 1 for power in factors.values()) else (-1) ** len(factors)


def von_mangoldt(n: SupportsIndex) -> float:
    """Λ(n): log p where n is a power of the prime p, else 0; in nats.

    The sum over the divisors of n is log n. Raises: InputError for n below 1.
    """
    factors = factorise(n)
    return math.log(next(iter(factors))) if len(factors) == 1 else 0.0


def radical(n: SupportsIndex) -> int:
    """The product of the primes that divide n, each once. Raises: InputError for n below 1."""
    return math.prod(factorise(n))


def num_divisors(n: SupportsIndex) -> int:
    """How many positive numbers divide n. Raises: InputError for n below 1."""
    return num_divisors_of(factorise(n))


def num_divisors_of(factors: Mapping[int, int]) -> int:
    """How many positive numbers divide the number with these factors."""
    return math.prod(power + 1 for power in factors.values())


def divisor_sum(n: SupportsIndex) -> int:
    """σ(n): the sum of the positive divisors of n. Raises: InputError for n below 1."""
    return divisor_sum_of(factorise(n))


def divisor_sum_of(factors: Mapping[int, int]) -> int:
    """σ of the number with these factors."""
    sums = ((prime ** (power + 1) - 1) // (prime - 1) for prime, power in factors.items())
    return math.prod(sums)


def divisors(n: SupportsIndex) -> list[int]:
    """The positive divisors of n, ascending.

    Raises: InputError for n below 1, or for more divisors than memory holds.
    """
    return divisors_of(factorise(n))


def divisors_of(factors: Mapping[int, int]) -> list[int]:
    """The positive divisors, ascending, of the number with these factors.

    Raises: InputError for more divisors than memory holds.
    """
    count = num_divisors_of(factors)
    require_memory(_INTEGER_BYTES * count, f"A list of {count:,} divisors")
    found = [1]
    for prime, power in factors.items():
        powers = [prime**exponent for exponent in range(power + 1)]
        found = [divisor * factor for divisor in found for factor in powers]
    return sorted(found)
