"""The Leech lattice, in coordinates times √8 (integers, so that minimal vectors have norm 32).

x is in the lattice when all xᵢ ≡ m mod 2, the places of xᵢ ≡ m + 2 mod 4 are a word of the Golay
code, and Σx ≡ 4m mod 8. Source: Conway and Sloane, SPLAG, chapter 4.11.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from flint import fmpz_mat
from jaxtyping import Bool, Float64, Int32, Int64, Shaped

from cllm.numbers.golay import CYCLIC_LABELS, golay_words

# Coordinates are divided by it.
SCALE = math.sqrt(8.0)


@functools.cache
def leech_basis() -> tuple[tuple[int, ...], ...]:
    """A basis of 24 short vectors, times √8."""
    words = golay_words().astype(int)
    octads = words[words.sum(1) == 8]
    rows = [*(2 * octads).tolist(), [-3, *[1] * 23]]
    rows += [[4 * (k == 0) + 4 * (k == j) for k in range(24)] for j in range(1, 24)]
    rows.append([8, *[0] * 23])
    form = fmpz_mat(rows).hnf()
    kept = fmpz_mat([row for row in form.tolist() if any(row)])
    return tuple(tuple(int(value) for value in row) for row in kept.lll().tolist())


@functools.cache
def leech_minimal_vectors() -> Int32[np.ndarray, "196560 24"]:
    """The 196,560 minimal vectors, times √8 (norm 32), computed once; 19 MB, read-only.

    97,152 with eight coordinates ±2 on an octad and an even number of minus signs; 98,304 with
    one ∓3 and 23 times ±1; 1,104 with two coordinates ±4.
    """
    words = golay_words()
    octads = words[words.sum(1) == 8]
    signs = np.array(list(itertools.product((1, -1), repeat=8)), np.int32)
    signs = signs[(signs < 0).sum(1) % 2 == 0]
    twos = np.zeros((len(octads), len(signs), 24), np.int32)
    for octad, block in zip(octads, twos, strict=True):
        block[:, octad == 1] = 2 * signs
    ones = np.repeat((1 - 2 * words.astype(np.int32))[:, None], 24, axis=1)
    places = np.arange(24)
    ones[:, places, places] *= -3
    fours = np.zeros((1104, 24), np.int32)
    pairs = itertools.combinations(range(24), 2)
    for row, ((i, j), (a, b)) in zip(
        fours, itertools.product(pairs, itertools.product((4, -4), repeat=2)), strict=True
    ):
        row[i], row[j] = a, b
    table = np.concatenate([twos.reshape(-1, 24), ones.reshape(-1, 24), fours])
    table.setflags(write=False)
    return table


def is_in_leech(coordinates: Shaped[np.ndarray, "N 24"]) -> Bool[np.ndarray, " N"]:
    """Which rows of integers are lattice vectors times √8, by the definition."""
    x = coordinates.astype(np.int64)
    m = x[:, :1] & 1
    bits = ((x - m) >> 1) & 1
    weights = 1 << np.arange(24)
    is_word = np.isin(bits @ weights, golay_words().astype(np.int64) @ weights)
    is_even = np.all((x - m) % 2 == 0, axis=1)
    in_lattice: Bool[np.ndarray, " N"] = is_even & is_word & ((x.sum(1) - 4 * m[:, 0]) % 8 == 0)
    return in_lattice


def count_leech_by_norm(max_norm: int) -> dict[int, int]:
    """How many vectors there are of each norm 0, 2, …, `max_norm`, from the Golay code's weights.

    Counts the coordinates' choices for each weight of the word, without any modular form.
    """
    size = 8 * max_norm + 1
    weights = np.bincount(golay_words().sum(1), minlength=25).tolist()
    # Σ_z q^(r + 4z)² and the same with (−1)^z, which picks the parity of Σz.
    plain = [_squares(residue, size, is_signed=False) for residue in range(3)]
    signed = [_squares(residue, size, is_signed=True) for residue in range(3)]
    total = [0] * size
    for weight, number in enumerate(weights):
        if not number:
            continue
        even = _product(_power(plain[0], 24 - weight, size), _power(plain[2], weight, size))
        alternating = _product(
            _power(signed[0], 24 - weight, size), _power(signed[2], weight, size)
        )
        total = [
            t + number * (a + b) // 2 for t, a, b in zip(total, even, alternating, strict=True)
        ]
    # Odd coordinates: residues 1 and 3 mod 4 have the same squares, and all words the same count.
    odd, alternating = _power(plain[1], 24, size), _power(signed[1], 24, size)
    total = [t + 4096 * (a - b) // 2 for t, a, b in zip(total, odd, alternating, strict=True)]
    return {norm: total[8 * norm] for norm in range(0, max_norm + 1, 2)}


@functools.cache
def leech_plane() -> Float64[np.ndarray, "2 24"]:
    """Two orthonormal axes of a plane that a symmetry of order 23 turns by 2π/23.

    The symmetry moves the Golay code's cyclic labels on by one, and leaves label ∞ alone.
    """
    labels = np.array(CYCLIC_LABELS)
    angles = 2.0 * np.pi * labels / 23.0
    axes = np.stack([np.cos(angles), np.sin(angles)]) * math.sqrt(2.0 / 23.0)
    return np.where(labels == 23, 0.0, axes)


def cyclic_symmetry() -> Int64[np.ndarray, " 24"]:
    """The permutation `order` of that symmetry: x[:, order] is in the lattice when x is."""
    labels = list(CYCLIC_LABELS)
    moved = [label if label == 23 else (label + 1) % 23 for label in labels]
    return np.array([labels.index(label) for label in moved], np.int64)


def _squares(residue: int, size: int, *, is_signed: bool) -> list[int]:
    series = [0] * size
    for z in range(-size, size):
        power = (residue + 4 * z) ** 2
        if power < size:
            series[power] += -1 if is_signed and z % 2 else 1
    return series


def _product(first: list[int], second: list[int]) -> list[int]:
    result = [0] * len(first)
    for i, a in enumerate(first):
        if a:
            for j in range(len(first) - i):
                result[i + j] += a * second[j]
    return result


def _power(series: list[int], exponent: int, size: int) -> list[int]:
    result = [1, *[0] * (size - 1)]
    for _ in range(exponent):
        result = _product(result, series)
    return result
