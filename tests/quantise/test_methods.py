"""Rounding, GPTQ, lattice codes: against theorems, brute force, and the room of exact lattices."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.model.codebooks import direct_table, pair_values
from cllm.model.packed import Packed
from cllm.numbers.closest_vector import nearest_plane
from cllm.quantise.curvature import damped, feedback_of, row_errors
from cllm.quantise.e8_codes import nearest_codes, values_of
from cllm.quantise.groups import nearest, round_group
from cllm.quantise.lattice import STAGES, lattice
from cllm.quantise.nearest_plane import gptq, polish

ALL_PAIRS = pair_values(np.arange(1 << 16, dtype=np.uint16)).astype(np.float64)


def inputs_of(columns: int, seed: int = 0) -> np.ndarray:
    """The moments of inputs whose coordinates depend on each other."""
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((8 * columns, columns))
    inputs = inputs @ (random.standard_normal((columns, columns)) + 2 * np.eye(columns))
    return inputs.T @ inputs


@pytest.mark.parametrize("size", [1, 8])
def test_the_factors_multiply_to_the_curvature(size):
    curvature = damped(inputs_of(32))
    found = feedback_of(curvature, size)
    middle = np.zeros((32, 32))
    for number, block in enumerate(found.weights):
        span = slice(number * size, (number + 1) * size)
        middle[span, span] = block
        assert np.allclose(found.factor[span, span], np.eye(size))
    assert np.allclose(np.tril(found.factor, -size), 0)
    assert np.allclose(found.factor @ middle @ found.factor.T, curvature)


@given(st.integers(0, 10_000))
def test_gptq_is_babais_nearest_plane(seed):
    """Chen 2025, arXiv:2507.18553: the lattice of the columns of a square root of H, last first."""
    random = np.random.default_rng(seed)
    size = int(random.integers(2, 7))
    # A root of whole numbers, so that the exact room's arithmetic is about the same problem.
    root = np.triu(random.integers(-4, 5, (size, size))).astype(float)
    np.fill_diagonal(root, random.integers(2, 6, size))
    curvature = root @ root.T
    row = random.uniform(-4, 4, size)
    found = feedback_of(curvature)
    values, _ = round_group(
        row[None],
        row[None],
        np.ones((1, 1), np.float16),
        np.ascontiguousarray(found.factor),
        np.ascontiguousarray(found.weights[:, 0, 0]),
        (-127, 127),
    )
    # Column 0 is rounded first here; Babai begins with the last basis vector.
    basis = root[::-1].astype(int).tolist()
    target = [Fraction(float(value)) for value in row @ root]
    plane = nearest_plane(basis, target)
    assert values[0].tolist() == [int(value) for value in plane.coefficients[::-1]]


def test_columns_in_groups_are_rounded_as_in_one_row_of_planes():
    """With given scales the groups are no borders: errors are fed across them."""
    curvature = damped(inputs_of(64, 3))
    matrix = np.random.default_rng(1).standard_normal((4, 64))
    packed = gptq(matrix, "int4", curvature)
    steps = np.repeat(packed.scales.astype(np.float64), 32, 1)
    # The textbook form: take the inverse's Cholesky factor, push each error to the right.
    upper = np.linalg.cholesky(np.linalg.inv(curvature)).T
    left = matrix.copy()
    for column in range(64):
        code = np.clip(np.rint(left[:, column] / steps[:, column]), -8, 7)
        assert np.array_equal(code, packed.integers()[:, column])
        error = (left[:, column] - code * steps[:, column]) / upper[column, column]
        left[:, column:] -= error[:, None] * upper[None, column, column:]


def test_polishing_ends_where_no_single_integer_is_better():
    curvature = damped(inputs_of(40, 5))
    matrix = np.random.default_rng(6).standard_normal((6, 40))
    rough = gptq(matrix, "int4", curvature)
    found = polish(matrix, rough, curvature, sweeps=30)

    def errors(values: np.ndarray) -> np.ndarray:
        steps = np.repeat(found.scales.astype(np.float64), 32, 1)
        return row_errors(matrix - (values * steps)[:, :40], curvature)

    before = row_errors(matrix - rough.dequantise(), curvature)
    after = errors(found.integers())
    assert (after <= before * 1.001).all() and after.sum() < before.sum()
    for column, change in itertools.product(range(40), (-1, 1)):
        moved = found.integers().astype(int)
        moved[:, column] = np.clip(moved[:, column] + change, -8, 7)
        assert (errors(moved) >= after * 0.999).all()


@pytest.mark.parametrize(("kind", "worst"), [("int8", 1 / 127), ("int4", 1 / 8)])
def test_nearest_errs_by_half_a_step_at_most_or_cuts_for_the_better(kind, worst):
    matrix = np.random.default_rng(2).standard_normal((16, 100)).astype(np.float32)
    error = matrix - nearest(matrix, kind).dequantise()
    groups = np.pad(matrix, ((0, 0), (0, 28))).reshape(16, 4, 32)
    # Round-to-nearest at the largest value's scale.
    scale = np.abs(groups).max(2, keepdims=True) * worst
    plain = groups - np.clip(np.rint(groups / scale), -8 if kind == "int4" else -127, 127) * scale
    assert (error**2).sum() <= (plain**2).sum() * 1.001


def test_weights_that_count_more_are_rounded_better():
    matrix = np.random.default_rng(3).standard_normal((64, 32))
    share = np.where(np.arange(32) < 4, 100.0, 1.0)
    even, uneven = nearest(matrix, "int4"), nearest(matrix, "int4", share)
    important = [((matrix - found.dequantise())[:, :4] ** 2).sum() for found in (even, uneven)]
    assert important[1] < important[0]


def test_the_nearest_codes_are_those_of_brute_force():
    blocks = (np.random.default_rng(4).standard_normal((100, 8)) * 5).astype(np.float32)
    for kind, table in (("pairs", ALL_PAIRS), ("direct", direct_table().astype(np.float64))):
        found = ((blocks - values_of(nearest_codes(blocks, kind))) ** 2).sum(1)
        least = ((blocks[:, None] - table[None]) ** 2).sum(2).min(1)
        assert np.allclose(found, least, rtol=1e-5)


def test_e8_codes_of_normal_numbers_err_as_published():
    """QuIP#, figure 3: E8P has 0.089 at 2 bits where the best scalars have 0.1175."""
    values = np.random.default_rng(5).standard_normal((40_000, 8)).astype(np.float32)
    scale = np.float32(STAGES[2][1])
    error = values - scale * values_of(nearest_codes(values / scale, "pairs"))
    assert float((error**2).mean()) == pytest.approx(0.091, abs=0.002)


@pytest.mark.parametrize("columns", [64, 72, 20])
def test_more_bits_and_known_inputs_err_less(columns):
    curvature = damped(inputs_of(columns, 7))
    matrix = np.random.default_rng(8).standard_normal((48, columns))

    def error(packed: Packed) -> float:
        assert packed.shape == matrix.shape
        return float(row_errors(matrix - packed.dequantise(), curvature).sum())

    whole = float(row_errors(matrix, curvature).sum())
    by_bits = [error(lattice(matrix, bits, curvature, 0)) for bits in (4, 3, 2)]
    assert by_bits == sorted(by_bits) and by_bits[-1] < 0.12 * whole
    assert by_bits[-1] < error(lattice(matrix, 2, np.eye(columns), 0))
    assert error(gptq(matrix, "int4", curvature)) < error(nearest(matrix, "int4"))


def test_rows_of_zeros_stay_zero():
    matrix = np.random.default_rng(9).standard_normal((8, 64))
    matrix[3] = 0
    for packed in (lattice(matrix, 2, np.eye(64), 0), gptq(matrix, "int4", np.eye(64))):
        assert np.array_equal(packed.dequantise()[3], np.zeros(64, np.float32))


def test_integers_fit_a_byte_in_every_stage():
    for stages, _ in STAGES.values():
        largest = {"pairs": 11, "direct": 4}
        assert sum(ratio * largest[kind] for kind, ratio in stages) <= 127


def test_what_was_never_read_does_not_break_the_factors():
    moments = inputs_of(16)
    moments[3], moments[:, 3] = 0, 0
    assert np.isfinite(feedback_of(damped(moments)).factor).all()
    assert np.array_equal(damped(np.zeros((4, 4))), np.eye(4))


def test_every_order_of_signs_is_reached():
    """A corner of the cube of each sign pattern is decoded to a point with those signs."""
    for signs in itertools.islice(itertools.product((1, -1), repeat=8), 0, 256, 7):
        block = np.array([signs], np.float32) * 9
        point = values_of(nearest_codes(block, "pairs"))[0]
        assert ((point * block[0]) > 0).sum() >= 7
