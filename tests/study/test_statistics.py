"""Student's t against tables and closed forms; estimates against calculations by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.study.statistics import (
    HELPS,
    HURTS,
    NOTHING,
    PLACEBO_HELPS,
    UNCONTROLLED,
    UNDECIDED,
    Noise,
    paired,
    pooled_noise,
    stratified,
    t_below,
    t_quantile,
    typical_noise,
    verdict,
)

# Any printed table of the t distribution.
TABLE = {1: 12.7062, 2: 4.302653, 4: 2.776445, 9: 2.262157, 30: 2.042272}
CLOSED_FORMS = {
    1: lambda t: 0.5 + math.atan(t) / math.pi,
    2: lambda t: 0.5 + t / (2 * math.sqrt(2 + t * t)),
    3: lambda t: 0.5 + (t / math.sqrt(3) / (1 + t * t / 3) + math.atan(t / math.sqrt(3))) / math.pi,
}


@pytest.mark.parametrize(("freedom", "expected"), TABLE.items())
def test_quantiles_are_those_of_the_table(freedom: int, expected: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(expected, rel=1e-5)


@given(st.floats(-50, 50), st.sampled_from(sorted(CLOSED_FORMS)))
def test_probabilities_are_those_of_the_closed_forms(t: float, freedom: int) -> None:
    assert t_below(t, freedom) == pytest.approx(CLOSED_FORMS[freedom](t), abs=1e-12)


def test_many_degrees_of_freedom_are_the_normal_distribution() -> None:
    assert t_below(1.3, 1e7) == pytest.approx((1 + math.erf(1.3 / math.sqrt(2))) / 2, abs=1e-7)


def test_paired_differences_by_hand() -> None:
    """Mean 3, error √(2.5 / 5), t = 4.2426 with 4 degrees, of which p has a closed form."""
    found = paired([1.0, 2.0, 3.0, 4.0, 5.0])
    t, reach = 3 / math.sqrt(0.5), 2.776445 * math.sqrt(0.5)
    wide = 1 + t * t / 4
    tail = 0.5 - 3 / 8 * t / math.sqrt(wide) * (1 - t * t / wide / 12)
    assert (found.mean, found.count) == (3.0, 5)
    assert found.low == pytest.approx(3 - reach, abs=1e-5)
    assert found.high == pytest.approx(3 + reach, abs=1e-5)
    assert found.p == pytest.approx(2 * tail, abs=1e-9)
    assert found.p == pytest.approx(0.0132, abs=1e-4)


def test_two_texts_by_hand() -> None:
    """Means 2 and 6, each with variance 2 / 2; so 4 ± t(2) · √((1 + 1) / 4)."""
    found = stratified([[1.0, 3.0], [5.0, 7.0]])
    assert found.mean == 4.0
    assert found.high == pytest.approx(4 + 4.302653 * math.sqrt(0.5), abs=1e-5)
    # Nine times one text and one of the other count the same.
    assert stratified([[0.0] * 9, [6.0] * 2]).mean == 3.0


def test_one_difference_has_no_interval() -> None:
    found = paired([2.0])
    assert (found.mean, found.low, found.high, found.p) == (2.0, None, None, None)


def test_differences_that_are_all_the_same() -> None:
    assert paired([0.0, 0.0, 0.0]).p == 1.0
    assert paired([0.5, 0.5]).p == 0.0


def test_noise_is_pooled_over_groups() -> None:
    """Squares 2 + 8 over 1 + 2 degrees; single runs say nothing."""
    noise = pooled_noise([[0.0, 2.0], [0.0, 2.0, 4.0], [7.0]])
    assert (noise.deviation, noise.freedom) == (pytest.approx(math.sqrt(10 / 3)), 3)
    assert noise.margin(3) == pytest.approx(3.182446 * math.sqrt(10 / 3) / math.sqrt(3), abs=1e-5)
    assert pooled_noise([[1.0], []]).margin(2) is None


@pytest.mark.parametrize("size", [2, 3, 5])
def test_typical_noise_finds_the_deviation_whatever_a_few_groups_do(size: int) -> None:
    random = np.random.default_rng(size)
    groups = random.normal(scale=0.3, size=(3000, size))
    groups[:100] *= 1000
    assert typical_noise(groups.tolist()).deviation == pytest.approx(0.3, rel=0.08)
    assert pooled_noise(groups.tolist()).deviation > 10


@pytest.mark.parametrize(
    ("gain", "placebo", "expected"),
    [
        (3.0, 0.5, HELPS),
        (3.0, 2.5, PLACEBO_HELPS),
        (3.0, None, UNCONTROLLED),
        (0.9, -3.0, NOTHING),
        (-0.9, 0.0, NOTHING),
        (-1.1, 0.0, HURTS),
    ],
)
def test_verdicts(gain: float, placebo: float | None, expected: str) -> None:
    assert verdict(gain, placebo, margin=1.0, placebo_margin=1.0) == expected


def test_a_sure_difference_that_is_tiny_counts_as_none() -> None:
    assert verdict(0.05, 0.0, margin=0.01, placebo_margin=0.01) == NOTHING
    assert verdict(-0.05, 0.0, margin=0.01, placebo_margin=0.01) == NOTHING
    assert verdict(1.0, 0.95, margin=0.01, placebo_margin=0.01) == PLACEBO_HELPS


def test_no_verdict_without_a_margin() -> None:
    assert verdict(9.0, 0.0, margin=Noise(0.0, 0).margin(2), placebo_margin=None) == UNDECIDED
