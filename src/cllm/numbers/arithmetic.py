"""Arithmetic functions of one number from its factors: totient, Möbius, divisors and others.

Their tables over all numbers up to a limit are in `arithmetic_tables`.
"""

from __future__ import annotations

import math
from typing import SupportsIndex

from cllm.numbers.checks import require_memory
from cllm.numbers.primes import factorise

# What a Python integer of 64 bits takes, with its place in a list.
_INTEGER_BYTES = 40


def totient(n: SupportsIndex) -> int:
    """φ(n): how many of 1..n are coprime to n. Raises: InputError for n below 1."""
    result = 1
    for prime, power in factorise(n).items():
        result *= prime ** (power - 1) * (prime - 1)
    return result


def mobius(n: SupportsIndex) -> int:
    """μ(n): 0 where a square above 1 divides n, else (−1)^(number of primes that divide it).

    Raises: InputError for n below 1.
    """
    powers = factorise(n).values()
    return 0 if any(power > 1 for power in powers) else (-1) ** len(powers)


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
    return math.prod(power + 1 for power in factorise(n).values())


def divisor_sum(n: SupportsIndex) -> int:
    """σ(n): the sum of the positive divisors of n. Raises: InputError for n below 1."""
    factors = factorise(n).items()
    return math.prod((prime ** (power + 1) - 1) // (prime - 1) for prime, power in factors)


def divisors(n: SupportsIndex) -> list[int]:
    """The positive divisors of n, ascending.

    Raises: InputError for n below 1, or for more divisors than memory holds.
    """
    factors = factorise(n)
    count = math.prod(power + 1 for power in factors.values())
    require_memory(_INTEGER_BYTES * count, f"A list of {count:,} divisors")
    found = [1]
    for prime, power in factors.items():
        powers = [prime**exponent for exponent in range(power + 1)]
        found = [divisor * factor for divisor in found for factor in powers]
    return sorted(found)
