"""Batches are a pure function of seed and number, and each epoch sees every window once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cllm.text.batches import Batches
from cllm.training.scoring import ArrayTokens


def tokens(length):
    return ArrayTokens(np.arange(length, dtype=np.uint32))


@given(length=st.integers(9, 200), seed=st.integers(0, 2**63 - 1), number=st.integers(0, 100))
def test_targets_are_the_successors_and_lie_inside(length, seed, number):
    inputs, targets = Batches(tokens(length), context=8, seed=seed).read(number, 3)
    assert inputs.shape == targets.shape == (3, 8)
    assert np.array_equal(inputs + 1, targets)
    assert int(targets.max()) < length


@given(length=st.integers(9, 300), seed=st.integers(0, 1000))
def test_an_epoch_visits_disjoint_windows_that_cover_nearly_all(length, seed):
    batches = Batches(tokens(length), context=8, seed=seed)
    seen = [batches.read(n, 1)[0][0].tolist() for n in range(batches.windows_per_epoch)]
    visited = [token for window in seen for token in window]
    assert len(visited) == len(set(visited))
    assert len(visited) > length - 3 * 8


def test_order_of_asking_does_not_matter():
    asked = [0, 50, 3, 51, 7]
    one = Batches(tokens(500), context=8, seed=5)
    other = Batches(tokens(500), context=8, seed=5)
    forward = {n: one.read(n, 1)[0] for n in sorted(asked)}
    for number in asked:
        assert np.array_equal(other.read(number, 1)[0], forward[number])


def test_epochs_and_seeds_differ():
    batches = Batches(tokens(500), context=8, seed=5)
    per_epoch = batches.windows_per_epoch
    first = [batches.read(n, 1)[0][0, 0].item() for n in range(per_epoch)]
    second = [batches.read(n + per_epoch, 1)[0][0, 0].item() for n in range(per_epoch)]
    assert first != second
    other = Batches(tokens(500), context=8, seed=6)
    assert first != [other.read(n, 1)[0][0, 0].item() for n in range(per_epoch)]
