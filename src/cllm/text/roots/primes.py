"""Primes for roots and affixes: the first A for affixes, those after them for roots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int64

from cllm.numbers.primes import first_primes, next_prime

Root = TypeVar("Root", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Primes(Generic[Root]):
    """The numbers of roots (from 0) and affixes (from 1), and their primes.

    `of_roots` [R] and `of_affixes` [A + 1] (the first is 1: no affix), both increasing.
    """

    roots: dict[Root, int]
    affixes: dict[str, int]
    of_roots: Int64[np.ndarray, " R"]
    of_affixes: Int64[np.ndarray, " N"]


def number_parts(parts: Iterable[tuple[Root, Sequence[str]]]) -> Primes[Root]:
    """Give out primes: the first roots of the row, and affixes in most of it, get the least."""
    rows = list(parts)
    roots = {root: number for number, root in enumerate(dict.fromkeys(row[0] for row in rows))}
    uses = Counter(affix for _, row in rows for affix in row)
    ranked = sorted(uses, key=lambda affix: (-uses[affix], affix))
    affixes = {affix: number for number, affix in enumerate(ranked, start=1)}
    primes = first_primes(len(affixes) + len(roots))
    ones = np.ones(1, np.int64)
    of_affixes = np.concatenate((ones, primes[: len(affixes)]))
    return Primes(roots, affixes, primes[len(affixes) :].copy(), of_affixes)


def code_of(
    root: int | None,
    affixes: Sequence[int],
    of_roots: Int64[np.ndarray, " R"],
    of_affixes: Int64[np.ndarray, " N"],
) -> tuple[int, ...]:
    """The prime factors of the code of a root and affixes by number, in order.

    A root that has no number gets the prime after all others.
    """
    prime = next_prime(int(of_roots[-1])) if root is None else int(of_roots[root])
    return tuple(sorted([prime, *(int(of_affixes[number]) for number in affixes)]))


def shared_factors(code: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """The prime factors of the greatest common divisor, each as often as it divides both."""
    return tuple(sorted((Counter(code) & Counter(other)).elements()))
