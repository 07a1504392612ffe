"""Low rank, and coordinates that are rounded in a reduced basis of the same lattice."""

import numpy as np
import pytest

from cllm.errors import SettingsError
from cllm.model.folding import fold
from cllm.model.mechanisms.reduction import Reduction, reduced


def skewed(size: int, width: int, seed: int = 0) -> np.ndarray:
    """A basis whose rows nearly agree, as an untrained eye would find one."""
    random = np.random.default_rng(seed)
    return random.standard_normal((size, width)) + 20 * random.standard_normal(width)


@pytest.mark.parametrize("seed", range(4))
def test_the_reduced_basis_has_the_same_products_and_generates_the_same_lattice(seed):
    random = np.random.default_rng(1)
    coordinates, basis = random.normal(size=(50, 12)), skewed(12, 32, seed)
    found, shorter = reduced(coordinates, basis)
    assert np.allclose(found @ shorter, coordinates @ basis, atol=1e-8)
    # Each basis in terms of the other: whole numbers, of determinant ±1.
    transform = shorter @ np.linalg.pinv(basis)
    assert np.allclose(transform, np.rint(transform), atol=1e-6)
    assert abs(np.linalg.det(transform)) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(shorter) < 0.3 * np.linalg.norm(basis)


def test_whole_coordinates_stay_whole():
    coordinates = np.random.default_rng(2).integers(-9, 9, (30, 12)).astype(float)
    found, _ = reduced(coordinates, skewed(12, 32))
    assert np.allclose(found, np.rint(found), atol=1e-7)


def test_rounding_is_nearer_in_the_reduced_basis_and_as_far_off_as_its_rows_are_long():
    random = np.random.default_rng(3)
    coordinates, basis = random.normal(size=(4_000, 12)), skewed(12, 32)
    errors = []
    for placebo in (True, False):
        whole, rows = Reduction(rank=12, bits=6, placebo=placebo).rounded(coordinates, basis)
        assert np.array_equal(whole, np.rint(whole))
        error = np.square(whole @ rows - coordinates @ basis).sum(1).mean()
        # A coordinate is off by 1/√12 on average, independently of the others.
        assert error == pytest.approx(np.square(rows).sum() / 12, rel=0.05)
        errors.append(error)
    assert errors[1] < errors[0] / 4


def test_a_basis_that_is_short_already_stays():
    basis = np.random.default_rng(4).standard_normal((64, 128))
    coordinates = np.random.default_rng(5).standard_normal((200, 64))
    kinds = [Reduction(rank=64, bits=6, placebo=placebo) for placebo in (True, False)]
    rows = [kind.rounded(coordinates, basis)[1] for kind in kinds]
    assert np.square(rows[1]).sum() <= np.square(rows[0]).sum()
    # Orthogonal rows are the shortest that a lattice of theirs has (Hadamard).
    orthogonal = np.linalg.qr(basis.T)[0].T
    found = Reduction(rank=64, bits=6).rounded(coordinates, orthogonal)[1]
    lengths = np.linalg.norm(found, axis=1)
    steps = np.abs(coordinates).max(0) / 31
    assert np.allclose(np.sort(lengths), np.sort(steps), rtol=1e-6)


def test_dependent_rows_are_left_alone():
    basis = np.ones((3, 8))
    coordinates = np.random.default_rng(6).standard_normal((5, 3))
    assert reduced(coordinates, basis)[1] is basis
    assert reduced(coordinates, 0 * basis)[1].any() == False  # noqa: E712


def test_a_trained_table_becomes_the_nearest_one_of_that_rank(models):
    spec = models.spec(["reduction.kind=svd", "reduction.rank=5"])
    model = models.stirred(spec)
    before = model.weights()["embedding.weight"]
    after = fold(spec, model.weights(), models.lexicon)[1]["embedding.weight"]
    assert np.linalg.matrix_rank(after, tol=1e-4) == 5
    # Eckart and Young: the distance is what the other singular values hold.
    sizes = np.linalg.svd(before, compute_uv=False)
    assert np.linalg.norm(after - before) == pytest.approx(np.linalg.norm(sizes[5:]), rel=1e-4)


def test_the_finished_table_is_rounded_and_what_others_add_is_not(models):
    items = ["reduction.rank=4", "reduction.bits=5", "coordinates"]
    spec = models.spec(items)
    model = models.stirred(spec)
    weights, exact = model.weights(), model.mechanisms.table(None).detach().numpy()
    table = fold(spec, weights, models.lexicon)[1]["embedding.weight"]
    product = weights["mechanisms.reduction.coordinates"] @ weights["mechanisms.reduction.basis"]
    whole, rows = spec.mechanisms[0].rounded(
        weights["mechanisms.reduction.coordinates"].astype(float),
        weights["mechanisms.reduction.basis"].astype(float),
    )
    assert np.allclose(table - whole @ rows, exact - product, atol=1e-5)
    assert np.abs(table - exact).max() > 1e-3


def test_it_begins_with_what_all_embeddings_share_and_rows_of_the_usual_size(models):
    weights = models.begun(models.spec(["reduction.rank=4"])).weights()
    basis = weights["mechanisms.reduction.basis"]
    assert np.allclose(basis @ basis.T, np.eye(4), atol=1e-5)
    plain = models.begun(models.spec()).weights()["embedding.weight"]
    shared = plain.mean(0) / np.linalg.norm(plain.mean(0))
    assert basis[0] @ shared == pytest.approx(1, abs=1e-5)
    table = weights["mechanisms.reduction.coordinates"] @ basis
    assert np.sqrt(np.square(table).mean()) == pytest.approx(
        np.sqrt(np.square(plain).mean()), rel=0.2
    )


def test_the_rank_is_a_quarter_of_the_width_and_never_more_than_the_table_has(models):
    [part] = models.spec(["reduction"]).mechanisms
    assert part.rank == 4
    assert models.spec().num_parameters - models.spec(["reduction"]).num_parameters == (
        64 * 16 - 4 * (64 + 16)
    )
    with pytest.raises(SettingsError, match="a rank of 16 at the most"):
        models.spec(["reduction.rank=17"])
