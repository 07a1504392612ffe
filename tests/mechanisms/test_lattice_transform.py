"""A change of basis that changes no output and spreads what stands out."""

import numpy as np
import pytest
import torch

from cllm.model.folding import fold
from cllm.model.mechanisms.lattice_transform import LatticeTransform

PARTS = {
    "hadamard": LatticeTransform(),
    "givens": LatticeTransform(kind="givens"),
    "control": LatticeTransform(placebo=True),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("width", [1, 7, 8, 12, 96, 384])
def test_the_basis_is_orthogonal(name, width):
    basis = PARTS[name].basis(width)
    assert np.abs(basis @ basis.T - np.eye(width)).max() < 1e-12
    assert np.array_equal(basis, PARTS[name].basis(width))


@pytest.mark.parametrize("width", [16, 256])
def test_hadamard_s_entries_are_all_of_one_size(width):
    basis = LatticeTransform().basis(width)
    assert np.abs(np.abs(basis) - width**-0.5).max() < 1e-12


def test_of_a_width_with_an_odd_part_entries_are_a_third_and_two_thirds():
    basis = LatticeTransform().basis(12) * 2
    sizes = np.sort(np.unique(np.abs(basis).round(12)))
    assert np.allclose(sizes, [1 / 3, 2 / 3])


def test_givens_stages_are_of_triples_whose_legs_differ_by_one():
    """Width 4: two planes of (3, 4, 5) a stride of 1 apart, then two of (20, 21, 29)."""

    def turn(planes: list[tuple[int, int]], cos: float, sin: float) -> np.ndarray:
        matrix = np.eye(4)
        for i, j in planes:
            matrix[i, i] = matrix[j, j] = cos
            matrix[i, j], matrix[j, i] = sin, -sin
        return matrix

    expected = turn([(0, 1), (2, 3)], 3 / 5, 4 / 5) @ turn([(0, 2), (1, 3)], 20 / 29, 21 / 29)
    assert np.abs(LatticeTransform(kind="givens").basis(4) - expected).max() < 1e-15


@pytest.mark.parametrize("name", PARTS)
def test_an_outlier_is_spread_so_that_rounding_loses_less(name):
    """One channel twenty times the others: 4 bits a row then keep little of the others."""
    rows = np.random.default_rng(0).standard_normal((200, 64))
    rows[:, 5] *= 20
    turned = rows @ PARTS[name].basis(64)

    def lost(values: np.ndarray) -> float:
        step = np.abs(values).max(1, keepdims=True) / 7
        return float(np.square(np.rint(values / step) * step - values).sum())

    assert lost(turned) < lost(rows) / 2


@pytest.mark.parametrize("shape", ["grouped", "untied"])
def test_norms_have_no_gains_left_and_the_head_is_its_own(models, shape):
    model = models.stirred(models.spec(("lattice_transform",), shape))
    spec, weights = fold(model.spec, model.weights(), models.lexicon)
    assert not spec.tied
    assert list(weights) == list(spec.parameters())
    norms = [name for name in weights if name.endswith("_norm.weight") and "attention." not in name]
    assert all((weights[name] == 1).all() for name in [*norms, "norm.weight"])


@pytest.mark.parametrize("other", ["gamma", "schumann", "gamma.kind=clock", "schumann.kind=static"])
@pytest.mark.parametrize("placebo", ["false", "true"])
def test_what_stays_in_the_model_reads_the_turned_stream(models, other, placebo):
    """A control that reads noise goes on reading it as it is."""
    name = other.partition(".")[0]
    items = ("lattice_transform", other, f"{name}.placebo={placebo}")
    model = models.stirred(models.spec(items))
    folded = models.built(*fold(model.spec, model.weights(), models.lexicon))
    with torch.no_grad():
        assert (folded(models.ids()) - model(models.ids())).abs().max() < 5e-5
