"""Rotary positions that are exactly rational."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from cllm.errors import SettingsError
from cllm.model import Transformer
from cllm.model.mechanisms.choose import choose
from cllm.model.mechanisms.plimpton import Plimpton


def test_angles_are_those_of_triples_near_rope_s(models):
    """Base 10⁴ and width 8: ω = 1, 1/10, 1/100, 1/1000, so m = 2, 20, 200, 2000."""
    angles = Plimpton().frequencies(models.spec())
    cosines = [3 / 5, 399 / 401, 39_999 / 40_001, 3_999_999 / 4_000_001]
    sines = [4 / 5, 40 / 401, 400 / 40_001, 4000 / 4_000_001]
    assert np.abs(np.cos(angles) - cosines).max() < 1e-15
    assert np.abs(np.sin(angles) - sines).max() < 1e-15


def test_every_position_s_turn_is_rational(models):
    """Powers of (3 + 4i)/5 in whole numbers, against the model's table of the first pair."""
    model = Transformer(models.spec(("plimpton",)))
    cos, sin = Fraction(1), Fraction(0)
    for position in range(32):
        found = (float(model.rotary.cos[position, 0]), float(model.rotary.sin[position, 4]))
        assert np.abs(np.subtract(found, (float(cos), float(sin)))).max() < 1e-6
        assert cos**2 + sin**2 == 1
        cos, sin = (3 * cos - 4 * sin) / 5, (4 * cos + 3 * sin) / 5


def test_the_control_is_off_by_as_much_as_rounding(models):
    """At most half a step of m = 2/ω, as for the real one, and not the same."""
    spec = replace(models.spec(), head_width=64)
    cotangents = 2 * 10_000.0 ** (2 * np.arange(32) / 64)
    for part in (Plimpton(), Plimpton(placebo=True)):
        moved = 1 / np.tan(part.frequencies(spec) / 2) - cotangents
        assert 0.2 < np.abs(moved).max() <= 0.5 + 1e-8
    real, control = (Plimpton(placebo=is_on).frequencies(spec) for is_on in (False, True))
    assert not np.allclose(real[:8], control[:8])


def test_angles_can_be_chosen_only_once():
    with pytest.raises(SettingsError, match="plimpton and golden can't be on together"):
        choose(["plimpton", "golden"])


def test_with_no_positions_between_two_tokens_it_is_the_plain_model(models):
    """Alone at position 0 nothing is turned."""
    ids = models.ids(length=1)
    with torch.no_grad():
        plain = models.stirred(models.spec())(ids)
        assert torch.equal(models.stirred(models.spec(("plimpton",)))(ids), plain)
