"""Bases of lattices made short: LLL reduction, and the exact Gram–Schmidt process.

A basis is given by its rows: Python integers, Fractions, or an array of either. All results are
exact, arrays of Python integers (or of Fractions, where the basis has one).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from numbers import Rational
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from flint import fmpz_mat
from jaxtyping import Shaped

from cllm.errors import InputError
from cllm.numbers.checks import require_memory

Rows: TypeAlias = Sequence[Any] | npt.NDArray[Any]

_ETA = 0.51
# A Fraction, its numerator, the scaled integer and the lists' places for them.
_BYTES_AN_ENTRY = 200
# A first pass that lets |μ| grow so far takes a fifth of the time, and leaves the second little.
_LOOSE = (0.9, 0.9)


def lll(basis: Rows, delta: float = 0.99) -> Shaped[np.ndarray, "r n"]:
    """The LLL-reduced basis of the lattice that the rows of `basis` [m, n] generate.

    δ = `delta`, |μ| ≤ 0.51. Dependent rows are allowed: r is the rank. Time for 128 rows in 128
    dimensions with entries of 40 bits: 0.1 s where they are random, 2 s for a q-ary lattice.
    Raises: InputError for entries that are no integers or Fractions, rows of unequal length,
    no row but zeros, or δ not between ¼ and 1.
    Source: Lenstra, Lenstra and Lovász, 1982; Nguyen and Stehlé's L², 2005 (in FLINT).
    """
    rows, denominator = integer_rows(basis)
    _check_delta(delta)
    reduced = fmpz_mat(rows).lll(delta=min(delta, _LOOSE[0]), eta=_LOOSE[1])
    reduced = reduced.lll(delta=delta, eta=_ETA)
    return exact_array([row for row in _integers(reduced) if any(row)], denominator)


def lll_with_transform(
    basis: Rows, delta: float = 0.99
) -> tuple[Shaped[np.ndarray, "r n"], Shaped[np.ndarray, "r m"]]:
    """The reduced basis R of `lll`, and the integer matrix U with R = U·basis.

    U is unimodular where the rows of `basis` are independent. Raises: as `lll`.
    """
    rows, denominator = integer_rows(basis)
    _check_delta(delta)
    loose, first = fmpz_mat(rows).lll(transform=True, delta=min(delta, _LOOSE[0]), eta=_LOOSE[1])
    reduced, second = loose.lll(transform=True, delta=delta, eta=_ETA)
    pairs = zip(_integers(reduced), _integers(second * first), strict=True)
    kept = [(row, steps) for row, steps in pairs if any(row)]
    return (
        exact_array([row for row, _ in kept], denominator),
        exact_array([steps for _, steps in kept], 1),
    )


def is_lll_reduced(basis: Rows, delta: float = 0.99, eta: float = _ETA) -> bool:
    """Whether |μᵢⱼ| ≤ η and ‖b*ᵢ‖² ≥ (δ − μ²ᵢ,ᵢ₋₁)·‖b*ᵢ₋₁‖², decided without rounding.

    The limits are the exact values of the floats. Raises: InputError for dependent rows too.
    """
    mu, norms = gram_schmidt(basis)
    limit, share = Fraction(eta), Fraction(delta)
    if any(abs(value) > limit for row in mu for value in row):
        return False
    return all(norms[i] >= (share - mu[i][i - 1] ** 2) * norms[i - 1] for i in range(1, len(norms)))


def gram_schmidt(basis: Rows) -> tuple[list[list[Fraction]], list[Fraction]]:
    """Exact Gram–Schmidt: row i of μ has μᵢⱼ for j < i, and the second list has all ‖b*ᵢ‖².

    Raises: InputError for what is no basis, or dependent rows.
    """
    rows, denominator = integer_rows(basis)
    minors, inner = integral_gram_schmidt(rows)
    size = len(rows)
    mu = [[Fraction(inner[i][j], minors[j + 1]) for j in range(i)] for i in range(size)]
    square = denominator**2
    norms = [Fraction(minors[i + 1], minors[i] * square) for i in range(size)]
    return mu, norms


def integral_gram_schmidt(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Gram–Schmidt of integer rows in integers alone.

    The Gram matrix's minors d₀ = 1, d₁, …, dₘ, and λᵢⱼ = dⱼ₊₁·μᵢⱼ for j ≤ i (so λᵢᵢ = dᵢ₊₁);
    ‖b*ᵢ‖² = dᵢ₊₁ / dᵢ. Memory m³·bits / 4 bytes. Raises: InputError for dependent rows, or where
    the memory is not there. Source: Cohen, Computational Algebraic Number Theory, 2.6.7.
    """
    size, bits = len(rows), max(abs(value) for row in rows for value in row).bit_length()
    require_memory(size**3 * (2 * bits + 8) // 8, f"the Gram–Schmidt process of {size} rows")
    matrix = fmpz_mat([list(row) for row in rows])
    gram = matrix * matrix.transpose()
    if size > matrix.ncols() or gram.rank() < size:
        raise InputError(
            "the rows are linearly dependent, so they are no basis",
            hint="Reduce them first: lll leaves a basis of the lattice they generate.",
        )
    _, _, _, upper = gram.fflu()
    table = _integers(upper)
    inner = [[table[j][i] for j in range(i + 1)] for i in range(size)]
    return [1, *(inner[i][i] for i in range(size))], inner


def squared_volume(basis: Rows) -> Fraction:
    """The determinant of the Gram matrix, the same for all bases of a lattice; 0 if dependent.

    Raises: InputError for what is no basis.
    """
    rows, denominator = integer_rows(basis)
    matrix = fmpz_mat(rows)
    determinant = int((matrix * matrix.transpose()).det())
    return Fraction(determinant, denominator ** (2 * len(rows)))


def hermite_normal_form(basis: Rows) -> Shaped[np.ndarray, "r n"]:
    """The one echelon basis of the lattice: equal for two bases exactly when the lattices are.

    Raises: InputError for what is no basis.
    """
    rows, denominator = integer_rows(basis)
    form = _integers(fmpz_mat(rows).hnf())
    return exact_array([row for row in form if any(row)], denominator)


def is_same_lattice(first: Rows, second: Rows) -> bool:
    """Whether two bases generate the same lattice. Raises: InputError for what is no basis."""
    forms = [hermite_normal_form(basis).tolist() for basis in (first, second)]
    return bool(forms[0] == forms[1])


def integer_rows(basis: Rows) -> tuple[list[list[int]], int]:
    """The rows times their common denominator, and that denominator.

    Raises: InputError for entries that are no integers or Fractions, rows of unequal length, or
    no row but zeros, or an array that does not fit into memory as Fractions.
    """
    if isinstance(basis, np.ndarray):
        require_memory(_BYTES_AN_ENTRY * basis.size, f"a basis of {basis.size:,} entries")
    rows = [exact_values(row, f"row {number}") for number, row in enumerate(basis)]
    if len({len(row) for row in rows}) > 1:
        raise InputError("the rows of a basis must be equally long")
    if not any(value for row in rows for value in row):
        raise InputError(
            "a basis needs a row that is not zero", hint="Give a matrix, one basis vector a row."
        )
    denominator = math.lcm(*(value.denominator for row in rows for value in row))
    scaled = [
        [value.numerator * (denominator // value.denominator) for value in row] for row in rows
    ]
    return scaled, denominator


def exact_values(values: Any, where: str) -> list[Fraction]:
    """Integers and Fractions as Fractions. Raises: InputError for anything else."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise InputError("a basis is a matrix, one vector a row", where=where)
    for value in values:
        if not isinstance(value, Rational):
            raise InputError(
                f"{value!r} is no integer or Fraction",
                where=where,
                hint="Lattices are exact here: scale and round, or give Fraction(value).",
            )
    return [Fraction(value) for value in values]


def exact_array(rows: list[list[int]], denominator: int) -> Shaped[np.ndarray, "r n"]:
    """Rows over a denominator, as an array of Python integers, or of Fractions unless it is 1."""
    array = np.empty((len(rows), len(rows[0])), object)
    for place, row in zip(array, rows, strict=True):
        place[:] = row if denominator == 1 else [Fraction(value, denominator) for value in row]
    return array


def _integers(matrix: fmpz_mat) -> list[list[int]]:
    return [[int(value) for value in row] for row in matrix.tolist()]


def _check_delta(delta: float) -> None:
    if not 0.25 < delta < 1.0:
        raise InputError(
            f"{delta:g} is not between ¼ and 1",
            where="delta",
            hint="0.99 is usual; larger values give shorter vectors and take longer.",
        )
