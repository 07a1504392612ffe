"""How fast the prime library is, against sympy in the same process."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy
from sympy.core.cache import clear_cache
from sympy.ntheory.factor_ import factor_cache

from cllm.jobs.memory import peak_rss_bytes
from cllm.numbers import arithmetic_tables, primes
from surroundings import surroundings

RUNS = 5
# Numbers of 12 to 15 digits, the same in every run.
NUMBERS = [random.Random(1).randrange(10**11, 10**15) for _ in range(200)]

Task = Callable[[], Any]
# What is compared, ours before sympy's; both must give the same numbers.
TASKS: dict[str, tuple[Task, Task]] = {
    "primes up to 10^7": (
        lambda: primes.primes_up_to(10**7),
        lambda: list(sympy.sieve.primerange(10**7)),
    ),
    "the 10^6-th prime": (lambda: primes.nth_prime(10**6), lambda: sympy.prime(10**6)),
    "pi(10^9)": (lambda: primes.prime_pi(10**9), lambda: int(sympy.primepi(10**9))),
    "200 factorisations": (
        lambda: [primes.factorise(number) for number in NUMBERS],
        lambda: [sympy.factorint(number) for number in NUMBERS],
    ),
    "totients up to 10^6": (
        lambda: arithmetic_tables.totients(10**6)[1:],
        lambda: list(sympy.sieve.totientrange(1, 10**6 + 1)),
    ),
    "Moebius up to 10^6": (
        lambda: arithmetic_tables.mobius_table(10**6)[1:],
        lambda: list(sympy.sieve.mobiusrange(1, 10**6 + 1)),
    ),
}
# Too long for sympy. The two that need most memory come first, for their peaks.
ALONE: dict[str, Task] = {
    "sieve_1e9": lambda: sum(map(len, primes.prime_segments(10**9))),
    "list_1e9_uint32": lambda: len(primes.primes_up_to(10**9, np.uint32)),
    "pi_1e12": lambda: primes.prime_pi(10**12),
    "pi_1e13": lambda: primes.prime_pi(10**13),
    "nth_1e10": lambda: primes.nth_prime(10**10),
    "factors_1e7": lambda: len(arithmetic_tables.smallest_prime_factors(10**7)),
}


def seconds(task: Task) -> tuple[list[float], Any]:
    """Wall seconds of `RUNS` runs, after one that is thrown away, and the result."""
    taken = []
    result = None
    for _ in range(RUNS + 1):
        # It would give the last run's results again.
        sympy.sieve._reset()
        factor_cache.cache_clear()
        clear_cache()
        start = time.perf_counter()
        result = task()
        taken.append(time.perf_counter() - start)
    return taken[1:], result


def main() -> None:
    figures: dict[str, object] = {}
    for name, task in ALONE.items():
        taken, result = seconds(task)
        median, spread = statistics.median(taken), max(taken) - min(taken)
        peak = round(peak_rss_bytes() / 1e6)
        print(f"{name:20} {median:10.5f} s ± {spread:.5f} {result:>16,}   peak {peak} MB")
        figures[name] = {"s": median, "spread_s": spread, "peak_mb": peak}
    print(f"\n{'':20} {'cllm':>11} {'sympy':>11} {'times':>7}")
    for name, (ours, peer) in TASKS.items():
        (own, result), (other, expected) = seconds(ours), seconds(peer)
        assert np.array_equal(result, expected), name
        own_s, other_s = statistics.median(own), statistics.median(other)
        print(f"{name:20} {own_s:9.5f} s {other_s:9.4f} s {other_s / own_s:7.0f}")
        figures[name] = {
            "s": own_s,
            "spread_s": max(own) - min(own),
            "sympy_s": other_s,
            "sympy_spread_s": max(other) - min(other),
            "times": round(other_s / own_s, 1),
        }
    result = {"benchmark": "primes", **figures, "runs": RUNS, "sympy": sympy.__version__}
    print(json.dumps(result | surroundings()))


if __name__ == "__main__":
    main()
