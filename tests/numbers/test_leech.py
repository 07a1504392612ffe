"""The Leech lattice: its minimal vectors, shells, basis and a symmetry."""

import numpy as np

from cllm.numbers import leech
from cllm.numbers.reduction import squared_volume


def test_the_minimal_vectors_are_there_once_each():
    vectors = leech.leech_minimal_vectors()
    assert vectors.shape == (196_560, 24)
    assert ((vectors**2).sum(1) == 32).all()
    assert leech.is_in_leech(vectors).all()
    assert len({row.tobytes() for row in vectors}) == 196_560
    shapes, counts = np.unique(np.sort(np.abs(vectors), axis=1), axis=0, return_counts=True)
    assert sorted(counts.tolist()) == [1104, 97_152, 98_304]
    assert shapes.shape == (3, 24)


def test_around_a_minimal_vector_the_others_lie_as_known():
    # SPLAG, chapter 14: inner products 4, 2, 1, 0 in the lattice's scale.
    vectors = leech.leech_minimal_vectors()
    for one in vectors[[0, 100_000, 196_000]]:
        products, counts = np.unique(vectors @ one, return_counts=True)
        assert products.tolist() == [-32, -16, -8, 0, 8, 16, 32]
        assert counts.tolist() == [1, 4600, 47104, 93150, 47104, 4600, 1]


def test_the_minimal_vectors_are_a_spherical_design():
    vectors = leech.leech_minimal_vectors().astype(np.int64)
    assert np.array_equal(vectors.T @ vectors, 196_560 * 32 // 24 * np.eye(24, dtype=np.int64))
    # An 11-design: means of even powers along any direction as on the sphere, 3/(n(n+2)) for 4.
    direction = np.arange(1, 25)
    fourth = ((vectors @ direction) ** 4).sum()
    square = int(direction @ direction)
    assert int(fourth) * 24 * 26 == 3 * 196_560 * (32 * square) ** 2


def test_the_basis_is_of_the_whole_lattice():
    basis = np.array(leech.leech_basis())
    assert leech.is_in_leech(basis).all()
    # Unimodular: volume 1, so √8²⁴ in these coordinates.
    assert squared_volume(basis) == 8**24


def test_what_is_not_in_the_lattice_is_called_so():
    rows = np.zeros((5, 24), int)
    rows[0, 0] = 4  # sum 4
    rows[1, :2] = 2  # no word of the Golay code
    rows[2] = 1  # sum 24, not 4 mod 8
    rows[3, 0] = 1  # odd and even
    rows[4, 0] = 8
    assert leech.is_in_leech(rows).tolist() == [False, False, False, False, True]


def test_the_symmetry_maps_the_lattice_to_itself_and_turns_its_plane():
    vectors, order = leech.leech_minimal_vectors(), leech.cyclic_symmetry()
    assert leech.is_in_leech(vectors[::11][:, order]).all()
    axes = leech.leech_plane()
    assert np.allclose(axes @ axes.T, np.eye(2))
    angle = 2 * np.pi / 23
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert np.allclose(vectors[:100][:, order] @ axes.T, vectors[:100] @ axes.T @ turn.T)


def test_tables_can_t_be_changed_by_accident():
    assert leech.leech_minimal_vectors() is leech.leech_minimal_vectors()
    assert not leech.leech_minimal_vectors().flags.writeable
