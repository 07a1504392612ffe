"""Count the primes up to x without finding them, in machine code."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, Int64

from cllm.numbers.compiled import compiled


@compiled
def count_primes(x: int, root: int) -> int:
    """The number of primes up to x, 3 ≤ x < 2⁵³; `root` is ⌊√x⌋.

    The odd primes up to x^¼ are sieved out of the values ⌊x/m⌋ alone, one after the other. What
    is left is prime or a product of two primes; those products are counted and taken off.
    Time x^¾ / log x, memory 9√x bytes.

    Source: Legendre's formula over the values ⌊x/m⌋ (Lucy Hedgehog, Project Euler 10, 2013), cut
    off at x^¼ with Meissel's term P₂ (Lagarias, Miller, Odlyzko, 1985).
    """
    # Counts are of odd numbers from 3 on that no prime so far divides, and of those primes.
    # small[i] counts up to 2i + 1 and large[k] up to ⌊x / rough[k]⌋; rough has the odd numbers
    # up to √x, 1 included, that no prime so far divides.
    size = (root + 1) // 2
    small = np.arange(size).astype(np.int32)
    rough = (2 * np.arange(size) + 1).astype(np.int32)
    large = np.empty(size, np.int64)
    for k in range(size):
        large[k] = (x // (2 * k + 1) - 1) // 2
    is_crossed = np.zeros(root + 1, np.bool_)
    num_sieved = 0
    for prime in range(3, root + 1, 2):
        if prime * prime > root:
            break
        if is_crossed[prime]:
            continue
        is_crossed[prime] = True
        for multiple in range(prime * prime, root + 1, 2 * prime):
            is_crossed[multiple] = True
        kept = 0
        for k in range(size):
            if is_crossed[rough[k]]:
                continue
            divisor = rough[k] * prime
            if divisor <= root:
                below = large[small[divisor // 2] - num_sieved]
            else:
                below = np.int64(small[_half(x, int(divisor))])
            large[kept] = large[k] - below + num_sieved
            rough[kept] = rough[k]
            kept += 1
        size = kept
        _sieve_small(small, prime, root, num_sieved)
        num_sieved += 1
    return 1 + _without_products(x, num_sieved, small, rough[:size], large[:size])


@compiled
def _half(x: int, divisor: int) -> int:
    """The index of ⌊x / divisor⌋ in a table of odd numbers."""
    # A double divides faster, and exactly enough: below 2⁵³ no quotient rounds up to an integer.
    return (int(float(x) / float(divisor)) - 1) >> 1


@compiled
def _sieve_small(small: Int32[np.ndarray, " N"], prime: int, root: int, num_sieved: int) -> None:
    """Take the numbers whose least factor is `prime` out of the counts, from above."""
    index = (root - 1) // 2
    for factor in range((root // prime - 1) | 1, prime - 1, -2):
        removed = small[factor // 2] - num_sieved
        for place in range((factor * prime) // 2, index + 1):
            small[place] -= removed
        index = (factor * prime) // 2 - 1


@compiled
def _without_products(
    x: int,
    num_sieved: int,
    small: Int32[np.ndarray, " N"],
    rough: Int32[np.ndarray, " K"],
    large: Int64[np.ndarray, " K"],
) -> int:
    """The odd primes up to x, from the counts that no prime up to x^¼ divides."""
    size = len(rough)
    count = large[0] + (size + 2 * (num_sieved - 1)) * (size - 1) // 2
    for k in range(1, size):
        count -= large[k]
    for k in range(1, size):
        quotient = int(float(x) / float(rough[k]))
        last = small[_half(quotient, int(rough[k]))] - num_sieved
        if last <= k:
            break
        for j in range(k + 1, last + 1):
            count += small[_half(quotient, int(rough[j]))]
        count -= (last - k) * (num_sieved + k - 1)
    return int(count)
