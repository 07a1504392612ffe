"""Dampening against a loop by hand, and its diagnostic against known transforms."""

import numpy as np
import pytest
import torch

from cllm.model.mechanisms.choose import choose
from cllm.model.mechanisms.dampening import attention_spectrum
from cllm.model.reading import Reading


def test_the_filter_is_the_sum_of_its_definition_and_stops_at_documents():
    [dampening] = choose(["dampening.lags=1,3"])
    generator = torch.Generator().manual_seed(0)
    h, taps = (torch.randn(*s, generator=generator) for s in ((1, 9, 4), (2, 4)))
    ids = torch.tensor([[5, 6, 0, 7, 8, 9, 1, 2, 3]])
    found = dampening.filter(0, h, Reading(ids, None, 0), {"0.taps": taps})
    for t in range(9):
        start = 0 if t <= 2 else 3
        expected = h[0, t].clone()
        for tap, lag in enumerate((1, 3)):
            if t - lag >= start:
                expected += taps[tap] * h[0, t - lag]
        torch.testing.assert_close(found[0, t], expected)


def test_the_controls_lags_are_as_many_and_others():
    [placebo] = choose(["dampening.placebo=true"])
    assert len(set(placebo.reads)) == 3
    assert set(placebo.reads) <= set(range(1, 17))
    assert placebo.reads != (1, 2, 3)


@pytest.mark.parametrize("back", [0, 1, 5])
def test_a_head_that_looks_at_one_distance_has_a_flat_spectrum(back):
    weights = np.eye(32, k=-back)
    np.testing.assert_allclose(attention_spectrum(weights), 1.0, atol=1e-12)


def test_a_head_that_averages_has_all_its_power_at_frequency_0():
    weights = np.tril(np.ones((32, 32))) / np.arange(1, 33)[:, None]
    spectrum = attention_spectrum(weights)
    assert spectrum[0] == 1.0
    np.testing.assert_allclose(spectrum[1:], 0.0, atol=1e-12)
