"""Reduced bases: still the same lattice, and as short as the theorems promise."""

import random
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers import reduction


@st.composite
def matrices(draw, most=6, entry=60):
    rows, columns = draw(st.integers(1, most)), draw(st.integers(1, most))
    row = st.lists(st.integers(-entry, entry), min_size=columns, max_size=columns)
    return draw(
        st.lists(row, min_size=rows, max_size=rows).filter(lambda m: any(any(r) for r in m))
    )


@st.composite
def bases(draw, most=6, entry=60):
    """Independent rows: what a triangle with a non-zero diagonal makes of unit vectors."""
    size = draw(st.integers(1, most))
    value = st.integers(-entry, entry)
    return [
        [draw(value) if j < i else draw(value.filter(bool)) if i == j else 0 for j in range(size)]
        for i in range(size)
    ]


def q_ary(size, bits, seed):
    """The lattice of a random half of congruences mod a number of so many bits."""
    chance, half, modulus = random.Random(seed), size // 2, 2**bits - 87
    top = [[modulus * (i == j) for j in range(size)] for i in range(half)]
    rest = [
        [chance.randrange(modulus) for _ in range(half)] + [int(i == j) for j in range(size - half)]
        for i in range(size - half)
    ]
    return top + rest


@given(matrices())
def test_any_rows_are_reduced_to_a_basis_of_their_lattice(rows):
    reduced = reduction.lll(rows)
    assert len(reduced) == sympy.Matrix(rows).rank()
    assert reduction.is_same_lattice(reduced, rows)
    assert reduction.is_lll_reduced(reduced)


@given(bases())
def test_the_transform_is_unimodular_and_leads_from_the_basis_to_the_reduced_one(rows):
    reduced, transform = reduction.lll_with_transform(rows)
    assert np.array_equal(transform @ np.array(rows, object), reduced)
    assert abs(sympy.Matrix(transform.tolist()).det()) == 1
    assert np.array_equal(reduced, reduction.lll(rows))


@given(bases())
def test_the_volume_stays_and_is_the_determinant(rows):
    determinant = int(sympy.Matrix(rows).det())
    assert reduction.squared_volume(rows) == determinant**2
    assert reduction.squared_volume(reduction.lll(rows)) == determinant**2


@given(bases())
def test_the_first_vector_is_within_the_bound_of_lenstra_lenstra_and_lovasz(rows):
    size = len(rows)
    first = sum(value**2 for value in reduction.lll(rows)[0].tolist())
    # ‖b₁‖² ≤ α^((n−1)/2) · det^(2/n) with α = 1 / (δ − η²), to the power 2n.
    alpha = 1 / (Fraction(99, 100) - Fraction(51, 100) ** 2)
    assert first ** (2 * size) <= alpha ** (size * (size - 1)) * reduction.squared_volume(rows) ** 2


@given(bases())
def test_gram_schmidt_vectors_are_orthogonal(rows):
    mu, norms = reduction.gram_schmidt(rows)
    stars = []
    for i, row in enumerate(rows):
        star = np.array([Fraction(value) for value in row], object)
        for j in range(i):
            star = star - mu[i][j] * stars[j]
        stars.append(star)
    for i, star in enumerate(stars):
        assert star @ star == norms[i] > 0
        assert all(star @ other == 0 for other in stars[:i])


def test_a_q_ary_lattice_of_40_bits_is_reduced():
    rows = q_ary(40, 40, seed=1)
    reduced = reduction.lll(rows)
    assert reduction.is_lll_reduced(reduced)
    assert reduction.is_same_lattice(reduced, rows)


def test_lll_finds_the_minimal_polynomial_of_a_number():
    # √2 + √3 is a root of x⁴ − 10x² + 1, the shortest relation of its powers.
    powers = [sympy.N((sympy.sqrt(2) + sympy.sqrt(3)) ** k, 40) for k in range(5)]
    rows = [
        [int(i == j) for j in range(5)] + [int(sympy.floor(10**20 * power))]
        for i, power in enumerate(powers)
    ]
    first = reduction.lll(rows)[0].tolist()
    assert [abs(value) for value in first[:5]] == [1, 0, 10, 0, 1]
    assert first[0] * first[2] < 0 < first[0] * first[4]


def test_what_is_not_reduced_is_called_so():
    assert reduction.is_lll_reduced([[1, 0], [0, 10]])
    assert not reduction.is_lll_reduced([[10, 0], [0, 1]])  # Lovász' condition
    assert not reduction.is_lll_reduced([[1, 0], [1, 10]])  # μ = 1
    # μ = ½ and ‖b*₂‖² = ¾ exactly: hexagonal, reduced for every δ ≤ 1.
    assert reduction.is_lll_reduced([[1, -1, 0], [0, 1, -1]], delta=1.0, eta=0.5)


def test_lattices_are_told_apart():
    rows = [[2, 1], [1, 3]]
    assert reduction.is_same_lattice(rows, [[1, 3], [3, 4]])
    assert not reduction.is_same_lattice(rows, [[4, 2], [1, 3]])
    # The echelon form of determinant 5 by hand: (1, 3), (0, 5).
    assert reduction.hermite_normal_form(rows).tolist() == [[1, 3], [0, 5]]


def test_fractions_are_reduced_as_the_integers_they_are_multiples_of():
    rows = [[Fraction(1, 2), Fraction(1, 3)], [Fraction(5, 6), 1]]
    reduced = reduction.lll(rows)
    assert (6 * reduced).tolist() == reduction.lll([[3, 2], [5, 6]]).tolist()
    assert reduction.squared_volume(rows) == Fraction(8, 36) ** 2
    array = np.array([[11, 17], [13, 19]], np.int64)
    assert sorted(map(abs, reduction.lll(array)[0].tolist())) == [2, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.5, 2], [3, 4]], "1.5 is no integer"),
        ([[float("nan")]], "nan is no integer"),
        ([[1, 2], [3]], "equally long"),
        ([[0, 0], [0, 0]], "not zero"),
        ([], "not zero"),
        ([1, 2, 3], "matrix"),
        (np.arange(3), "matrix"),
        (np.zeros((2, 2, 2), int), "matrix"),
        (["12", "34"], "matrix"),
    ],
)
def test_what_is_no_basis_is_refused(rows, message):
    with pytest.raises(InputError, match=message):
        reduction.lll(rows)


def test_dependent_rows_have_no_gram_schmidt_process():
    for rows in ([[1, 2], [2, 4]], [[1, 0], [0, 1], [1, 1]]):
        with pytest.raises(InputError, match="dependent"):
            reduction.gram_schmidt(rows)


def test_too_large_a_process_is_refused_before_it_starts():
    with pytest.raises(InputError, match="memory"):
        reduction.integral_gram_schmidt([[2**40]] * 20_000)
    with pytest.raises(InputError, match="memory"):
        reduction.lll(np.broadcast_to(np.int8(1), (10**6, 10**6)))


@pytest.mark.parametrize("delta", [0.25, 1.0, -1.0, float("nan")])
def test_delta_lies_between_a_quarter_and_one(delta):
    with pytest.raises(InputError, match="delta"):
        reduction.lll([[1]], delta)
