"""Near lattice vectors: the exact one against brute force, the fast ones within their bounds."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.closest_vector import closest_vector, nearest_plane, round_off
from cllm.numbers.lattices import named_lattice, nearest_point
from cllm.numbers.reduction import gram_schmidt

numbers = st.fractions(-40, 40, max_denominator=12)


@st.composite
def problems(draw, entry=9, most=3):
    size = draw(st.integers(1, most))
    row = st.lists(st.integers(-entry, entry), min_size=size, max_size=size)
    rows = st.lists(row, min_size=size, max_size=size)
    basis = draw(rows.filter(lambda rows: abs(np.linalg.det(rows)) > 0.5))
    return basis, draw(st.lists(numbers, min_size=size, max_size=size))


def squared_distance(a, b):
    return sum((Fraction(x) - Fraction(y)) ** 2 for x, y in zip(a, b, strict=True))


def brute_force(basis, target):
    """The nearest vector, first in order: coefficients in reach of a near vector's distance."""
    inverse = np.linalg.inv(np.array(basis, float))
    centre = np.array([float(value) for value in target]) @ inverse
    start = np.rint(centre).astype(int) @ np.array(basis)
    radius = math.sqrt(squared_distance(target, start.tolist()))
    reach = radius * np.linalg.norm(inverse, axis=0) + 1e-6
    ranges = [
        range(math.ceil(c - r), math.floor(c + r) + 1)
        for c, r in zip(centre.tolist(), reach.tolist(), strict=True)
    ]
    assume(math.prod(map(len, ranges)) < 10_000)
    vectors = [(np.array(x) @ np.array(basis)).tolist() for x in itertools.product(*ranges)]
    return min(vectors, key=lambda vector: (squared_distance(vector, target), vector))


@given(problems(entry=5))
def test_the_closest_vector_is_that_of_brute_force(problem):
    basis, target = problem
    assert closest_vector(basis, target).vector.tolist() == brute_force(basis, target)


@given(problems(most=6))
def test_a_point_s_parts_fit_together(problem):
    basis, target = problem
    points = [find(basis, target) for find in (closest_vector, nearest_plane, round_off)]
    for point in points:
        assert (point.coefficients @ np.array(basis, object) == point.vector).all()
        assert point.distance == squared_distance(point.vector, target)
        assert points[0].distance <= point.distance


@given(problems(most=6))
def test_the_nearest_plane_is_within_its_box(problem):
    basis, target = problem
    _, norms = gram_schmidt(basis)
    assert nearest_plane(basis, target).distance <= sum(norms) / 4


@given(problems(most=6))
def test_rounding_leaves_coefficients_of_at_most_a_half(problem):
    basis, target = problem
    point = round_off(basis, target)
    rest = [float(a - b) for a, b in zip(target, point.vector, strict=True)]
    assert np.abs(np.linalg.solve(np.array(basis, float).T, rest)).max() <= 0.5 + 1e-6


@given(problems(most=6))
def test_a_lattice_vector_is_its_own_nearest(problem):
    basis, target = problem
    whole = [round(value) for value in target]
    vector = np.array(whole, object) @ np.array(basis, object)
    for find in (closest_vector, nearest_plane, round_off):
        assert find(basis, vector).coefficients.tolist() == whole
        assert find(basis, vector).distance == 0


@settings(max_examples=20)
@given(st.sampled_from(["D4", "E8"]), st.integers(0, 10**6))
def test_the_decoders_find_the_same_points(name, seed):
    lattice = named_lattice(name)
    target = np.random.default_rng(seed).normal(size=lattice.dimension) * 4
    basis = np.array(lattice.basis, object) * Fraction(lattice.scale)
    exact = closest_vector(basis, target).vector
    assert nearest_point(name, target[None])[0].tolist() == [float(value) for value in exact]


def test_in_24_dimensions_too():
    basis = np.array(named_lattice("Leech").basis, object)
    targets = np.random.default_rng(8).normal(size=(3, 24)) * 9
    found = nearest_point("Leech", targets / math.sqrt(8)) * math.sqrt(8)
    for target, near in zip(targets, np.rint(found), strict=True):
        assert closest_vector(basis, target).vector.tolist() == near.tolist()


def test_ties_go_to_the_first_in_order():
    assert closest_vector([[1, 0], [0, 1]], [0.5, 0.5]).vector.tolist() == [0, 0]
    assert closest_vector([[1, 1], [0, 1]], [0.5, 0.5]).vector.tolist() == [0, 0]
    assert nearest_plane([[1, 0], [0, 1]], [0.5, -0.5]).vector.tolist() == [1, 0]


def test_a_target_may_lie_outside_the_span():
    point = closest_vector([[1, -1, 0], [0, 1, -1]], [5, 5, 6])
    # Nearest to (−1, −1, 2)/3 of the hexagonal lattice; the rest is (16, 16, 16)/3.
    assert point.vector.tolist() == [-1, 0, 1]
    assert point.distance == 36 + 25 + 25


def test_tiny_and_huge_distances_stay_exact():
    basis = [[3, 1], [1, 4]]
    near = closest_vector(basis, [4 + Fraction(1, 10**300), 5])
    assert near.vector.tolist() == [4, 5] and near.distance == Fraction(1, 10**600)
    assert closest_vector(basis, [1e300, -5e-324]).distance <= 11
    far = 10**40
    assert closest_vector(basis, [4 * far, 5 * far + 1]).vector.tolist() == [4 * far, 5 * far]
    halves = closest_vector([[Fraction(1, 2), 0], [0, Fraction(1, 3)]], [0.6, 0.6])
    assert halves.vector.tolist() == [Fraction(1, 2), Fraction(2, 3)]


@pytest.mark.parametrize("find", [closest_vector, nearest_plane, round_off])
@pytest.mark.parametrize(
    ("basis", "target", "message"),
    [
        ([[1, 2], [2, 4]], [0, 0], "dependent"),
        ([[1, 0], [0, 1]], [0, 0, 0], "3 coordinates"),
        ([[1, 0], [0, 1]], [0, float("nan")], "not finite"),
        ([[1, 0], [0, 1]], [0, float("inf")], "not finite"),
        ([[1, 0], [0, 1]], [0, "1"], "no integer or Fraction"),
    ],
)
def test_bad_problems_are_refused(find, basis, target, message):
    with pytest.raises(InputError, match=message):
        find(basis, target)
