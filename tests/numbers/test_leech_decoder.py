"""The Leech decoder against a slow one that tries every coset, and against theorems."""

import math

import numpy as np
import pytest

from cllm.numbers.golay import golay_words
from cllm.numbers.leech import is_in_leech, leech_minimal_vectors
from cllm.numbers.leech_decoder import nearest_leech, nearest_leech_coordinates

SCALE = math.sqrt(8)


def squared_distance_by_all_cosets(scaled):
    """min over m, c and z with Σz ≡ m mod 2 of ‖y − m − 2c − 4z‖², one coset after another."""
    words, best = golay_words().astype(np.int64), math.inf
    for m in (0, 1):
        centres = m + 2 * words
        z = np.rint((scaled - centres) / 4)
        errors = np.abs(scaled - centres - 4 * z)
        total = (errors**2).sum(1)
        # One z the other way, where its error is largest.
        largest = errors.max(1)
        is_wrong = z.sum(1) % 2 != m
        total += is_wrong * ((4 - largest) ** 2 - largest**2)
        best = min(best, float(total.min()))
    return best


def random_points(count, seed, spread=10.0):
    return np.random.default_rng(seed).normal(size=(count, 24)) * spread / SCALE


def test_no_coset_has_a_nearer_point():
    # Narrow and wide: near the origin the shapes of the minimal vectors compete.
    points = np.concatenate([random_points(100, 0), random_points(100, 1, spread=2.5)])
    found = nearest_leech_coordinates(points)
    assert is_in_leech(found).all()
    for point, near in zip(points * SCALE, found, strict=True):
        distance = float(((point - near) ** 2).sum())
        assert distance == pytest.approx(squared_distance_by_all_cosets(point), abs=1e-9)


def test_distances_stay_within_the_covering_radius_and_reach_it():
    points = random_points(20_000, 2)
    distances = np.linalg.norm(points - nearest_leech(points), axis=1)
    assert distances.max() <= math.sqrt(2) + 1e-9
    # Deep holes are halves of vectors of norm 8, such as (8, 0, …, 0)/√8.
    hole = np.zeros((1, 24))
    hole[0, 0] = 4 / SCALE
    assert np.linalg.norm(hole - nearest_leech(hole)) == pytest.approx(math.sqrt(2))


def test_the_mean_squared_error_is_the_published_one():
    # 0.065771 ± 0.000074: Conway and Sloane, SPLAG, table 2.3.
    points = np.random.default_rng(3).uniform(-100, 100, size=(60_000, 24))
    errors = ((points - nearest_leech(points)) ** 2).sum(1)
    assert errors.mean() / 24 == pytest.approx(0.065771, rel=4e-3)


def test_noise_below_the_packing_radius_is_taken_away():
    rng = np.random.default_rng(4)
    whole = nearest_leech_coordinates(random_points(3000, 5))
    noise = rng.normal(size=whole.shape)
    noise *= 0.999 / np.linalg.norm(noise, axis=1, keepdims=True)
    assert np.array_equal(nearest_leech_coordinates(whole / SCALE + noise), whole)


def test_every_minimal_vector_is_its_own_nearest_point():
    some = leech_minimal_vectors()[::37]
    assert np.array_equal(nearest_leech_coordinates(some / SCALE), some)


def test_moving_by_a_lattice_vector_moves_the_answer():
    points, steps = random_points(2000, 6), leech_minimal_vectors()[:: 196560 // 2000][:2000]
    moved = nearest_leech_coordinates(points + steps / SCALE)
    assert np.array_equal(moved - steps, nearest_leech_coordinates(points))


def test_threads_batches_and_ties_change_nothing():
    # Whole coordinates: many equally near points. More than one batch of 16,384.
    points = np.rint(random_points(17_000, 7, spread=6.0) * SCALE) / SCALE
    found = nearest_leech_coordinates(points, threads=1)
    assert np.array_equal(nearest_leech_coordinates(points, threads=3), found)
    assert np.array_equal(nearest_leech_coordinates(points[5:42]), found[5:42])


def test_single_precision_goes_in_and_comes_out():
    points = random_points(500, 8).astype(np.float32)
    found = nearest_leech(points)
    assert found.dtype == np.float32
    assert np.abs(found * SCALE - nearest_leech_coordinates(points)).max() < 1e-4
