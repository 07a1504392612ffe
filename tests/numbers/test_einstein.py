"""Λ against its own arithmetic, and against what AdamW of torch does with the same decay."""

from fractions import Fraction

import mpmath
import pytest
import torch

from cllm.errors import InputError
from cllm.numbers.einstein import (
    LAMBDA,
    equivalent_weight_decay,
    half_life_steps,
    remaining_share,
)


def test_lambda_in_lowest_terms():
    assert (LAMBDA.numerator, LAMBDA.denominator) == (1, 48000)


def test_the_share_that_remains_is_a_power():
    assert remaining_share(0) == 1
    assert remaining_share(3) == Fraction(47999**3, 48000**3)
    with mpmath.workdps(30):
        steps = mpmath.log(mpmath.mpf(1) / 2, mpmath.mpf(47999) / 48000)
    assert half_life_steps() == pytest.approx(float(steps), rel=1e-12)
    assert remaining_share(33_271) < Fraction(1, 2) < remaining_share(33_270)


def test_the_equivalent_decay_at_the_usual_rate():
    assert equivalent_weight_decay(1e-3) == pytest.approx(1 / 48)


def test_adamw_with_the_equivalent_decay_leaves_the_same_weights():
    rate = 3e-4
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimiser = torch.optim.AdamW([weight], lr=rate, weight_decay=equivalent_weight_decay(rate))
    for _ in range(5):
        weight.grad = torch.zeros(2, dtype=torch.float64)
        optimiser.step()
    share = float(remaining_share(5))
    assert weight.tolist() == pytest.approx([share, -2 * share], rel=1e-14)


def test_a_factor_on_the_gradients_does_nothing_under_adam():
    ends = []
    for factor in (1.0, float(LAMBDA)):
        weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        optimiser = torch.optim.Adam([weight], lr=0.01, eps=0.0)
        for gradient in (0.5, -2.0, 3.0):
            weight.grad = torch.tensor([gradient * factor], dtype=torch.float64)
            optimiser.step()
        ends.append(weight.item())
    assert ends[0] == pytest.approx(ends[1], rel=1e-14)


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_what_is_no_learning_rate_is_refused(rate):
    with pytest.raises(InputError):
        equivalent_weight_decay(rate)
    with pytest.raises(InputError):
        remaining_share(-1)
