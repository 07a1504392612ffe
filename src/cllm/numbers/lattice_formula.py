"""The master lattice formula: seven components of a rank n = 1, 2, 3, …, each on its own.

    L(n) = 3^O · ∏ cos(θ·φᵢ) · Γ(k) · ν(λ) · Λ · Ψ · log₂(n/p_n)

with k = ⌊n/12⌋, θ = 2πn/φ² (φ the golden ratio) and

    1. the exponent      O = (n − 1)·(π/6)/ln 3 + log₃ ν(λ) + k·π·(1 + √5)
    2. the waves         cos(θ·φᵢ) for the twelve dimensional frequencies φᵢ
    3. the twist         Γ(k) = (−1)^k
    4. the phonetic      ν(λ) = 3, the same for every rank
    5. Einstein's Λ      3/144000, the same for every rank
    6. the ratios        Ψ = ((p² − q²)/(p² + q²), 2pq/(p² + q²)) of a row of Plimpton 322
    7. the density       log₂(n/p_n), p_n the n-th prime

Ψ is a point of the unit circle, so L has two coordinates. As certified balls every component
has any precision; `formula_table` holds them as floats, the features of a model.

What is mended here. The prototype's θ = nπ/6 with whole φᵢ has only twelve distinct rows; with
the golden angle no two ranks agree. 3^O overflows a float at n = 500, so the table has O itself.
θ·φᵢ is reduced modulo a turn before it is rounded (`golden_turns`): in plain floats the last
digits are lost as n grows. Rank n takes tablet row ((n − 1) mod 15) + 1, which is n mod 15 with
row 15 for 0. ν and Λ are the same for all ranks, and are no columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import SupportsIndex

import numpy as np
from flint import arb
from jaxtyping import Float64

from cllm.numbers.checks import require_memory, whole_number
from cllm.numbers.einstein import LAMBDA
from cllm.numbers.plimpton import NUM_ROWS, tablet_rows
from cllm.numbers.primes import first_primes, nth_prime
from cllm.numbers.reals import Real, as_real
from cllm.numbers.spirals import golden_turns

FREQUENCIES = (3, 7, 31, 12, 19, 5, 11, 13, 17, 23, 29, 59)
PHONETIC_VALUE = 3
# Ranks that share a twist, k and the slow term of O.
RANKS_A_TURN = 12

WAVE_COLUMNS = tuple(f"wave_{frequency}" for frequency in FREQUENCIES)
# O, cos(θ·φᵢ), Γ(k), the two of Ψ, and log₂(n/p_n), in the table's order.
COLUMNS = ("exponent", *WAVE_COLUMNS, "twist", "ratio_short", "ratio_long", "density")

# Floats and 64-bit integers of the columns and what they are made from.
_BYTES_PER_RANK = 8 * (2 * len(COLUMNS) + 8)


@dataclass(frozen=True, slots=True)
class Components:
    """The seven components of one rank, and the formula's value, exact or as reals."""

    rank: int
    prime: int
    exponent: Real
    waves: tuple[Real, ...]
    twist: int
    phonetic: int
    einstein: Fraction
    ratios: tuple[Fraction, Fraction]
    density: Real
    value: tuple[Real, Real]


def components(rank: SupportsIndex, digits: int = 50) -> Components:
    """All components of one rank, and their product.

    Raises: InputError for a rank below 1 or beyond `nth_prime`, or digits beyond memory.
    """
    number = whole_number(rank, "rank", 1)
    prime = nth_prime(number)
    power, waves = exponent(number, digits), tuple(wave(number, f, digits) for f in FREQUENCIES)
    thickness = _density(number, prime, digits)
    product = Real(lambda bits: arb(PHONETIC_VALUE) ** power.enclosure(bits), digits)
    factors: list[Real | Fraction] = [*waves, thickness, twist(number) * PHONETIC_VALUE * LAMBDA]
    for factor in factors:
        product = product * factor
    short, long = ratios(number)
    return Components(
        rank=number,
        prime=prime,
        exponent=power,
        waves=waves,
        twist=twist(number),
        phonetic=PHONETIC_VALUE,
        einstein=LAMBDA,
        ratios=(short, long),
        density=thickness,
        value=(product * short, product * long),
    )


def exponent(rank: SupportsIndex, digits: int = 50) -> Real:
    """O = (n − 1)·(π/6)/ln 3 + log₃ ν + k·π·(1 + √5), where log₃ ν = 1. Raises: InputError."""
    number = whole_number(rank, "rank", 1)
    turns = number // RANKS_A_TURN

    def enclose(_bits: int) -> arb:
        step = arb.pi() / 6 / arb(3).log()
        return (number - 1) * step + 1 + turns * arb.pi() * (1 + arb(5).sqrt())

    return Real(enclose, digits)


def wave(rank: SupportsIndex, frequency: int, digits: int = 50) -> Real:
    """cos(2πn/φ² · frequency) for a whole frequency of any size. Raises: InputError."""
    number = whole_number(rank, "rank", 1) * whole_number(frequency, "frequency")
    # 2/φ² = 3 − √5, and cos_pi reduces its argument exactly.
    return Real(lambda _bits: (number * (3 - arb(5).sqrt())).cos_pi(), digits)


def twist(rank: SupportsIndex) -> int:
    """Γ(k) = (−1)^k with k = ⌊n/12⌋. Raises: InputError."""
    return -1 if whole_number(rank, "rank", 1) // RANKS_A_TURN % 2 else 1


def ratios(rank: SupportsIndex) -> tuple[Fraction, Fraction]:
    """Ψ of the tablet's row ((n − 1) mod 15) + 1, a rational point of the circle.

    Raises: InputError.
    """
    return tablet_rows()[(whole_number(rank, "rank", 1) - 1) % NUM_ROWS].direction


def density(rank: SupportsIndex, digits: int = 50) -> Real:
    """log₂(n/p_n): how thin the primes are at the n-th, in bits; log₂(2/3) at the most.

    Raises: InputError for a rank beyond `nth_prime`.
    """
    number = whole_number(rank, "rank", 1)
    return _density(number, nth_prime(number), digits)


def formula_table(count: SupportsIndex) -> Float64[np.ndarray, "N F"]:
    """The components of ranks 1..count as floats, one column for each of `COLUMNS`.

    Waves, ratios and density are within 2·10⁻¹⁵ of the balls, O within that share of its size.
    Raises: InputError for a negative count or one beyond memory. Cost: 336 bytes a rank.
    """
    number = whole_number(count, "count", 0)
    require_memory(_BYTES_PER_RANK * number, f"a table of {number:,} ranks")
    ranks = np.arange(1, number + 1, dtype=np.int64)
    turns = ranks // RANKS_A_TURN
    slow = np.pi * (1.0 + np.sqrt(5.0))
    directions = np.array([[float(part) for part in row.direction] for row in tablet_rows()])
    table = np.empty((number, len(COLUMNS)), np.float64)
    table[:, 0] = (ranks - 1) * (np.pi / 6.0 / np.log(3.0)) + 1.0 + turns * slow
    for column, frequency in enumerate(FREQUENCIES, 1):
        table[:, column] = np.cos(2.0 * np.pi * golden_turns(ranks * frequency))
    table[:, -4] = 1 - 2 * (turns % 2)
    table[:, -3:-1] = directions[(ranks - 1) % NUM_ROWS]
    table[:, -1] = np.log2(ranks / first_primes(number))
    return table


def standardised_table(count: SupportsIndex) -> Float64[np.ndarray, "N F"]:
    """`formula_table` with each column at mean 0 and variance 1; a constant column becomes 0.

    Raises: InputError.
    """
    table = formula_table(count)
    if len(table) == 0:
        return table
    table -= table.mean(axis=0)
    spread = table.std(axis=0)
    # A constant leaves a spread of rounding errors, which must not be blown up to 1.
    table /= np.where(spread > 1e-9, spread, np.inf)
    return table


def _density(rank: int, prime: int, digits: int) -> Real:
    quotient = as_real(Fraction(rank, prime), digits)
    return Real(lambda bits: quotient.enclosure(bits).log() / arb(2).log(), digits)
