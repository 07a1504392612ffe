"""Short vectors of a lattice by exhaustive search, in small dimensions.

Schnorr and Euchner's walk through the tree of coefficients, in machine code and in doubles with
a margin for rounding; what it finds is measured again in integers, so that results are exact.
Source: Fincke and Pohst, 1985; Schnorr and Euchner, 1994.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from cllm.errors import InputError
from cllm.numbers.checks import require_memory
from cllm.numbers.compiled import compiled
from cllm.numbers.reduction import (
    Rows,
    exact_array,
    integer_rows,
    integral_gram_schmidt,
    lll,
)

# About five minutes of search.
MOST_NODES = 1e10
# What rounding can move a coefficient's centre by, while coefficients stay below 10⁴ in sum.
_MARGIN = 2.0**-36
_SLACK = 1.0 + 1e-9
_BATCH = 4096
# The search comes back after so many nodes, so that it can be interrupted.
_NODES_A_CALL = 20_000_000


def shortest_vector(basis: Rows) -> Shaped[np.ndarray, " n"]:
    """A shortest non-zero vector of the lattice that the rows of `basis` generate.

    Of several, the one whose first non-zero coordinate is positive and that comes first in
    lexicographic order. Takes seconds up to about 40 dimensions, and grows faster than
    exponentially. Raises: InputError for what is no basis, or a search that would take more than
    about five minutes.
    """
    rows, denominator = integer_rows(lll(basis, 0.999))
    bound = min(sum(value * value for value in row) for row in rows)
    search = Search(rows, None, bound, is_shrinking=True)
    best: tuple[int, list[int]] | None = None
    for vectors in search.batches():
        lengths = (vectors * vectors).sum(1)
        least = lengths.min()
        for vector in vectors[lengths == least].tolist():
            candidate = (int(least), _pointing_up(vector))
            best = candidate if best is None else min(best, candidate)
    assert best is not None
    shortest: Shaped[np.ndarray, " n"] = exact_array([best[1]], denominator)[0]
    return shortest


def short_vectors(basis: Rows, norm: int | Fraction) -> Shaped[np.ndarray, "N n"]:
    """All non-zero vectors of squared length at most `norm`, one of each pair ±v.

    Each has its first non-zero coordinate positive; in order of length, then lexicographic.
    Raises: InputError as `shortest_vector`, and where the vectors would not fit into memory.
    """
    rows, denominator = integer_rows(lll(basis, 0.999))
    bound = math.floor(Fraction(norm) * denominator**2)
    if bound <= 0:
        return np.empty((0, len(rows[0])), object)
    search = Search(rows, None, bound, is_shrinking=False)
    about = search.expected_nodes[-1]
    require_memory(int(about) * len(rows[0]) * 48, f"about {about:.2g} vectors")
    found = []
    for vectors in search.batches():
        lengths = (vectors * vectors).sum(1)
        found += [
            (length, _pointing_up(vector))
            for length, vector in zip(lengths.tolist(), vectors.tolist(), strict=True)
            if length <= bound
        ]
    found.sort()
    if not found:
        return np.empty((0, len(rows[0])), object)
    return exact_array([vector for _, vector in found], denominator)


def count_by_norm(basis: Rows, norm: int | Fraction) -> dict[Fraction, int]:
    """How many lattice vectors there are of each squared length up to `norm`, zero included.

    The first terms of the lattice's theta series. Raises: as `short_vectors`.
    """
    counts = {Fraction(0): 1}
    for vector in short_vectors(basis, norm).tolist():
        length = Fraction(sum(value * value for value in vector))
        counts[length] = counts.get(length, 0) + 2
    return counts


@dataclass(frozen=True, slots=True)
class _Tree:
    """What the walk reads: μ, ‖b*‖² over the bound, and where the target's coefficients lie."""

    mu: Float64[np.ndarray, "m m"]
    norms: Float64[np.ndarray, " m"]
    centre: Float64[np.ndarray, " m"]


class Search:
    """The lattice vectors nearest to a target, or within a distance of it.

    `rows` are an LLL-reduced integer basis, `offset` the target's λ (as in
    `integral_gram_schmidt`, relative to a near lattice vector), or None to look for short
    vectors around zero, one of each pair. `bound` is a squared distance within the lattice's
    span. Raises: InputError for dependent rows, or a search of more than MOST_NODES nodes.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[int]],
        offset: Sequence[int] | None,
        bound: int | Fraction,
        *,
        is_shrinking: bool,
    ) -> None:
        minors, inner = integral_gram_schmidt(rows)
        size = len(rows)
        mu = np.zeros((size, size))
        for i in range(size):
            mu[i, :i] = [inner[i][j] / minors[j + 1] for j in range(i)]
        norms = [Fraction(minors[i + 1], minors[i]) / Fraction(bound) for i in range(size)]
        centre = np.zeros(size)
        if offset is not None:
            centre[:] = [offset[i] / minors[i + 1] for i in range(size)]
        self._tree = _Tree(mu, np.array([_within_doubles(norm) for norm in norms]), centre)
        self._rows, self._is_half, self._is_shrinking = rows, offset is None, is_shrinking
        self.expected_nodes = _expected_nodes(self._tree.norms, self._is_half)
        total = sum(self.expected_nodes)
        if total > MOST_NODES:
            raise InputError(
                f"the search in {size} dimensions would visit about {total:.1g} nodes",
                hint="Use lll for short vectors and nearest_plane for near ones: they are fast "
                f"in any dimension, but not exact. Exact search stops at {MOST_NODES:.0e} nodes.",
            )

    def batches(self) -> Iterator[Shaped[np.ndarray, "N n"]]:
        """Every vector that may be within the bound, and some beyond; exact integers."""
        tree, size = self._tree, len(self._rows)
        walk = np.zeros((6, size + 1))
        # Above the root all coefficients are zero, which is what half a search goes by.
        walk[5, size] = 1.0 if self._is_half else 0.0
        control = np.array([size, int(self._is_shrinking), _NODES_A_CALL])
        bound = np.array([_SLACK])
        found, lower = np.empty((_BATCH, size), np.int64), np.empty(_BATCH)
        while control[0] <= size:
            count = _walk_on(tree.mu, tree.norms, tree.centre, walk, control, bound, found, lower)
            kept = found[:count][lower[:count] <= bound[0]]
            if len(kept):
                yield self._vectors(kept)

    def _vectors(self, coefficients: Int64[np.ndarray, "N m"]) -> Shaped[np.ndarray, "N n"]:
        largest = max(abs(value) for row in self._rows for value in row)
        reach = largest * max(int(np.abs(coefficients).max()), 1) * len(self._rows)
        # Machine integers where no square can overflow, Python's otherwise.
        fits = reach * reach * len(self._rows[0]) < 2**62
        kind = np.int64 if fits else object
        basis = np.array([list(row) for row in self._rows], kind)
        vectors: Shaped[np.ndarray, "N n"] = coefficients.astype(kind) @ basis
        return vectors


def _within_doubles(ratio: Fraction) -> float:
    """As a double; what is beyond any search's reach anyway is not to overflow."""
    return float(min(max(ratio, Fraction(1, 10**200)), Fraction(10**200)))


def _expected_nodes(norms: Float64[np.ndarray, " m"], is_half: bool) -> list[float]:
    """About how many nodes the tree has at each depth: volumes of balls over those of cells."""
    counts, log_cell = [], 0.0
    for depth, norm in enumerate(norms[::-1].tolist(), start=1):
        log_cell += 0.5 * math.log(norm)
        log_ball = 0.5 * depth * math.log(math.pi) - math.lgamma(0.5 * depth + 1.0)
        exponent = min(log_ball - log_cell, 300.0)
        counts.append(math.exp(exponent) * (0.5 if is_half else 1.0))
    return counts


def _pointing_up(vector: list[int]) -> list[int]:
    first = next(value for value in vector if value)
    return vector if first > 0 else [-value for value in vector]


@compiled
def _walk_on(
    mu: Float64[np.ndarray, "m m"],
    norms: Float64[np.ndarray, " m"],
    centre: Float64[np.ndarray, " m"],
    walk: Float64[np.ndarray, "6 m1"],
    control: Int64[np.ndarray, " 3"],
    bound: Float64[np.ndarray, " 1"],
    found: Int64[np.ndarray, "N m"],
    lower: Float64[np.ndarray, " N"],
) -> int:
    """Go on with the search until `found` is full, a number of nodes is visited, or the end.

    `walk` holds per level: coefficient, its centre, lower and upper squared distance of what is
    chosen from there up, next step, and whether all coefficients from there up are zero.
    `control`: level (m + 1 at the end), whether the bound shrinks to what is found, nodes a call.
    """
    size = len(norms)
    level, count = control[0], 0
    for _ in range(control[2]):
        if level == size:
            level = _enter(size - 1, mu, centre, walk)
        away = abs(walk[0, level] - walk[1, level])
        near, far = max(0.0, away - _MARGIN), away + _MARGIN
        least = walk[2, level + 1] + norms[level] * near * near
        most = walk[3, level + 1] + norms[level] * far * far
        if least > bound[0]:
            # Farther coefficients on this level are worse still.
            level += 1
            if level == size:
                control[0] = size + 1
                return count
            _step(level, walk)
            continue
        if level > 0:
            walk[2, level], walk[3, level] = least, most
            is_zero = walk[5, level + 1] == 1.0 and walk[0, level] == 0.0
            walk[5, level] = 1.0 if is_zero else 0.0
            level = _enter(level - 1, mu, centre, walk)
            continue
        if walk[5, 1] == 0.0 or walk[0, 0] != 0.0:
            for i in range(size):
                found[count, i] = np.int64(walk[0, i])
            lower[count] = least
            count += 1
            if control[1] == 1:
                bound[0] = min(bound[0], most * _SLACK)
        _step(0, walk)
        if count == len(found):
            break
    control[0] = level
    return count


@compiled
def _enter(
    level: int,
    mu: Float64[np.ndarray, "m m"],
    centre: Float64[np.ndarray, " m"],
    walk: Float64[np.ndarray, "6 m1"],
) -> int:
    """Begin a level at the coefficient nearest to its centre."""
    middle = centre[level]
    for above in range(level + 1, len(centre)):
        middle -= walk[0, above] * mu[above, level]
    walk[1, level] = middle
    walk[0, level] = np.rint(middle)
    walk[4, level] = 1.0 if middle >= walk[0, level] else -1.0
    return level


@compiled
def _step(level: int, walk: Float64[np.ndarray, "6 m1"]) -> None:
    """The next coefficient in order of distance; only upwards where a sign is free."""
    if walk[5, level + 1] == 1.0:
        walk[0, level] += 1.0
        return
    step = walk[4, level]
    walk[0, level] += step
    walk[4, level] = -step - (1.0 if step > 0.0 else -1.0)
