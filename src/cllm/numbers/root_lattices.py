"""The root lattices A2, D4 and E8: simple roots, roots, and the Coxeter plane."""

from __future__ import annotations

import functools
import itertools

import numpy as np
from jaxtyping import Float64, Int32

# Simple roots as Bourbaki numbers them; E8's are doubled.
A2_SIMPLE = ((1, -1, 0), (0, 1, -1))
D4_SIMPLE = ((1, -1, 0, 0), (0, 1, -1, 0), (0, 0, 1, -1), (0, 0, 1, 1))
E8_SIMPLE = (
    (1, -1, -1, -1, -1, -1, -1, 1),
    (2, 2, 0, 0, 0, 0, 0, 0),
    (-2, 2, 0, 0, 0, 0, 0, 0),
    (0, -2, 2, 0, 0, 0, 0, 0),
    (0, 0, -2, 2, 0, 0, 0, 0),
    (0, 0, 0, -2, 2, 0, 0, 0),
    (0, 0, 0, 0, -2, 2, 0, 0),
    (0, 0, 0, 0, 0, -2, 2, 0),
)


@functools.cache
def a2_roots() -> Int32[np.ndarray, "6 3"]:
    """The six roots of A2 in three coordinates of sum zero: a 1 and a −1. Norm 2; read-only."""
    places = itertools.permutations(range(3), 2)
    return _read_only([[(k == i) - (k == j) for k in range(3)] for i, j in places])


@functools.cache
def d4_roots() -> Int32[np.ndarray, "24 4"]:
    """The 24 roots of D4: two coordinates ±1, the others 0. Norm 2; read-only."""
    return _read_only(_pairs(4, 1))


@functools.cache
def e8_roots() -> Int32[np.ndarray, "240 8"]:
    """The 240 roots of E8, doubled: norm 8 in these integers, 2 in the lattice. Read-only.

    112 with two coordinates ±2, then 128 with all ±1 and an even number of minus signs.
    """
    halves = [signs for signs in itertools.product((1, -1), repeat=8) if signs.count(-1) % 2 == 0]
    return _read_only([*_pairs(8, 2), *map(list, halves)])


def plane_of_a2(points: Int32[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 2"]:
    """Points of sum zero in two coordinates, lengths kept: (1, −1, 0) becomes (√2, 0)."""
    axes = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[2.0], [6.0]])
    plane: Float64[np.ndarray, "N 2"] = points @ axes.T
    return plane


def coxeter_plane(
    simple: tuple[tuple[int, ...], ...],
) -> tuple[Float64[np.ndarray, "2 n"], int]:
    """Two orthonormal axes of the plane that a Coxeter element turns by 2π/h, and h.

    `simple` are the simple roots, in any scale. The Coxeter element is the product of their
    reflections; it turns the Coxeter plane by one h-th of a full turn, h the Coxeter number.
    Source: Humphreys, Reflection Groups and Coxeter Groups, 3.16-3.20.
    """
    roots = np.array(simple, np.float64)
    width = roots.shape[1]
    element = np.eye(width)
    for root in roots:
        element = element @ (np.eye(width) - 2.0 * np.outer(root, root) / (root @ root))
    values, vectors = np.linalg.eig(element)
    angles = np.angle(values)
    smallest = int(np.argmin(np.where(angles > 1e-6, angles, np.inf)))
    order = round(2.0 * np.pi / float(angles[smallest]))
    # An orthogonal map's complex eigenvector has equally long, orthogonal parts.
    vector = vectors[:, smallest]
    axes = np.stack([vector.real, vector.imag])
    return axes / np.linalg.norm(axes, axis=1, keepdims=True), order


def _pairs(width: int, value: int) -> list[list[int]]:
    rows = []
    for i, j in itertools.combinations(range(width), 2):
        for a, b in itertools.product((value, -value), repeat=2):
            rows.append([a if k == i else b if k == j else 0 for k in range(width)])
    return rows


def _read_only(rows: list[list[int]]) -> Int32[np.ndarray, "N n"]:
    table = np.array(rows, np.int32)
    table.setflags(write=False)
    return table
