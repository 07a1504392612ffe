"""Decoders of A2, Dₙ and E8: the nearest point, always, for any type, thread or batch."""

import math

import numpy as np
import pytest

from cllm.errors import InputError
from cllm.numbers.enumeration import short_vectors
from cllm.numbers.lattices import minimal_points, named_lattice, nearest_point
from cllm.numbers.nearest_points import nearest_d, nearest_d4, nearest_e8

NAMES = ["A2", "D4", "E8"]


def random_points(name, count, seed=0, spread=5.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, named_lattice(name).dimension)) * spread


def is_in_lattice(name, points):
    if name == "A2":
        a, b = points[:, 0] * math.sqrt(2), points[:, 1] / math.sqrt(1.5)
        whole = np.rint(a) + np.rint(b)
        return (np.abs(np.stack([a, b]) - np.rint([a, b])).max(0) < 1e-9) & (whole % 2 == 0)
    if name == "D4":
        return (points == np.rint(points)).all(1) & (points.sum(1) % 2 == 0)
    fractions = points - np.floor(points)
    same = (fractions == fractions[:, :1]).all(1) & np.isin(fractions[:, 0], (0.0, 0.5))
    return same & (points.sum(1) % 2 == 0)


def relevant_vectors(name):
    """The minimal vectors bound a root lattice's Voronoi cell; E8's second shell is for safety."""
    minimal = minimal_points(name)
    if name != "E8":
        return minimal
    half = short_vectors(named_lattice("E8").basis, 16).astype(np.float64) / 2
    return np.concatenate([half, -half])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_no_step_over_the_voronoi_cell_s_faces_comes_nearer(name, kind):
    points = random_points(name, 3000).astype(kind)
    found = nearest_point(name, points)
    assert found.dtype == kind
    rest = points.astype(float) - found
    if kind == np.float64 or name != "A2":
        assert is_in_lattice(name, found.astype(float)).all()
    steps = relevant_vectors(name)
    # ‖r − v‖² ≥ ‖r‖² exactly when 2⟨r, v⟩ ≤ ‖v‖².
    assert (2 * rest @ steps.T <= (steps**2).sum(1) + 1e-5).all()


@pytest.mark.parametrize("name", NAMES)
def test_distances_stay_within_the_covering_radius_and_reach_it(name):
    lattice = named_lattice(name)
    points = random_points(name, 20_000, seed=1)
    distances = np.linalg.norm(points - nearest_point(name, points), axis=1)
    assert distances.max() <= lattice.covering_radius + 1e-9
    # Deep holes: the middle of A2's triangle, of D4's and of E8's cross polytopes.
    hole = {"A2": [1 / math.sqrt(2), 1 / math.sqrt(6)], "D4": [1, 0, 0, 0], "E8": [1] + [0] * 7}
    deep = np.array([hole[name]], float)
    assert np.linalg.norm(deep - nearest_point(name, deep)) == pytest.approx(
        lattice.covering_radius
    )


@pytest.mark.parametrize(
    ("name", "moment"), [("A2", 5 / (36 * math.sqrt(3))), ("D4", 0.0766032), ("E8", 929 / 12960)]
)
def test_the_mean_squared_error_is_the_published_one(name, moment):
    # Normalised second moments: Conway and Sloane, SPLAG, table 2.3.
    lattice = named_lattice(name)
    points = np.random.default_rng(2).uniform(-1000, 1000, size=(400_000, lattice.dimension))
    errors = ((points - nearest_point(name, points)) ** 2).sum(1)
    size = lattice.dimension * lattice.cell_volume ** (2 / lattice.dimension)
    assert errors.mean() / size == pytest.approx(moment, rel=4e-3)


@pytest.mark.parametrize("name", NAMES)
def test_noise_below_the_packing_radius_is_taken_away(name):
    rng = np.random.default_rng(3)
    lattice = named_lattice(name)
    points = nearest_point(name, random_points(name, 2000, seed=4))
    noise = rng.normal(size=points.shape)
    noise *= 0.999 * lattice.packing_radius / np.linalg.norm(noise, axis=1, keepdims=True)
    assert np.abs(nearest_point(name, points + noise) - points).max() < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_moving_by_a_lattice_vector_moves_the_answer(name):
    points = random_points(name, 2000, seed=5)
    for vector in minimal_points(name)[::7]:
        moved = nearest_point(name, points + 6 * vector) - 6 * vector
        assert np.abs(moved - nearest_point(name, points)).max() < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_threads_batches_and_ties_change_nothing(name):
    # Multiples of a quarter: many equally near points.
    points = np.rint(random_points(name, 40_000, seed=6) * 4) / 4
    found = nearest_point(name, points, threads=1)
    assert np.array_equal(nearest_point(name, points, threads=3), found)
    some = slice(17, 17 + 100)
    assert np.array_equal(nearest_point(name, points[some]), found[some])
    one_by_one = [nearest_point(name, points[i : i + 1])[0] for i in range(50)]
    assert np.array_equal(np.array(one_by_one), found[:50])
    strided = np.asfortranarray(points)
    assert np.array_equal(nearest_point(name, strided), found)


def test_ties_have_the_right_distance():
    points = np.rint(random_points("E8", 5000, seed=7) * 2) / 2
    rest = points - nearest_e8(points)
    steps = relevant_vectors("E8")
    assert (2 * rest @ steps.T <= (steps**2).sum(1) + 1e-12).all()


def test_d_in_other_dimensions_is_rounding_with_even_sum():
    assert nearest_d(np.array([[0.6, 0.1, 0.1]])).tolist() == [[0, 0, 0]]
    assert nearest_d(np.array([[0.6, 0.6, 0.1]])).tolist() == [[1, 1, 0]]
    assert nearest_d(np.array([[3.0, 0.2]])).tolist() == [[3, 1]]
    # Back to 0 costs 0.4 more, on to 1 costs 0.8 more.
    assert nearest_d(np.array([[-0.7, 0.1]])).tolist() == [[0, 0]]
    points = random_points("D4", 100)
    assert np.array_equal(nearest_d(points), nearest_d4(points))


def test_no_points_have_no_nearest():
    assert nearest_e8(np.empty((0, 8), np.float32)).shape == (0, 8)


@pytest.mark.parametrize("name", [*NAMES, "Leech"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_values_that_have_no_nearest_point_are_refused(name, bad):
    points = random_points(name, 100)
    points[57, 1] = bad
    with pytest.raises(InputError, match="not finite, or beyond"):
        nearest_point(name, points)


def test_values_too_large_for_their_type_are_refused():
    with pytest.raises(InputError, match="beyond"):
        nearest_e8(np.full((1, 8), 2.0**22, np.float32))
    large = np.full((1, 8), 2.0**22, np.float64)
    assert np.array_equal(nearest_e8(large), large)


@pytest.mark.parametrize("name", [*NAMES, "Leech"])
@pytest.mark.parametrize("shape", [(3,), (2, 7), (2, 3, 8), ()])
def test_other_shapes_are_refused(name, shape):
    with pytest.raises(InputError, match="shape"):
        nearest_point(name, np.zeros(shape))


def test_more_points_than_memory_has_room_for_are_refused():
    with pytest.raises(InputError, match="memory"):
        nearest_e8(np.broadcast_to(np.float32(0), (10**12, 8)))


def test_other_types_and_no_threads_are_refused():
    for kind in (np.int64, np.float16, np.complex128):
        with pytest.raises(InputError, match="float32 or float64"):
            nearest_e8(np.zeros((1, 8), kind))
    with pytest.raises(InputError, match="threads"):
        nearest_e8(np.zeros((1, 8)), threads=0)
    with pytest.raises(InputError, match="two dimensions"):
        nearest_d(np.zeros((5, 1)))
