"""What a pair costs by gcd, by log gcd over prime features, and by a 128-wide dot product.

All pairs of 1,000 × 1,000 numbers on one thread, each way as fast as we know how to make it. The
numbers are ranks of a vocabulary, up to 50,000, and then codes of 40 bits.
"""

from __future__ import annotations

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import json
import math
import statistics
import time
from collections.abc import Callable

import numba
import numpy as np

from cllm.numbers.kernels import gcd_kernel, log_gcd_kernel
from cllm.numbers.primes import factorise
from surroundings import surroundings

RUNS = 9
SIDE, WIDTH = 1_000, 128
LIMITS = {"50000": 50_000, "2^40": 2**40}


@numba.njit
def euclid(rows, columns, out):
    """Euclid's algorithm, pair by pair, as a C program would have it."""
    for i in range(len(rows)):
        for j in range(len(columns)):
            a, b = rows[i], columns[j]
            while b:
                a, b = b, a % b
            out[i, j] = a


@numba.njit
def merged(left, left_ends, right, right_ends, weights, out):
    """Sum the weights of the features that two sorted lists share: log gcd."""
    for i in range(len(left_ends) - 1):
        for j in range(len(right_ends) - 1):
            p, q, total = left_ends[i], right_ends[j], np.float32(0.0)
            while p < left_ends[i + 1] and q < right_ends[j + 1]:
                a, b = left[p], right[q]
                if a == b:
                    total += weights[a]
                p += a <= b
                q += b <= a
            out[i, j] = total


@numba.njit(fastmath=True)
def dots(rows, columns, out):
    """Dot products pair by pair: no product of matrices, which would reuse registers."""
    for i in range(len(rows)):
        for j in range(len(columns)):
            total = np.float32(0.0)
            for k in range(rows.shape[1]):
                total += rows[i, k] * columns[j, k]
            out[i, j] = total


def nanoseconds(work: Callable[[], object]) -> list[float]:
    """Processor nanoseconds a pair, of `RUNS` runs after one that is thrown away.

    All is done on one thread, and others' work on the machine does not count.
    """
    found = []
    for _ in range(RUNS + 1):
        start = time.process_time()
        work()
        found.append((time.process_time() - start) / SIDE**2 * 1e9)
    return found[1:]


def prime_powers(numbers: np.ndarray) -> list[list[tuple[int, int]]]:
    """(p^e, p) for each prime power in each number."""
    factors = [factorise(number) for number in numbers.tolist()]
    return [[(p**e, p) for p, most in own.items() for e in range(1, most + 1)] for own in factors]


def sparse(owned: list[list[tuple[int, int]]], place: dict[int, int]):
    """The features of each number as one array of sorted columns, and where each number's end."""
    lists = [sorted(place[power] for power, _ in own) for own in owned]
    ends = np.cumsum([0, *map(len, lists)])
    return np.array([column for own in lists for column in own], np.int32), ends


def gcd_ways(limit: int, generator: np.random.Generator) -> dict[str, Callable[[], object]]:
    """Every way for random numbers up to `limit`, checked against each other."""
    rows, columns = generator.integers(1, limit, (2, SIDE))
    found, logs = np.empty((SIDE, SIDE), np.int64), np.empty((SIDE, SIDE), np.float32)
    left, right = prime_powers(rows), prime_powers(columns)
    base = dict(sorted(pair for own in left + right for pair in own))
    place = {power: column for column, power in enumerate(base)}
    weights = np.log(np.array(list(base.values()))).astype(np.float32)
    lists = (*sparse(left, place), *sparse(right, place), weights, logs)
    ways: dict[str, Callable[[], object]] = {
        "math_gcd": lambda: [math.gcd(a, b) for a in rows.tolist() for b in columns.tolist()],
        "numpy_gcd": lambda: np.gcd.outer(rows, columns),
        "numba_euclid": lambda: euclid(rows, columns, found),
        "gcd_kernel": lambda: gcd_kernel(rows, columns),
        "log_gcd_kernel": lambda: log_gcd_kernel(rows, columns),
        "log_gcd_sparse_features": lambda: merged(*lists),
    }
    expected = np.gcd.outer(rows, columns)
    ways["numba_euclid"]()
    ways["log_gcd_sparse_features"]()
    assert (found == expected).all() and (gcd_kernel(rows, columns) == expected).all()
    assert np.allclose(logs, np.log(expected), atol=1e-4)
    return ways


def dot_ways(generator: np.random.Generator) -> dict[str, Callable[[], object]]:
    rows, columns = generator.standard_normal((2, SIDE, WIDTH)).astype(np.float32)
    out = np.empty((SIDE, SIDE), np.float32)
    dots(rows, columns, out)
    assert np.allclose(out, rows @ columns.T, atol=1e-4)
    return {
        "dot_128_matrix_product": lambda: np.matmul(rows, columns.T, out=out),
        "dot_128_pair_by_pair": lambda: dots(rows, columns, out),
    }


def main() -> None:
    generator = np.random.default_rng(0)
    ways = {
        f"{name}_{text}": way
        for text, limit in LIMITS.items()
        for name, way in gcd_ways(limit, generator).items()
    } | dot_ways(generator)
    result: dict[str, object] = {"benchmark": "gcd_kernels", "pairs": SIDE**2, "runs": RUNS}
    medians = {}
    for name, way in ways.items():
        found = nanoseconds(way)
        medians[name] = statistics.median(found)
        spread = max(found) - min(found)
        print(f"{name}: {medians[name]:.2f} ns a pair, spread {spread:.2f}")
        result |= {f"{name}_ns": round(medians[name], 2), f"{name}_spread_ns": round(spread, 2)}
    for text in LIMITS:
        for peer in ("dot_128_matrix_product", "dot_128_pair_by_pair"):
            ratio = medians[f"gcd_kernel_{text}"] / medians[peer]
            print(f"a gcd below {text} takes {ratio:.2f} times the {peer}")
            result[f"gcd_{text}_over_{peer}"] = round(ratio, 2)
    print(json.dumps(result | surroundings()))


if __name__ == "__main__":
    main()
