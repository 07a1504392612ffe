"""The lattice vector nearest to a target: two fast roundings (Babai) and the exact search.

Targets are integers, Fractions or floats (which are binary fractions); everything is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from flint import fmpq, fmpz_mat
from jaxtyping import Shaped

from cllm.errors import InputError
from cllm.numbers.enumeration import Search
from cllm.numbers.reduction import (
    Rows,
    exact_array,
    exact_values,
    integer_rows,
    integral_gram_schmidt,
    lll,
)

Target: TypeAlias = Sequence[Any] | npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class LatticePoint:
    """A lattice vector, its integer coefficients in the given basis, and how far the target is.

    `distance` is the squared length of target − vector.
    """

    coefficients: Shaped[np.ndarray, " m"]
    vector: Shaped[np.ndarray, " n"]
    distance: Fraction


def nearest_plane(basis: Rows, target: Target) -> LatticePoint:
    """Babai's nearest plane in the basis as given; better the more reduced it is.

    The part of target − vector within the span lies in the box of the Gram–Schmidt vectors, so
    its squared length is at most ¼·Σ‖b*ᵢ‖². Exact halves are rounded up. O(m²) operations after
    the Gram–Schmidt process. Raises: InputError for dependent rows, a target of another length
    or not finite. Source: Babai, On Lovász' lattice reduction, 1986.
    """
    problem = _Problem.of(basis, target)
    minors, inner = integral_gram_schmidt(problem.rows)
    coefficients, _ = _fall_to_planes(problem, minors, inner)
    return problem.point(coefficients)


def round_off(basis: Rows, target: Target) -> LatticePoint:
    """Babai's rounding: the target's coefficients in the basis, each to the nearest integer.

    Exact halves are rounded up. Raises: as `nearest_plane`.
    """
    problem = _Problem.of(basis, target)
    integral_gram_schmidt(problem.rows)
    ratios = problem.solved(problem.target)
    return problem.point([_rounded(int(ratio.p), int(ratio.q)) for ratio in ratios])


def closest_vector(basis: Rows, target: Target) -> LatticePoint:
    """The lattice vector nearest to `target`, exactly.

    Of several, the first in lexicographic order, whatever the basis. Seconds up to about 30
    dimensions. Raises: as `nearest_plane`, and InputError for a search that would take more than
    about five minutes.
    """
    given = _Problem.of(basis, target)
    integral_gram_schmidt(given.rows)
    problem = _Problem(lll(given.rows, 0.999).tolist(), given.target, given.denominator)
    minors, inner = integral_gram_schmidt(problem.rows)
    start, offset = _fall_to_planes(problem, minors, inner)
    base, goal = np.array(problem.vector(start), object), np.array(given.target, object)
    best = (int(((base - goal) ** 2).sum()), base.tolist())
    bound = _squared_length_in_span(minors, offset)
    if bound > 0:
        for steps in Search(problem.rows, offset, bound, is_shrinking=True).batches():
            vectors = steps.astype(object) + base
            distances = ((vectors - goal) ** 2).sum(1)
            least = distances.min()
            for vector in vectors[distances == least].tolist():
                best = min(best, (int(least), vector))
    # Whole numbers, for the vector is in the lattice.
    return given.point([int(ratio.p) for ratio in given.solved(best[1])])


@dataclass(frozen=True, slots=True)
class _Problem:
    """A basis and a target over one common denominator."""

    rows: list[list[int]]
    target: list[int]
    denominator: int

    @classmethod
    def of(cls, basis: Rows, target: Target) -> _Problem:
        rows, row_denominator = integer_rows(basis)
        values = _target_values(target)
        if len(values) != len(rows[0]):
            raise InputError(
                f"the target has {len(values)} coordinates, the basis {len(rows[0])}",
                where="target",
            )
        common = math.lcm(row_denominator, *(value.denominator for value in values))
        factor = common // row_denominator
        return cls(
            [[value * factor for value in row] for row in rows],
            [value.numerator * (common // value.denominator) for value in values],
            common,
        )

    def vector(self, coefficients: Sequence[int]) -> list[int]:
        product = fmpz_mat([list(coefficients)]) * fmpz_mat(self.rows)
        return [int(value) for value in product.entries()]

    def solved(self, vector: Sequence[int]) -> list[fmpq]:
        """The coefficients in the basis of the vector's part within the span."""
        matrix = fmpz_mat(self.rows)
        inner = matrix * fmpz_mat([[value] for value in vector])
        coefficients: list[fmpq] = (matrix * matrix.transpose()).solve(inner).entries()
        return coefficients

    def point(self, coefficients: Sequence[int]) -> LatticePoint:
        scaled = self.vector(coefficients)
        distance = sum((a - b) ** 2 for a, b in zip(scaled, self.target, strict=True))
        common = math.gcd(self.denominator, *scaled)
        lowest = [value // common for value in scaled]
        return LatticePoint(
            exact_array([list(coefficients)], 1)[0],
            exact_array([lowest], self.denominator // common)[0],
            Fraction(distance, self.denominator**2),
        )


def _target_values(target: Target) -> list[Fraction]:
    values = target.tolist() if isinstance(target, np.ndarray) else list(target)
    floats = [value for value in values if isinstance(value, float)]
    if not all(math.isfinite(value) for value in floats):
        raise InputError("the target has values that are not finite", where="target")
    exact = [Fraction(value) if isinstance(value, float) else value for value in values]
    return exact_values(exact, "target")


def _fall_to_planes(
    problem: _Problem, minors: list[int], inner: list[list[int]]
) -> tuple[list[int], list[int]]:
    """Coefficients by nearest planes, and what is left of the target's λ after taking them."""
    products = [
        sum(a * b for a, b in zip(row, problem.target, strict=True)) for row in problem.rows
    ]
    left: list[int] = []
    for i, product in enumerate(products):
        part = product
        for j in range(i):
            part = (minors[j + 1] * part - left[j] * inner[i][j]) // minors[j]
        left.append(part)
    coefficients = [0] * len(left)
    for i in range(len(left) - 1, -1, -1):
        count = _rounded(left[i], minors[i + 1])
        coefficients[i] = count
        for j in range(i + 1):
            left[j] -= count * inner[i][j]
    return coefficients, left


def _squared_length_in_span(minors: list[int], offset: list[int]) -> Fraction:
    """Σ (λᵢ/dᵢ₊₁)²·‖b*ᵢ‖²."""
    pairs = enumerate(offset)
    return sum((Fraction(value**2, minors[i] * minors[i + 1]) for i, value in pairs), Fraction(0))


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest integer, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
