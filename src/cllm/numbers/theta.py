"""Theta series: how many vectors of each norm a lattice has, by number theory alone.

The norms of A2, D4, E8 and the Leech lattice are even; term m counts the vectors of norm 2m.
Source: Conway and Sloane, SPLAG, chapter 4.
"""

from __future__ import annotations

from cllm.numbers.arithmetic import divisors
from cllm.numbers.checks import whole_number
from cllm.numbers.lattices import known_name


def theta_series(name: str, num_terms: int) -> list[int]:
    """The numbers of vectors of norm 0, 2, 4, … of "A2", "D4", "E8" or "Leech".

    O(num_terms²) operations. Raises: InputError for another name or fewer than one term.
    """
    count = whole_number(num_terms, "num_terms", 1) - 1
    terms = {"A2": _a2, "D4": _d4, "E8": _e8, "Leech": _leech}
    return [1, *terms[known_name(name)](count)]


def ramanujan_tau(num_terms: int) -> list[int]:
    """τ(1), τ(2), …: the coefficients of q·∏(1 − qⁿ)²⁴. O(num_terms²) operations."""
    series = [1, *[0] * (num_terms - 1)]
    for _ in range(24):
        for n in range(1, num_terms):
            for k in range(num_terms - 1, n - 1, -1):
                series[k] -= series[k - n]
    return series[:num_terms]


def divisor_power_sum(m: int, power: int) -> int:
    """σₖ(m), the sum of the k-th powers of the divisors of m ≥ 1."""
    return sum(d**power for d in divisors(m))


def _a2(count: int) -> list[int]:
    # The character mod 3: 0, 1, −1 for d ≡ 0, 1, 2.
    return [6 * sum((0, 1, -1)[d % 3] for d in divisors(m)) for m in range(1, count + 1)]


def _d4(count: int) -> list[int]:
    return [24 * sum(d for d in divisors(m) if d % 2) for m in range(1, count + 1)]


def _e8(count: int) -> list[int]:
    return [240 * divisor_power_sum(m, 3) for m in range(1, count + 1)]


def _leech(count: int) -> list[int]:
    tau = ramanujan_tau(count)
    weights = [divisor_power_sum(m, 11) for m in range(1, count + 1)]
    return [65520 * (a - b) // 691 for a, b in zip(weights, tau, strict=True)]
