"""Waves over the distance, against the formula in loops."""

import math

import numpy as np
import torch

from cllm.model.mechanisms.cymatic import Cymatic
from cllm.model.reading import Reading


def bias_of(models, items, layer=1):
    model = models.stirred(models.spec(items))
    ids = models.ids()
    reading = Reading(ids, None, 0)
    rows = torch.zeros(2, 32, 16)
    return model.weights(), model.mechanisms.bias(layer, rows, reading).detach().numpy()


def test_it_is_the_formula(models):
    p, found = bias_of(models, ("cymatic",))
    strength, phase = (p[f"mechanisms.cymatic.1.{name}"] for name in ("strength", "phase"))
    period = 24 + float(p["mechanisms.cymatic.1.longer"][0])
    assert found.shape == (1, 4, 32, 32)
    for head in range(4):
        for i in range(0, 32, 5):
            for j in range(i + 1):
                expected = sum(
                    float(strength[head, f])
                    * math.cos(2 * math.pi * hertz / 432 * (i - j) / period + phase[head, f])
                    for f, hertz in enumerate((432, 528, 639, 741, 852, 963))
                )
                assert abs(found[0, head, i, j] - expected) < 1e-5


def test_it_hangs_on_the_distance_alone(models):
    _, found = bias_of(models, ("cymatic.placebo=true",))
    assert np.abs(found[..., 1:, 1:] - found[..., :-1, :-1]).max() < 1e-5


def test_the_control_s_ratios_are_in_the_same_range():
    ratios = Cymatic(placebo=True).ratios
    assert len(set(ratios)) == 6
    assert all(1 <= ratio <= 963 / 432 for ratio in ratios)
    assert not set(ratios) & set(Cymatic().ratios)


def test_a_period_stays_at_one_token_at_least(models):
    longer = Cymatic().parameters(models.spec())["mechanisms.cymatic.0.longer"]
    assert longer is not None
    assert (longer.constant, longer.lowest) == (0.0, -23.0)
