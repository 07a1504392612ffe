"""The segmented sieve of Eratosthenes over odd numbers, in machine code."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from cllm.numbers.compiled import compiled

# Multiples of these are crossed off by copying a pattern that repeats every 15,015 odd numbers.
SMALL_PRIMES = (2, 3, 5, 7, 11, 13)
_PERIOD = 3 * 5 * 7 * 11 * 13
# Odd numbers a segment: so many bytes stay in the second-level cache.
_SEGMENT = 1 << 17


@compiled
def odd_primes_between(
    low: int, high: int, base: Int64[np.ndarray, " N"], out: Int64[np.ndarray, " M"]
) -> int:
    """Write the primes of low..high to `out` in order, and return how many they are.

    `low` is odd and at least 17, `base` all primes from 17 to at least √high, and `out` has one
    place more than there are primes. Time (high − low)·log log high, plus len(base).
    """
    pattern = np.ones(_SEGMENT + _PERIOD, np.uint8)
    for prime in (3, 5, 7, 11, 13):
        # Index i stands for 2i + 1.
        for index in range(prime // 2, len(pattern), prime):
            pattern[index] = 0
    upcoming = np.empty(len(base), np.int64)
    for j in range(len(base)):
        prime = base[j]
        multiple = max(prime * prime, (low + prime - 1) // prime * prime)
        upcoming[j] = (multiple + (0 if multiple & 1 else prime) - low) // 2
    flags = np.empty(_SEGMENT, np.uint8)
    total, count = (high - low) // 2 + 1, 0
    for start in range(0, total, _SEGMENT):
        length = min(_SEGMENT, total - start)
        first = low + 2 * start
        phase = first // 2 % _PERIOD
        flags[:length] = pattern[phase : phase + length]
        last = first + 2 * (length - 1)
        for j in range(len(base)):
            prime = base[j]
            if prime * prime > last:
                break
            index = upcoming[j] - start
            while index < length:
                flags[index] = 0
                index += prime
            upcoming[j] = index + start
        for index in range(length):
            out[count] = first + 2 * index
            count += flags[index]
    return count
