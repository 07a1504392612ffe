"""Rational rotations against brute force over all triples, mpmath and RoPE's own ladder."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.plimpton import primitive_triples
from cllm.numbers.rotations import (
    Rotation,
    compose,
    givens,
    is_orthogonal,
    nearest_rotation,
    plimpton_frequencies,
    plimpton_integers,
    rotation_of_integer,
    rotation_of_triple,
    step_angles,
    to_floats,
)

ROTATIONS = st.builds(rotation_of_integer, st.integers(1, 10**9))


def all_rotations(bound):
    """Every rational rotation whose denominator is at most `bound`."""
    points = {(1, 0, 1)} | {tuple(row) for row in primitive_triples(bound).tolist()}
    points |= {(b, a, c) for a, b, c in points}
    return [
        Rotation(Fraction(x * a, c), Fraction(y * b, c))
        for a, b, c in points
        for x in (1, -1)
        for y in (1, -1)
    ]


@given(st.integers(1, 10**12))
def test_an_integer_turns_by_twice_the_arctangent(m):
    rotation = rotation_of_integer(m)
    assert (rotation.cos, rotation.sin) == (
        Fraction(m * m - 1, m * m + 1),
        Fraction(2 * m, m * m + 1),
    )
    assert rotation.angle == pytest.approx(2 * math.atan(1 / m), rel=1e-15)


@given(ROTATIONS, ROTATIONS)
def test_angles_add_and_cancel(one, other):
    turn = (one.angle + other.angle - one.then(other).angle) / (2 * math.pi)
    assert abs(turn - round(turn)) < 1e-14
    assert one.then(one.inverse) == Rotation(Fraction(1), Fraction(0))


def test_what_is_no_rotation():
    assert rotation_of_triple(3, 4, 5).denominator == 5
    for call in (
        lambda: rotation_of_triple(3, 4, 6),
        lambda: rotation_of_triple(0, 0, 0),
        lambda: Rotation(Fraction(1, 2), Fraction(1, 2)),
        lambda: rotation_of_integer(0),
        lambda: nearest_rotation(math.inf, 10),
        lambda: nearest_rotation(1.0, 0),
        lambda: nearest_rotation(1.0, 10**14),
        lambda: givens(3, 1, 1, rotation_of_integer(2)),
        lambda: givens(3, 0, 3, rotation_of_integer(2)),
    ):
        with pytest.raises(InputError):
            call()


@given(st.floats(-20, 20), st.integers(1, 400))
def test_the_nearest_rotation_is_the_nearest_of_all(angle, bound):
    found = nearest_rotation(angle, bound)
    assert found.denominator <= bound

    def distance(rotation):
        return abs(math.remainder(angle - rotation.angle, 2 * math.pi))

    assert distance(found) <= min(map(distance, all_rotations(bound))) + 1e-14


def test_a_rational_angle_is_found_again():
    assert nearest_rotation(2 * math.atan(1 / 7), 50) == rotation_of_integer(7)
    assert nearest_rotation(0.0, 1000) == Rotation(Fraction(1), Fraction(0))
    assert nearest_rotation(Fraction(355, 113), 100) == Rotation(Fraction(-1), Fraction(0))
    # The more there is to choose from, the nearer the nearest.
    close = nearest_rotation(1.0, 10**7)
    assert abs(close.angle - 1.0) < 1e-6


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), ROTATIONS), max_size=12))
def test_products_of_turns_are_orthogonal_exactly(turns):
    planes = [(i, (i + step) % 5, rotation) for i, step, rotation in turns]
    matrix = compose(5, planes)
    assert is_orthogonal(matrix)
    assert matrix.det() == 1
    product = np.eye(5)
    for i, j, rotation in planes:
        turn = np.eye(5)
        turn[[i, j], [i, j]] = float(rotation.cos)
        turn[j, i], turn[i, j] = float(rotation.sin), -float(rotation.sin)
        product = turn @ product
    assert np.allclose(to_floats(matrix), product, atol=1e-12)


def test_a_matrix_that_is_nearly_orthogonal_is_not():
    matrix = givens(2, 0, 1, rotation_of_integer(3))
    matrix[0, 0] += type(matrix[0, 0])(1, 10**30)
    assert not is_orthogonal(matrix)
    assert not is_orthogonal(type(matrix)(1, 2, [1, 0]))


def test_the_ladder_of_integers():
    # 2·10000^(2j/8) = 2, 20, 200, 2000.
    assert plimpton_integers(8, 10_000.0).tolist() == [2, 20, 200, 2000]
    assert plimpton_integers(6, 1.0).tolist() == [2, 2, 2]
    # 2·2.25 = 4.5 and 2·1.5 = 3: halves round up.
    assert plimpton_integers(4, 5.0625).tolist() == [2, 5]
    ladder = 10_000.0 ** (2 * np.arange(64) / 128)
    assert plimpton_integers(128, 10_000.0).tolist() == np.floor(2 * ladder + 0.5).tolist()


def test_the_step_angles_are_near_ropes_and_rounded_from_the_exact_ones():
    angles = plimpton_frequencies(128, 1e6)
    rope = 1e6 ** (-2 * np.arange(64) / 128)
    assert (np.abs(angles / rope - 1) < 0.2).all() and (np.abs(angles / rope - 1)[20:] < 0.01).all()
    integers = plimpton_integers(128, 1e6)
    with mpmath.workdps(40):
        exact = [float(2 * mpmath.atan(mpmath.mpf(1) / m)) for m in integers.tolist()]
    assert angles.tolist() == exact
    assert step_angles(np.array([1], np.int64))[0] == math.pi / 2


@pytest.mark.parametrize(
    ("width", "base"), [(7, 1e4), (0, 1e4), (8, 0.5), (8, math.nan), (8, 1e99)]
)
def test_bad_ladders(width, base):
    with pytest.raises(InputError):
        plimpton_frequencies(width, base)
