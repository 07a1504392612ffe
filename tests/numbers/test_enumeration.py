"""Shortest vectors and all short ones, against brute force and known lattices."""

import itertools
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers import enumeration
from cllm.numbers.lattices import named_lattice
from cllm.numbers.reduction import squared_volume


@st.composite
def small_bases(draw, entry=9):
    size = draw(st.integers(1, 3))
    row = st.lists(st.integers(-entry, entry), min_size=size, max_size=size)
    rows = st.lists(row, min_size=size, max_size=size)
    return draw(rows.filter(lambda rows: abs(np.linalg.det(rows)) > 0.5))


def brute_force(rows, norm):
    """All non-zero vectors of at most this norm: |xᵢ| ≤ √norm·‖i-th dual vector‖."""
    dual = np.linalg.norm(np.linalg.inv(np.array(rows, float)), axis=0)
    reach = [math.floor(math.sqrt(norm) * length + 1e-6) for length in dual]
    assume(math.prod(2 * r + 1 for r in reach) < 10_000)
    found = []
    for x in itertools.product(*(range(-r, r + 1) for r in reach)):
        vector = [int(value) for value in np.array(x) @ np.array(rows)]
        if any(vector) and sum(value**2 for value in vector) <= norm:
            found.append(vector)
    return found


def norm_of(vector):
    return sum(value * value for value in vector)


def scrambled(rows, seed, steps=60):
    """Another basis of the same lattice, with long vectors."""
    chance, basis = random.Random(seed), [[int(value) for value in row] for row in rows]
    for _ in range(steps):
        i, j = chance.sample(range(len(basis)), 2)
        sign = chance.choice((1, -1))
        basis[i] = [a + sign * b for a, b in zip(basis[i], basis[j], strict=True)]
    return basis


@given(small_bases())
def test_the_shortest_vector_is_that_of_brute_force(rows):
    found = enumeration.shortest_vector(rows).tolist()
    all_short = brute_force(rows, min(norm_of(row) for row in rows))
    least = min(norm_of(vector) for vector in all_short)
    positive = [v for v in all_short if norm_of(v) == least and next(filter(None, v)) > 0]
    assert found == min(positive)


@given(small_bases(), st.integers(0, 60))
def test_all_short_vectors_are_found_once(rows, norm):
    found = enumeration.short_vectors(rows, norm).tolist()
    both = found + [[-value for value in vector] for vector in found]
    assert sorted(both) == sorted(brute_force(rows, norm))
    assert found == sorted(found, key=lambda vector: (norm_of(vector), vector))


@settings(max_examples=25)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_the_shortest_vector_obeys_minkowski_s_bound(size, seed):
    chance = random.Random(seed)
    rows = [[chance.randrange(-99, 100) for _ in range(size)] for _ in range(size)]
    volume = squared_volume(rows)
    if volume:
        found = enumeration.shortest_vector(rows).tolist()
        # λ₁² ≤ n · det^(2/n)
        assert norm_of(found) ** size <= size**size * volume


@pytest.mark.parametrize(("name", "norm"), [("A2", 2), ("D4", 2), ("E8", 8), ("Leech", 32)])
def test_known_lattices_have_their_minimal_norm_in_any_basis(name, norm):
    basis = scrambled(named_lattice(name).basis, seed=5)
    assert norm_of(enumeration.shortest_vector(basis).tolist()) == norm


def test_the_answer_does_not_depend_on_the_basis():
    basis = named_lattice("E8").basis
    answers = {tuple(enumeration.shortest_vector(scrambled(basis, seed))) for seed in range(5)}
    assert len(answers) == 1


def test_sums_of_four_squares_are_counted_as_jacobi_does():
    counts = enumeration.count_by_norm(np.eye(4, dtype=int), 12)
    for n in range(1, 13):
        assert counts[Fraction(n)] == 8 * sum(d for d in range(1, n + 1) if n % d == 0 and d % 4)


def test_huge_and_broken_numbers_stay_exact():
    basis = np.array(named_lattice("E8").basis, object)
    plain = enumeration.shortest_vector(basis)
    factor = 10**60 + 7
    assert (enumeration.shortest_vector(basis * factor) == plain * factor).all()
    assert (enumeration.shortest_vector(basis * Fraction(1, factor)) * factor == plain).all()
    # Two lengths that differ in the thirtieth digit.
    long = 10**30
    assert enumeration.shortest_vector([[long + 1, 0], [0, long]]).tolist() == [0, long]


def test_a_hopeless_search_is_refused_at_once():
    chance = random.Random(3)
    rows = [[chance.getrandbits(20) for _ in range(90)] for _ in range(90)]
    with pytest.raises(InputError, match="would visit about"):
        enumeration.shortest_vector(rows)
    with pytest.raises(InputError, match=r"would visit about|memory"):
        enumeration.short_vectors(np.eye(12, dtype=int), 10**6)


def test_no_vector_is_shorter_than_the_shortest():
    assert enumeration.short_vectors([[2, 0], [0, 2]], 3).shape == (0, 2)
    assert enumeration.short_vectors([[2, 0], [0, 2]], 0).shape == (0, 2)
    assert enumeration.count_by_norm([[2, 0], [0, 2]], -1) == {Fraction(0): 1}
