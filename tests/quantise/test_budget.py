"""Spending bytes: against the search of all choices."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cllm.model.packed import Packed
from cllm.quantise.budget import Option, allocate, least_bytes
from cllm.quantise.tuning import tune

OPTION = st.builds(Option, st.integers(1, 50), st.floats(0, 10, allow_nan=False))
OPTIONS = st.dictionaries(
    st.sampled_from("abcd"), st.lists(OPTION, min_size=1, max_size=4), min_size=1
)


def totals(options, chosen):
    picked = [options[name][index] for name, index in chosen.items()]
    return sum(p.num_bytes for p in picked), sum(p.loss for p in picked)


@given(OPTIONS, st.integers(1, 200))
def test_a_choice_fits_and_is_best_but_for_one_step(options, budget):
    chosen = allocate(options, budget)
    if chosen is None:
        assert least_bytes(options) > budget
        return
    num_bytes, loss = totals(options, chosen)
    assert num_bytes <= budget
    names = list(options)
    every = [
        totals(options, dict(zip(names, choice, strict=True)))
        for choice in itertools.product(*(range(len(options[name])) for name in names))
    ]
    best = min(found for size, found in every if size <= budget)
    # What the greedy way may miss is at most the worth of one matrix's steps.
    worst_step = max(
        max(o.loss for o in found) - min(o.loss for o in found) for found in options.values()
    )
    assert best - 1e-9 <= loss <= best + worst_step + 1e-9


def test_bytes_go_where_they_lower_the_loss_most():
    options = {
        "dear": [Option(10, 5.0), Option(20, 4.9)],
        "cheap": [Option(10, 5.0), Option(20, 1.0)],
    }
    assert allocate(options, 30) == {"dear": 0, "cheap": 1}
    assert allocate(options, 19) is None


def test_tuning_finds_the_scale_and_the_gain_of_a_least_squares_problem():
    """The loss ½|scale·q − w|² + ½(gain − 2)² has its minimum at known places."""
    codes = (np.arange(64).reshape(2, 32) % 15 - 7).astype(np.int8)
    packed = Packed("int8", 32, (codes,), np.full((2, 1), 1.0, np.float16))
    wanted = np.array([[1.02], [0.99]]) * codes

    def gradient(weights):
        slope = (weights["m"] - wanted).astype(np.float32)
        return 0.0, {"m": slope, "g": (weights["g"] - 1.02).astype(np.float32)}

    start = {"m": packed, "g": np.ones(3, np.float32)}
    found = tune(start, itertools.repeat(gradient), 60)
    assert np.allclose(found["m"].scales[:, 0], [1.02, 0.99], atol=3e-3)
    assert np.allclose(found["g"], 1.02, atol=3e-3)
    assert np.array_equal(found["m"].codes[0], codes)
