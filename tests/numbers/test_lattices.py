"""The named lattices: sizes, scales, and their most symmetric pictures."""

import math

import numpy as np
import pytest

from cllm.errors import InputError
from cllm.numbers import lattices
from cllm.numbers.reduction import squared_volume
from cllm.numbers.root_lattices import A2_SIMPLE, D4_SIMPLE, E8_SIMPLE, coxeter_plane, e8_roots

# SPLAG, table 1.2 (kissing numbers), chapter 4 (volumes, covering radii).
KNOWN = {
    "A2": (2, 6, 2, math.sqrt(3), math.sqrt(2 / 3)),
    "D4": (4, 24, 2, 2.0, 1.0),
    "E8": (8, 240, 2, 1.0, 1.0),
    "Leech": (24, 196_560, 4, 1.0, math.sqrt(2)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_of_each(name):
    lattice, (dimension, kissing, norm, volume, covering) = (
        lattices.named_lattice(name),
        KNOWN[name],
    )
    assert (lattice.dimension, lattice.kissing_number) == (dimension, kissing)
    assert (lattice.minimal_norm, lattice.covering_radius) == (norm, covering)
    assert lattice.packing_radius == math.sqrt(norm) / 2
    in_scale = math.sqrt(squared_volume(lattice.basis)) * lattice.scale**dimension
    assert lattice.cell_volume == pytest.approx(volume) == pytest.approx(in_scale)


@pytest.mark.parametrize("name", KNOWN)
def test_minimal_vectors_come_in_both_scales(name):
    dimension, kissing, norm, *_ = KNOWN[name]
    whole, points = lattices.minimal_vectors(name), lattices.minimal_points(name)
    assert points.shape == (kissing, dimension) and len(whole) == kissing
    assert np.allclose((points**2).sum(1), norm)
    scale = lattices.named_lattice(name).scale
    some = slice(0, None, max(kissing // 200, 1))
    assert np.allclose(points[some] @ points[some].T, whole[some] @ whole[some].T * scale**2)
    assert np.array_equal(lattices.minimal_vectors(name.upper()), whole)


def test_around_a_root_of_e8_the_others_lie_as_known():
    roots = e8_roots()
    assert len({row.tobytes() for row in roots}) == 240
    products, counts = np.unique(roots @ roots[0], return_counts=True)
    assert dict(zip((products // 4).tolist(), counts.tolist(), strict=True)) == {
        -2: 1, -1: 56, 0: 126, 1: 56, 2: 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("simple", "coxeter_number", "edges"),
    [(A2_SIMPLE, 3, 1), (D4_SIMPLE, 6, 3), (E8_SIMPLE, 30, 7)],
)
def test_simple_roots_make_the_dynkin_diagram(simple, coxeter_number, edges):
    gram = np.array(simple) @ np.array(simple).T
    cartan = 2 * gram // gram.diagonal()
    assert set(cartan[~np.eye(len(simple), dtype=bool)].tolist()) <= {0, -1}
    assert (np.triu(cartan, 1) == -1).sum() == edges
    axes, order = coxeter_plane(simple)
    assert order == coxeter_number
    assert np.allclose(axes @ axes.T, np.eye(2))


@pytest.mark.parametrize(("name", "fold"), [("A2", 6), ("D4", 6), ("E8", 30), ("Leech", 46)])
def test_the_projection_looks_the_same_when_turned(name, fold):
    points = lattices.coxeter_projection(name)
    _, kissing, norm, *_ = KNOWN[name]
    assert points.shape == (kissing, 2)
    # A picture of an evenly spread configuration: each axis has 1/n of all squares.
    squares = kissing * norm / lattices.named_lattice(name).dimension
    assert np.allclose(points.T @ points, squares * np.eye(2))
    angle = 2 * math.pi / fold
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    assert multiset(points) == multiset(points @ turn)
    farthest = points[np.argmax(np.round(np.hypot(*points.T), 9))]
    assert farthest[0] > 0 and abs(farthest[1]) < 1e-9


def multiset(points):
    """How many points lie in each place: rounded, with an offset that no symmetry shares."""
    places, counts = np.unique(np.round(points + 0.00037, 3) + 0.0, axis=0, return_counts=True)
    return dict(zip(map(tuple, places.tolist()), counts.tolist(), strict=True))


def test_e8_is_eight_rings_of_thirty():
    radii = np.hypot(*lattices.coxeter_projection("E8").T)
    rings, counts = np.unique(np.round(radii, 6), return_counts=True)
    assert counts.tolist() == [30] * 8
    # Rings come in pairs whose radii are in the golden ratio (E8 as two copies of H4's 120).
    ratios = [b / a for a in rings for b in rings]
    golden = (1 + math.sqrt(5)) / 2
    assert sum(abs(ratio - golden) < 1e-5 for ratio in ratios) == 4


def test_d4_is_a_ring_of_six_around_one_where_three_times_six_meet():
    radii = np.hypot(*lattices.coxeter_projection("D4").T)
    rings, counts = np.unique(np.round(radii, 6), return_counts=True)
    assert counts.tolist() == [18, 6]
    assert rings[1] / rings[0] == pytest.approx(math.sqrt(3), abs=1e-5)


@pytest.mark.parametrize(
    "ask",
    [
        lattices.named_lattice,
        lattices.minimal_vectors,
        lattices.minimal_points,
        lattices.coxeter_projection,
        lambda name: lattices.nearest_point(name, np.zeros((1, 2))),
    ],
)
def test_other_names_are_refused_with_the_nearest(ask):
    with pytest.raises(InputError, match="Did you mean Leech"):
        ask("leach")
    with pytest.raises(InputError, match="There are A2, D4, E8, Leech"):
        ask("cubic")
