"""Muon's orthogonal matrix: singular values go where Polar Express sends them, directions stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cllm.native.engine import orthogonalise

# Source: Amsel 2025, arXiv:2505.16932, algorithm 1 with five steps from 10⁻³.
POLAR = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
]


def sent_to(values):
    """Where each singular value of a matrix of norm 1 goes."""
    x = values / 1.01
    for a, b, c in POLAR:
        x = a / 1.01 * x + b / 1.01**3 * x**3 + c / 1.01**5 * x**5
    return x


def matrix_of(rows, columns, condition, seed):
    rng = np.random.default_rng(seed)
    n = min(rows, columns)
    u, _ = np.linalg.qr(rng.normal(size=(rows, n)))
    v, _ = np.linalg.qr(rng.normal(size=(columns, n)))
    values = np.geomspace(1, 1 / condition, n) if n > 1 else np.ones(1)
    return u, values, v.T


sizes = st.integers(1, 60)


@pytest.mark.parametrize("is_bfloat16", [False, True])
@given(sizes, sizes, st.floats(1, 1e3), st.floats(1e-6, 1e6), st.integers(0, 9))
@settings(max_examples=40)
def test_it_is_near_u_v(library, is_bfloat16, rows, columns, condition, scale, seed):
    if is_bfloat16 and not library.has_bfloat16:
        pytest.skip("this processor has no products of bfloat16")
    if is_bfloat16:
        # Its 8 bits of mantissa drown singular values a hundred times below the largest.
        condition = min(condition, 10.0)
    u, values, v = matrix_of(rows, columns, condition, seed)
    matrix = (scale * (u * values) @ v).astype(np.float32)
    found = orthogonalise(library, matrix, is_bfloat16=is_bfloat16)
    expected = (u * sent_to(values / np.linalg.norm(values))) @ v
    # Largest singular value of the difference: none of theirs is further off.
    error = np.linalg.norm(found - expected, 2)
    assert error < (0.25 if is_bfloat16 else 1e-4)
    cosine = np.sum(found * (u @ v)) / np.linalg.norm(found) / np.linalg.norm(u @ v)
    assert cosine > 0.98


def test_five_steps_promise_singular_values_near_one():
    # The paper's promise for what lies in [10⁻³, 1], with its safety factor.
    values = sent_to(np.geomspace(1e-3, 1, 100_000))
    assert values.min() > 0.8
    assert values.max() < 1.2


def test_nothing_stays_nothing(library):
    assert not orthogonalise(library, np.zeros((3, 5), np.float32)).any()
