"""Residues: systems of them, inverses, simultaneous congruences, orders and primitive roots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Int64

from cllm.errors import InputError
from cllm.numbers.arithmetic import totient, totient_of
from cllm.numbers.checks import require_memory, short_text, whole_number
from cllm.numbers.primes import factorise


class Congruence(NamedTuple):
    """All numbers that leave `residue`, 0 ≤ residue < modulus, when divided by `modulus`."""

    residue: int
    modulus: int


class Bezout(NamedTuple):
    """gcd = a·first + b·second, for the a and b it was asked for."""

    gcd: int
    first: int
    second: int


def bezout(a: SupportsIndex, b: SupportsIndex) -> Bezout:
    """The greatest common divisor, at least 0, and the two factors that combine to it.

    Source: the extended Euclidean algorithm.
    """
    first, second = whole_number(a, "a"), whole_number(b, "b")
    x, next_x, y, next_y = 1, 0, 0, 1
    while second:
        quotient = first // second
        first, second = second, first - quotient * second
        x, next_x = next_x, x - quotient * next_x
        y, next_y = next_y, y - quotient * next_y
    return Bezout(first, x, y) if first >= 0 else Bezout(-first, -x, -y)


def are_coprime(numbers: Sequence[SupportsIndex]) -> bool:
    """Whether no two of the numbers have a common factor above 1."""
    product = 1
    for value in numbers:
        number = whole_number(value, "numbers")
        if math.gcd(product, number) != 1:
            return False
        product *= number
    return True


def inverse(a: SupportsIndex, modulus: SupportsIndex) -> int:
    """The number b, 0 ≤ b < modulus, with a·b ≡ 1.

    Raises: InputError where a and the modulus have a common factor, or for a modulus below 1.
    """
    number, divisor = whole_number(a, "a"), whole_number(modulus, "modulus", 1)
    common = math.gcd(number, divisor)
    if common != 1:
        raise InputError(
            f"{short_text(number)} has no inverse modulo {short_text(divisor)}",
            where="a",
            hint=f"Both are divisible by {short_text(common)}.",
        )
    return pow(number, -1, divisor)


def residues(modulus: SupportsIndex) -> range:
    """The complete residue system 0 … modulus − 1. Raises: InputError for a modulus below 1."""
    return range(whole_number(modulus, "modulus", 1))


def reduced_residues(modulus: SupportsIndex) -> Int64[np.ndarray, " N"]:
    """The residues that are coprime to the modulus, ascending: φ(modulus) of them.

    9 bytes a residue. Raises: InputError for a modulus below 1, or too large a one.
    """
    divisor = whole_number(modulus, "modulus", 1)
    require_memory(9 * divisor, "The reduced residue system")
    is_coprime = np.ones(divisor, bool)
    for prime in factorise(divisor):
        is_coprime[::prime] = False
    return np.flatnonzero(is_coprime).astype(np.int64, copy=False)


def chinese_remainder(
    remainders: Sequence[SupportsIndex], moduli: Sequence[SupportsIndex]
) -> Congruence:
    """The one congruence that says the same as all x ≡ remainders[i] modulo moduli[i].

    Its modulus is the least common multiple; the moduli need not be coprime.

    Raises: InputError where two congruences contradict each other, the lengths differ, or a
    modulus is below 1.
    """
    if len(remainders) != len(moduli):
        message = f"there are {len(remainders)} remainders and {len(moduli)} moduli"
        raise InputError(message, where="moduli", hint="Give as many of each.")
    joined = Congruence(0, 1)
    for remainder, modulus in zip(remainders, moduli, strict=True):
        number, divisor = whole_number(remainder, "remainders"), whole_number(modulus, "moduli", 1)
        joined = _join(joined, Congruence(number % divisor, divisor))
    return joined


def _join(one: Congruence, other: Congruence) -> Congruence:
    common = math.gcd(one.modulus, other.modulus)
    difference = other.residue - one.residue
    if difference % common:
        raise InputError(
            f"no number is {short_text(other.residue)} modulo {short_text(other.modulus)} and "
            f"meets the congruences before it",
            where="remainders",
            hint=f"Modulo {short_text(common)}, which divides both moduli, they ask for "
            f"{short_text(one.residue % common)} and {short_text(other.residue % common)}.",
        )
    step = other.modulus // common
    steps = difference // common * pow(one.modulus // common, -1, step) % step
    return Congruence(one.residue + one.modulus * steps, one.modulus * step)


def multiplicative_order(a: SupportsIndex, modulus: SupportsIndex) -> int:
    """The least k ≥ 1 with a^k ≡ 1. The modulus and its totient are factorised.

    Raises: InputError where a and the modulus have a common factor, or for a modulus below 1.
    """
    inverse(a, modulus)  # refuses what has no order
    number, divisor = whole_number(a, "a"), whole_number(modulus, "modulus", 1)
    order = totient(divisor)
    for prime, power in factorise(order).items():
        for _ in range(power):
            if pow(number, order // prime, divisor) != 1 % divisor:
                break
            order //= prime
    return order


def primitive_root(modulus: SupportsIndex) -> int:
    """The least g ≥ 0 whose powers are all the residues coprime to the modulus.

    Raises: InputError where there is none: for moduli other than 1, 2, 4, p^k and 2p^k.
    Source: Gauss, Disquisitiones Arithmeticae, 1801, §§ 57 and 92.
    """
    divisor = whole_number(modulus, "modulus", 1)
    factors = factorise(divisor)
    odd_primes = [prime for prime in factors if prime > 2]
    has_one = divisor in (1, 2, 4) or (len(odd_primes) == 1 and divisor % 4 != 0)
    if not has_one:
        raise InputError(
            f"{short_text(divisor)} has no primitive root",
            where="modulus",
            hint="Only 1, 2, 4, the powers of an odd prime and twice those have one.",
        )
    size = totient_of(factors)
    exponents = [size // prime for prime in factorise(size)]
    for candidate in range(divisor):
        if math.gcd(candidate, divisor) == 1 and all(
            pow(candidate, exponent, divisor) != 1 for exponent in exponents
        ):
            return candidate
    raise AssertionError("Gauss proved that there is one")
