"""What a person can ask of the numbers: primes, factors, constants, the formula, the tablet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from cllm.errors import InputError, NotFoundError
from cllm.workspace.names import nearest_names

if TYPE_CHECKING:
    from cllm.numbers.reals import Real

Spiral = Literal["ulam", "golden"]

# A proof that a number of 300 digits is prime takes seconds, a longer one minutes.
MOST_DIGITS = 300
# The quadratic sieve takes a minute for two primes of 35 digits each, hours for two of 50.
MOST_HARD_DIGITS = 70
# Up to here a prime's index is counted in a tenth of a second.
_MOST_INDEXED = 10**12
_SMALL_FACTORS = 1 << 16
_MOST_LISTED = 1000
_MOST_SPIRAL = 100_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class PrimeFacts:
    """Whether a number is prime, its neighbours, and its index where that is quick to count."""

    number: int
    is_prime: bool
    index: int | None
    previous_prime: int | None
    next_prime: int


@dataclasses.dataclass(frozen=True, slots=True)
class Factors:
    """A number's factors and what follows from them; `divisors` is None where they are many."""

    number: int
    factors: dict[int, int]
    totient: int
    mobius: int
    num_divisors: int
    divisor_sum: int
    divisors: list[int] | None


@dataclasses.dataclass(frozen=True, slots=True)
class FormulaTexts:
    """The seven components of the lattice formula and its value, as decimals and fractions."""

    rank: int
    prime: int
    exponent: str
    waves: dict[int, str]
    twist: int
    phonetic: int
    einstein: str
    ratios: tuple[str, str]
    density: str
    value: tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class TabletLine:
    """A row of Plimpton 322: sexagesimal columns as they should be, and what stands there."""

    number: int
    p: int
    q: int
    ratio: str
    short: int
    long: int
    diagonal: int
    short_written: str
    diagonal_written: str
    errors: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class SpiralFacts:
    """How the primes lie on a spiral: its best line, and how many of its points are prime.

    Ulam: `line` is the y-intercept of the diagonal y = ±x + line. Golden: the arm n ≡ line
    modulo `arms`.
    """

    kind: Spiral
    points: int
    primes: int
    line: int
    slope: int | None
    arms: int | None
    line_points: int
    line_primes: int


def prime_facts(number: int) -> PrimeFacts:
    """What there is to say about one number. Raises: InputError beyond 300 digits."""
    from cllm.numbers.primes import is_prime, next_prime, previous_prime, prime_pi

    _require_short(number, MOST_DIGITS)
    found = is_prime(number)
    return PrimeFacts(
        number=number,
        is_prime=found,
        index=prime_pi(number) if found and number <= _MOST_INDEXED else None,
        previous_prime=previous_prime(number) if number > 2 else None,
        next_prime=next_prime(number),
    )


def nth_prime(index: int) -> int:
    """The prime of that index, 2 being the first. Raises: InputError."""
    from cllm.numbers import primes

    return primes.nth_prime(index)


def count_primes(limit: int) -> int:
    """How many primes there are up to a limit. Raises: InputError."""
    from cllm.numbers.primes import prime_pi

    return prime_pi(limit)


def factor(number: int) -> Factors:
    """Factors, totient, Möbius, divisors. Raises: InputError where that would take too long.

    Small primes are divided out first; what is left may have 70 digits, or be prime itself.
    """
    from cllm.numbers.arithmetic import (
        divisor_sum_of,
        divisors_of,
        mobius_of,
        num_divisors_of,
        totient_of,
    )
    from cllm.numbers.primes import factorise, is_prime, primes_up_to

    _require_short(number, MOST_DIGITS)
    if number < 1:
        raise InputError(f"{number} has no prime factors", hint="Give a number from 1.")
    factors: dict[int, int] = {}
    rest = number
    for prime in primes_up_to(_SMALL_FACTORS).tolist():
        while rest % prime == 0:
            factors[prime] = factors.get(prime, 0) + 1
            rest //= prime
    if rest >= 10**MOST_HARD_DIGITS and not is_prime(rest):
        hint = f"Small primes divided out, a number of up to {MOST_HARD_DIGITS} digits is feasible."
        raise InputError(f"{len(str(rest))} digits are left, which could take days", hint=hint)
    factors |= factorise(rest)
    count = num_divisors_of(factors)
    is_quick = number < 1 << 64 and count <= _MOST_LISTED
    return Factors(
        number=number,
        factors=factors,
        totient=totient_of(factors),
        mobius=mobius_of(factors),
        num_divisors=count,
        divisor_sum=divisor_sum_of(factors),
        divisors=divisors_of(factors) if is_quick else None,
    )


def constants() -> dict[str, Callable[[int], Real]]:
    """The constants by name; each takes a number of digits."""
    from cllm.numbers import elementary

    return {
        "pi": elementary.pi,
        "e": elementary.e,
        "phi": elementary.golden_ratio,
        "log2": elementary.log2,
        "sqrt2": lambda digits: elementary.sqrt(2, digits),
        "sqrt3": lambda digits: elementary.sqrt(3, digits),
        "sqrt5": lambda digits: elementary.sqrt(5, digits),
    }


def constant(name: str, digits: int) -> str:
    """A constant's decimal digits, the last one rounded.

    Raises: NotFoundError for an unknown name, InputError for digits beyond memory.
    """
    known = constants()
    if name not in known:
        hint = nearest_names(name.lower(), known)
        raise NotFoundError(f"there is no constant named {name!r}", hint=hint)
    return known[name](digits).digits_text(digits)


def formula(rank: int, digits: int) -> FormulaTexts:
    """The lattice formula at one rank, every component to so many digits. Raises: InputError."""
    from cllm.numbers.lattice_formula import FREQUENCIES, components

    found = components(rank, digits)
    short, long = (real.digits_text(digits) for real in found.value)
    return FormulaTexts(
        rank=found.rank,
        prime=found.prime,
        exponent=found.exponent.digits_text(digits),
        waves={
            frequency: real.digits_text(digits)
            for frequency, real in zip(FREQUENCIES, found.waves, strict=True)
        },
        twist=found.twist,
        phonetic=found.phonetic,
        einstein=str(found.einstein),
        ratios=(str(found.ratios[0]), str(found.ratios[1])),
        density=found.density.digits_text(digits),
        value=(short, long),
    )


def tablet() -> list[TabletLine]:
    """Plimpton 322, row by row, with the scribe's errors."""
    from cllm.numbers.plimpton import tablet_rows, to_sexagesimal

    lines = []
    for row in tablet_rows():
        written = {error.column: error.written for error in row.errors}
        lines.append(
            TabletLine(
                number=row.number,
                p=row.p,
                q=row.q,
                ratio=to_sexagesimal(row.ratio),
                short=row.short,
                long=row.long,
                diagonal=row.diagonal,
                short_written=written.get("short", to_sexagesimal(row.short)),
                diagonal_written=written.get("diagonal", to_sexagesimal(row.diagonal)),
                errors=[
                    f"{error.column}: {error.written} for {error.correct} ({error.remark})"
                    for error in row.errors
                ],
            )
        )
    return lines


def spiral_facts(kind: Spiral, points: int) -> SpiralFacts:
    """How the primes lie on a spiral of so many points. Raises: InputError."""
    import numpy as np

    from cllm.numbers.primes import prime_pi
    from cllm.numbers.spirals import diagonal_counts, parastichy_counts

    if not 1 <= points <= _MOST_SPIRAL:
        hint = f"From 1 to {_MOST_SPIRAL:,}."
        raise InputError(f"{points:,} points are no spiral to look at", hint=hint)
    if kind == "golden":
        arms = 21
        counts = parastichy_counts(points, arms)
        best = int(counts[:, 1].argmax())
        total = int(counts[:, 1].sum())
        of, primes = (int(number) for number in counts[best])
        return SpiralFacts(kind, points, total, best, None, arms, of, primes)
    # The last whole ring: a diagonal is counted as far as all of it is there.
    radius = (math.isqrt(points) - 1) // 2
    counts = diagonal_counts(radius)
    rising_is_better = counts[:, 2].max() >= counts[:, 3].max()
    column = 2 if rising_is_better else 3
    best = int(np.argmax(counts[:, column]))
    line, of, primes = (int(counts[best, place]) for place in (0, 1, column))
    slope = 1 if rising_is_better else -1
    return SpiralFacts(kind, points, prime_pi(points), line, slope, None, of, primes)


def _require_short(number: int, most_digits: int) -> None:
    if abs(number) >= 10**most_digits:
        # Python refuses to print integers of more than 4,300 digits.
        digits = int(number.bit_length() * math.log10(2)) + 1
        hint = f"Numbers may have up to {most_digits} digits here."
        raise InputError(f"a number of about {digits:,} digits is too long", hint=hint)
