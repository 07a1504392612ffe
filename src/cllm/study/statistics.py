"""Means with 95% intervals and p values of paired differences, by Student's t.

Source: Student, "The probable error of a mean", Biometrika 6, 1908; Welch 1947 and
Satterthwaite 1946 for means of several groups.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
# A tenth of a percent is less than what a few more seconds of training give.
LEAST_PERCENT = 0.1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `count` differences with its interval; one difference has neither that nor p."""

    mean: float
    low: float | None
    high: float | None
    p: float | None
    count: int


def t_below(t: float | int, freedom: float | int) -> float:
    """The probability that Student's t with that many degrees of freedom is at most `t`."""
    from mpmath import betainc  # type: ignore[import-untyped]

    # Whichever of centre and tail is small is computed: the other would lose its digits.
    if t * t < freedom:
        share = t * t / (freedom + t * t)
        half = float(betainc(0.5, freedom / 2, 0, share, regularized=True)) / 2
        return 0.5 + math.copysign(half, t)
    share = freedom / (freedom + t * t)
    tail = float(betainc(freedom / 2, 0.5, 0, share, regularized=True)) / 2
    return 1 - tail if t > 0 else tail


def t_quantile(probability: float, freedom: float | int) -> float:
    """The t below which Student's t lies with this probability, between 0.5 and 1."""
    assert 0.5 <= probability < 1 and freedom > 0
    low, high = 0.0, 1.0
    while t_below(high, freedom) < probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_below(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def paired(differences: Sequence[float]) -> Estimate:
    """The mean of paired differences, its interval, and p of the two-sided paired t-test."""
    return stratified([differences])


def stratified(groups: Sequence[Sequence[float]]) -> Estimate:
    """The mean of the groups' means, each group (a text) counting the same.

    Variances are the groups' own; degrees of freedom by Welch and Satterthwaite.
    """
    assert groups and all(groups), "each group has a difference"
    count = sum(map(len, groups))
    mean = statistics.fmean(statistics.fmean(group) for group in groups)
    if min(map(len, groups)) < 2:
        return Estimate(mean, None, None, None, count)
    shares = [statistics.variance(group) / len(group) / len(groups) ** 2 for group in groups]
    error = math.sqrt(sum(shares))
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0, count)
    sizes = [len(group) - 1 for group in groups]
    freedom = sum(shares) ** 2 / sum(v * v / n for v, n in zip(shares, sizes, strict=True))
    reach = t_quantile((1 + CONFIDENCE) / 2, freedom) * error
    p = 2 * t_below(-abs(mean / error), freedom)
    return Estimate(mean, mean - reach, mean + reach, p, count)


@dataclass(frozen=True, slots=True)
class Noise:
    """A standard deviation between equal cases, and its degrees of freedom."""

    deviation: float
    freedom: int

    def margin(self, count: int) -> float | None:
        """What the mean of `count` cases exceeds by chance once in 20 times; None if unknown."""
        if self.freedom < 1 or count < 1:
            return None
        return t_quantile((1 + CONFIDENCE) / 2, self.freedom) * self.deviation / math.sqrt(count)


def pooled_noise(groups: Sequence[Sequence[float]]) -> Noise:
    """The deviation inside groups of equal cases, over all groups."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in several)
    return Noise(math.sqrt(squares / freedom) if freedom else 0.0, freedom)


def typical_noise(groups: Sequence[Sequence[float]]) -> Noise:
    """The deviation inside a typical group: a few that are far noisier do not count.

    From the median of the variances, over what that median is of a variance of 1: the median
    of χ² by Wilson and Hilferty, 1931.
    """
    several = [group for group in groups if len(group) > 1]
    if not several:
        return Noise(0.0, 0)
    sizes = [len(group) - 1 for group in several]
    medians = [(1 - 2 / (9 * size)) ** 3 for size in sizes]
    scaled = [statistics.variance(g) / m for g, m in zip(several, medians, strict=True)]
    return Noise(math.sqrt(statistics.median(scaled)), sum(sizes))


def verdict(
    gain: float, placebo_gain: float | None, *, margin: float | None, placebo_margin: float | None
) -> str:
    """In words, what gains over the plain model say that are sure to ± their margins.

    `placebo_margin` belongs to the difference between the mechanism and its placebo. However
    sure they are, differences up to `LEAST_PERCENT` count as none.
    """
    if margin is None:
        return UNDECIDED
    least = max(margin, LEAST_PERCENT)
    if gain < -least:
        return HURTS
    if gain <= least:
        return NOTHING
    if placebo_gain is None or placebo_margin is None:
        return UNCONTROLLED
    return HELPS if gain - placebo_gain > max(placebo_margin, LEAST_PERCENT) else PLACEBO_HELPS


HELPS = "helps"
PLACEBO_HELPS = "helps, but its placebo helps as much (the idea is not what helps)"
UNCONTROLLED = "helps, but its placebo was not measured"
NOTHING = "nothing"
HURTS = "hurts"
UNDECIDED = "too few runs to say"
