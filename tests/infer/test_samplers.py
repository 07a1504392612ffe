"""Every sampler against the distribution that its definition gives, computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.config import GenerateSettings
from cllm.infer import samplers

# Probabilities ½, ¼, ⅛, ⅛ have logits that are exact to the last bit but one.
HALVES = np.array([0.5, 0.25, 0.125, 0.125])
LOGITS = np.log(HALVES)
NONE = np.zeros(4, dtype=np.int64)

finite_logits = st.lists(st.integers(-30_000, 30_000), min_size=1, max_size=40).map(
    lambda thousandths: np.array(thousandths) / 1000
)


def probabilities(logits):
    return samplers.softmax(logits)


def test_softmax_gives_back_the_probabilities():
    np.testing.assert_allclose(probabilities(LOGITS + 17.0), HALVES, rtol=1e-12)


def test_softmax_survives_huge_logits():
    assert probabilities(np.array([1e308, 1e308])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0, 3.0])
def test_temperature_raises_probabilities_to_its_inverse(temperature):
    expected = HALVES ** (1 / temperature)
    found = probabilities(samplers.temperature(LOGITS, temperature))
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)


def test_the_smallest_temperature_is_greedy():
    found = probabilities(samplers.temperature(LOGITS, 5e-324))
    assert found.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_greedy_takes_the_lowest_of_equals():
    assert samplers.greedy(np.array([1.0, 3.0, 3.0])) == 1


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, [1, 0, 0, 0]), (2, [2 / 3, 1 / 3, 0, 0]), (3, [4 / 7, 2 / 7, 1 / 7, 0]), (9, HALVES)],
)
def test_top_k_keeps_exactly_k_even_of_equals(k, expected):
    np.testing.assert_allclose(probabilities(samplers.top_k(LOGITS, k)), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("p", "num_kept"),
    [(0.01, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.87, 3), (0.88, 4), (1.0, 4)],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, num_kept):
    kept = HALVES * (np.arange(4) < num_kept)
    np.testing.assert_allclose(
        probabilities(samplers.top_p(LOGITS, p)), kept / kept.sum(), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("p", "num_kept"), [(0.0, 4), (0.24, 4), (0.26, 2), (0.49, 2), (0.51, 1), (1.0, 1)]
)
def test_min_p_is_relative_to_the_likeliest(p, num_kept):
    kept = HALVES * (np.arange(4) < num_kept)
    np.testing.assert_allclose(
        probabilities(samplers.min_p(LOGITS, p)), kept / kept.sum(), rtol=1e-12
    )


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    counts = np.array([2, 0, 1, 0])
    found = samplers.repetition_penalty(np.array([3.0, 3.0, -1.0, -1.0]), counts, 1.5)
    assert found.tolist() == [2.0, 3.0, -1.5, -1.0]


def test_frequency_penalty_counts_and_presence_penalty_does_not():
    logits, counts = np.array([1.0, 1.0, 1.0]), np.array([0, 1, 3])
    assert samplers.frequency_penalty(logits, counts, 0.5).tolist() == [1.0, 0.5, -0.5]
    assert samplers.presence_penalty(logits, counts, 0.5).tolist() == [1.0, 0.5, 0.5]


def test_only_the_repetition_penalty_sees_the_prompt():
    settings = GenerateSettings(repetition_penalty=2, frequency_penalty=1, presence_penalty=1)
    prompt_only = samplers.penalise(
        np.array([4.0, 4.0]), settings, seen=np.array([1, 0]), written=np.array([0, 0])
    )
    assert prompt_only.tolist() == [2.0, 4.0]


def test_the_distribution_is_temperature_then_truncation():
    # At temperature ½ the probabilities are squared: 16, 4, 1, 1 of 22; two reach 0.9.
    settings = GenerateSettings(temperature=0.5, top_p=0.9)
    found = samplers.distribution(LOGITS, settings)
    np.testing.assert_allclose(found, [0.8, 0.2, 0, 0], rtol=1e-12)


@given(finite_logits, st.integers(1, 50), st.floats(0.01, 1), st.floats(0, 1))
def test_truncations_keep_the_likeliest_and_only_remove(logits, k, p, m):
    settings = GenerateSettings(temperature=1.0, top_k=k, top_p=p, min_p=m)
    found = samplers.distribution(logits, settings)
    assert math.isclose(found.sum(), 1.0, rel_tol=1e-9)
    assert found[np.argmax(logits)] > 0
    assert np.count_nonzero(found) <= k
    kept = found > 0
    if not kept.all():
        assert logits[kept].min() >= logits[~kept].max()


@given(finite_logits, st.floats(0, 1, exclude_max=True))
def test_draw_never_takes_what_is_ruled_out(logits, uniform):
    chances = samplers.distribution(logits, GenerateSettings(top_k=1 + len(logits) // 2))
    assert chances[samplers.draw(chances, uniform)] > 0


def test_draw_inverts_the_running_total():
    edges = [(0.0, 0), (0.49999, 0), (0.5, 1), (0.74999, 1), (0.75, 2), (0.875, 3), (0.99999, 3)]
    assert [samplers.draw(HALVES, uniform) for uniform, _ in edges] == [id_ for _, id_ in edges]


def test_draws_follow_the_distribution():
    rng, count = np.random.default_rng(0), 20_000
    drawn = [samplers.draw(HALVES, rng.random()) for _ in range(count)]
    expected = HALVES * count
    chi_square = (((np.bincount(drawn, minlength=4) - expected) ** 2) / expected).sum()
    assert chi_square < 16.27  # 0.999 quantile with three degrees of freedom
