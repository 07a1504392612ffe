"""Every sampler against the distribution that its definition gives, computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.infer import samplers
from cllm.native.stream import Choice

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


# Half the entropy 7/4·ln 2 away: −log p is 1, 2, 3, 3 times ln 2, so ¼ is nearest, then ½.
@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (0.01, {1}),
        (0.24, {1}),
        (0.26, {0, 1}),
        (0.74, {0, 1}),
        (0.76, {0, 1, 2}),
        (1.0, {0, 1, 2, 3}),
    ],
)
def test_typical_keeps_the_nearest_to_the_entropy(p, kept):
    found = probabilities(samplers.typical(LOGITS, p))
    assert set(np.flatnonzero(found).tolist()) == kept
    np.testing.assert_allclose(found[list(kept)], HALVES[list(kept)] / HALVES[list(kept)].sum())


def test_typical_leaves_what_is_ruled_out():
    found = samplers.typical(np.array([0.0, -np.inf, 0.0]), 0.99)
    assert found.tolist() == [0.0, -np.inf, 0.0]


@given(finite_logits, st.floats(0.01, 1), st.integers(1, 10))
def test_typical_agrees_with_transformers(logits, p, scale):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    spread = logits / scale
    peer = transformers.TypicalLogitsWarper(mass=min(p, 0.99))
    theirs = peer(None, torch.from_numpy(spread)[None])[0].isfinite().numpy()
    ours = np.isfinite(samplers.typical(spread, min(p, 0.99)))
    order = np.sort(np.abs(-samplers.log_softmax(spread) - entropy_of(spread)))
    # Of equals, which one is kept is a matter of taste.
    if len(np.unique(np.round(order, 9))) == len(order):
        assert ours.tolist() == theirs.tolist()


def entropy_of(logits):
    chances = samplers.softmax(logits)
    return float(-(chances * np.log(np.maximum(chances, 1e-300))).sum())


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    counts = np.array([2, 0, 1, 0])
    found = samplers.repetition_penalty(np.array([3.0, 3.0, -1.0, -1.0]), counts, 1.5)
    assert found.tolist() == [2.0, 3.0, -1.5, -1.0]


def test_frequency_penalty_counts_and_presence_penalty_does_not():
    logits, counts = np.array([1.0, 1.0, 1.0]), np.array([0, 1, 3])
    assert samplers.frequency_penalty(logits, counts, 0.5).tolist() == [1.0, 0.5, -0.5]
    assert samplers.presence_penalty(logits, counts, 0.5).tolist() == [1.0, 0.5, 0.5]


def test_only_the_repetition_penalty_sees_the_prompt():
    settings = Choice(repetition_penalty=2.0, frequency_penalty=1.0, presence_penalty=1.0)
    prompt_only = samplers.penalise(
        np.array([4.0, 4.0]), settings, seen=np.array([1, 0]), written=np.array([0, 0])
    )
    assert prompt_only.tolist() == [2.0, 4.0]


def test_the_distribution_is_temperature_then_truncation():
    # At temperature ½ the probabilities are squared: 16, 4, 1, 1 of 22; two reach 0.9.
    settings = Choice(temperature=0.5, top_p=0.9)
    found = samplers.distribution(LOGITS, settings)
    np.testing.assert_allclose(found, [0.8, 0.2, 0, 0], rtol=1e-12)


@given(finite_logits, st.integers(1, 50), st.floats(0.01, 1), st.floats(0, 1))
def test_truncations_keep_the_likeliest_and_only_remove(logits, k, p, m):
    settings = Choice(temperature=1.0, top_k=k, top_p=p, min_p=m)
    found = samplers.distribution(logits, settings)
    assert math.isclose(found.sum(), 1.0, rel_tol=1e-9)
    assert found[np.argmax(logits)] > 0
    assert np.count_nonzero(found) <= k
    kept = found > 0
    if not kept.all():
        assert logits[kept].min() >= logits[~kept].max()


@given(finite_logits, st.floats(0, 1, exclude_max=True))
def test_draw_never_takes_what_is_ruled_out(logits, uniform):
    chances = samplers.distribution(logits, Choice(top_k=1 + len(logits) // 2))
    assert chances[samplers.draw(chances, uniform)] > 0


def test_draw_inverts_the_running_total():
    edges = [(0.0, 0), (0.49999, 0), (0.5, 1), (0.74999, 1), (0.75, 2), (0.875, 3), (0.99999, 3)]
    assert [samplers.draw(HALVES, uniform) for uniform, _ in edges] == [id_ for _, id_ in edges]


def test_bias_is_added_and_a_mask_rules_out():
    bias = {1: 2.0, 3: -math.inf}
    assert samplers.add_bias(np.ones(4), bias).tolist() == [1.0, 3.0, 1.0, -math.inf]
    mask = np.array([0b0110], np.uint32)
    found = samplers.keep_masked(np.ones(4), mask)
    assert found.tolist() == [-math.inf, 1.0, 1.0, -math.inf]


def test_choose_takes_every_step_in_order():
    """Bias 4 makes token 3 the likeliest; a penalty of 2 halves it; top-k leaves two."""
    chosen = [
        samplers.choose(
            np.array([1.0, 2.0, 3.0, 4.0], np.float32),
            Choice(bias={3: 4.0}, repetition_penalty=2.0, top_k=2),
            uniform,
            seen=np.array([0, 0, 0, 1]),
            written=np.zeros(4, np.int64),
        )
        # Logits 1, 2, 3, 4: of the two left, e⁻¹ / (1 + e⁻¹) = 0.269 is token 2's.
        for uniform in (0.0, 0.268, 0.270, 0.999)
    ]
    assert chosen == [2, 2, 3, 3]


def test_the_likeliest_come_with_their_log_probabilities():
    ids, scores = samplers.likeliest(LOGITS, 3)
    assert ids.tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores, LOGITS[:3], rtol=1e-6)


def test_draws_follow_the_distribution():
    rng, count = np.random.default_rng(0), 20_000
    drawn = [samplers.draw(HALVES, rng.random()) for _ in range(count)]
    expected = HALVES * count
    chi_square = (((np.bincount(drawn, minlength=4) - expected) ** 2) / expected).sum()
    assert chi_square < 16.27  # 0.999 quantile with three degrees of freedom
