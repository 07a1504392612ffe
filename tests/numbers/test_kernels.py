"""The kernels against math.gcd, Smith's determinant, and their own features."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError
from cllm.numbers.kernels import (
    gcd_features,
    gcd_kernel,
    log_gcd_features,
    log_gcd_kernel,
    normalised_gcd_kernel,
)

NUMBERS = st.lists(st.integers(1, 2**63 - 1) | st.integers(1, 100), min_size=1, max_size=12)
SMALL = np.arange(1, 61, dtype=np.int64)


@given(NUMBERS, NUMBERS)
def test_the_gcd_is_the_gcd(rows, columns):
    found = gcd_kernel(np.array(rows, np.int64), np.array(columns, np.int64))
    assert found.tolist() == [[math.gcd(a, b) for b in columns] for a in rows]


def test_more_columns_than_are_computed_in_step():
    columns = np.arange(1, 1001, dtype=np.int64)
    found = gcd_kernel(np.array([720720, 2**40, 997], np.int64), columns)
    assert (found == np.gcd.outer(np.array([720720, 2**40, 997]), columns)).all()
    # A view with gaps between its numbers is read as well.
    assert (gcd_kernel(columns[::7], columns[::5]) == found.dtype.type(0)).sum() == 0
    assert (
        gcd_kernel(columns[::7], columns[::5]) == np.gcd.outer(columns[::7], columns[::5])
    ).all()


def test_smiths_identity_by_enumeration():
    # Σ φ(d) over the common divisors, with φ by counting coprime numbers.
    bound = 120
    phi = [0] + [sum(math.gcd(k, n) == 1 for k in range(1, n + 1)) for n in range(1, bound + 1)]
    found = gcd_kernel(np.arange(1, bound + 1), np.arange(1, bound + 1))
    for a in range(1, bound + 1):
        for b in range(1, bound + 1):
            common = [d for d in range(1, bound + 1) if a % d == 0 and b % d == 0]
            assert found[a - 1, b - 1] == sum(phi[d] for d in common)


def test_smiths_determinant():
    # det gcd(i, j) = φ(1)·φ(2)·…·φ(n).
    matrix = sympy.Matrix(gcd_kernel(SMALL[:20], SMALL[:20]).tolist())
    assert matrix.det() == math.prod(int(sympy.totient(n)) for n in range(1, 21))


def test_the_other_kernels_by_hand():
    rows, columns = np.array([12], np.int64), np.array([12, 18, 5], np.int64)
    assert normalised_gcd_kernel(rows, columns)[0] == pytest.approx(
        [1.0, 6 / math.sqrt(216), 1 / math.sqrt(60)]
    )
    assert log_gcd_kernel(rows, columns)[0] == pytest.approx([math.log(12), math.log(6), 0.0])


def test_features_by_hand():
    features = gcd_features(np.array([6, 4], np.int64))
    assert features.labels.tolist() == [1, 2, 3, 4, 6]
    assert features.weights.tolist() == [1, 1, 2, 2, 2]
    assert features.present.tolist() == [[1, 1, 1, 0, 1], [1, 1, 0, 1, 0]]
    logs = log_gcd_features(np.array([12, 5], np.int64))
    assert logs.labels.tolist() == [2, 3, 4, 5]
    assert logs.weights.tolist() == pytest.approx(np.log([2, 3, 2, 5]).tolist())
    assert logs.present.tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=15))
def test_features_give_the_kernel(numbers):
    array = np.array(numbers, np.int64)
    features, kernel = gcd_features(array), gcd_kernel(array, array)
    assert (features.gram == kernel).all()
    assert np.allclose(features.vectors @ features.vectors.T, kernel)
    assert np.allclose(log_gcd_features(array).gram, log_gcd_kernel(array, array))


@pytest.mark.parametrize("kernel", [gcd_kernel, normalised_gcd_kernel, log_gcd_kernel])
def test_no_eigenvalue_is_negative(kernel):
    numbers = np.concatenate([SMALL, np.random.default_rng(0).integers(1, 10**6, 60)])
    values = np.linalg.eigvalsh(kernel(numbers, numbers).astype(np.float64))
    assert values.min() > -1e-9 * values.max()
    assert values.max() > 1


def test_an_empty_set_has_empty_kernels():
    none = np.empty(0, np.int64)
    assert gcd_kernel(none, SMALL).shape == (0, 60)
    assert gcd_features(none).gram.shape == (0, 0)


def test_numbers_below_one_are_refused():
    for numbers in (np.array([3, 0], np.int64), np.array([-5], np.int64)):
        for call in (gcd_features, log_gcd_features):
            with pytest.raises(InputError, match="less than 1"):
                call(numbers)
        with pytest.raises(InputError, match="less than 1"):
            gcd_kernel(SMALL, numbers)
