"""The time a person gave holds everything: preparation, training, the final score, the files."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cllm.config import ModelSettings
from cllm.model import spec_from_settings
from cllm.training.budget import available_s, plan_budget

SPECS = st.builds(
    lambda preset, vocab_size: spec_from_settings(ModelSettings(preset=preset), vocab_size, "tiny"),
    st.sampled_from(["tiny", "small", "base", "mid", "large"]),
    st.integers(30, 30_000),
)
ASKED, SPEED = st.floats(5, 36_000), st.floats(1e9, 1e12)
TOKENS = st.integers(0, 10**8)


def least_scoring_s(spec, tokens, flops_per_s):
    """Two operations a weight and token, at half of training's speed: float32, by hand."""
    return tokens * 2 * (spec.num_parameters - spec.width) / (flops_per_s / 2)


def least_saving_s(spec):
    """Weights and both moments, four bytes each, on a fast disk."""
    return 12 * spec.num_parameters / 2e9


@given(ASKED, st.floats(0, 0.3), TOKENS, SPECS, SPEED)
def test_all_of_it_fits_when_preparing_was_short(asked, share, val_tokens, spec, speed):
    spent = share * asked
    budget = plan_budget(
        asked, spent, val_tokens=val_tokens, counted_tokens=0, spec=spec, flops_per_s=speed
    )
    # On a machine too slow for the model nothing could fit: training keeps its least share.
    assume(budget.train_s > 0.26 * asked)
    scored = min(val_tokens if budget.scored_tokens is None else budget.scored_tokens, val_tokens)
    rest = least_scoring_s(spec, scored, speed) + least_saving_s(spec)
    assert spent + budget.train_s + rest <= asked


@given(ASKED, st.floats(0, 100), TOKENS, SPECS, SPEED)
def test_training_always_keeps_a_share(asked, share, val_tokens, spec, speed):
    budget = plan_budget(
        asked, share * asked, val_tokens=val_tokens, counted_tokens=0, spec=spec, flops_per_s=speed
    )
    assert 0.25 * asked <= budget.train_s * (1 + 1e-9)
    assert budget.train_s < asked
    assert budget.scored_tokens is None or budget.scored_tokens >= 4096


def test_a_small_held_out_part_is_scored_whole():
    spec = spec_from_settings(ModelSettings(preset="tiny"), 65, "tiny")
    budget = plan_budget(
        300.0, 2.0, val_tokens=50_000, counted_tokens=0, spec=spec, flops_per_s=5e10
    )
    assert budget.scored_tokens is None
    assert budget.train_s > 0.9 * 300


def test_a_huge_held_out_part_is_sampled():
    spec = spec_from_settings(ModelSettings(preset="base"), 4096, "tiny")
    budget = plan_budget(60.0, 2.0, val_tokens=10**8, counted_tokens=0, spec=spec, flops_per_s=5e10)
    assert budget.scored_tokens is not None
    assert least_scoring_s(spec, budget.scored_tokens, 5e10) < 0.11 * 60


@given(ASKED, st.floats(0, 1e6))
def test_preparing_counts_until_it_would_eat_the_training(asked, spent):
    left = available_s(asked, spent)
    assert left == pytest.approx(max(asked - spent, asked * 2 / 3))
