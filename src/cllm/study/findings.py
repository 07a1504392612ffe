"""From the results of a study to what they say: gains in percent, and verdicts in words."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cllm.study.plan import Budget, Cell
from cllm.study.results import Row, has_figure
from cllm.study.statistics import (
    UNDECIDED,
    Estimate,
    Noise,
    paired,
    pooled_noise,
    stratified,
    typical_noise,
    verdict,
)


@dataclass(frozen=True, slots=True)
class Screened:
    """An arm of the screen: gains over the plain model of its round, in percent.

    `low` and `high` are the least and the greatest of the seeds; `margin` is what chance reaches.
    """

    arm: str
    engine: str
    tokenizer: str
    seeds: int
    gain: float
    low: float
    high: float
    placebo_gain: float | None
    placebo_low: float | None
    placebo_high: float | None
    margin: float | None
    bits_per_byte: float
    plain_bits_per_byte: float
    parameters: int
    plain_parameters: int
    steps_ratio: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A set at equal time or at equal tokens: gains in percent, over texts and seeds.

    `over_placebo` is the gain of the set over its placebo, in percent of the plain model.
    """

    arm: str
    budget: Budget
    engine: str
    tokenizer: str
    texts: tuple[str, ...]
    seeds: int
    gain: Estimate
    placebo_gain: Estimate | None
    over_placebo: Estimate | None
    by_text: dict[str, Estimate]
    placebo_by_text: dict[str, Estimate]
    bits_per_byte: dict[str, float]
    plain_bits_per_byte: dict[str, float]
    verdict: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a study found; `failed` holds (run, complaint).

    `noise` is that of a gain from seed to seed in the screen; `plain_noise` that of plain models.
    Both are in percent.
    """

    screened: list[Screened]
    confirmed: list[Confirmed]
    noise: Noise
    plain_noise: Noise
    num_runs: int
    failed: list[tuple[str, str]] = field(default_factory=list)


_Key = tuple[str, str, str, str]
_Scores = dict[int, Row]
_Groups = dict[_Key, dict[tuple[str, str], _Scores]]
_PLAIN = ("plain", "plain")


def find(rows: Sequence[Row]) -> Findings:
    """Compare the runs of a study. Runs without a figure count as failed."""
    good = [row for row in rows if has_figure(row)]
    failed = [(row["id"], row.get("error", "no figure")) for row in rows if not has_figure(row)]
    screen = _by_arm([row for row in good if row["phase"] == "screen"])
    noise = _gain_noise(screen)
    return Findings(
        screened=_screened(screen, noise),
        confirmed=_confirmed([row for row in good if row["phase"] == "confirm"]),
        noise=noise,
        plain_noise=_plain_noise(_by_arm(good)),
        num_runs=len(good),
        failed=failed,
    )


def _by_arm(rows: Sequence[Row]) -> _Groups:
    """{phase, budget and text, engine, tokeniser: {(arm, role): {seed: row}}}."""
    found: _Groups = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        key = (f"{row['phase']} {row['budget']}", row["text"], row["engine"], row["tokenizer"])
        found[key][row["arm"], row["role"]][row["seed"]] = row
    return found


def _gain_noise(groups: _Groups) -> Noise:
    """How far an arm's gains lie apart from seed to seed, typically.

    Seed by seed an arm and the plain model begin with the same weights and read the same
    batches, so that their difference varies less than either.
    """
    found = []
    for arms in groups.values():
        plain = arms.get(_PLAIN, {})
        for key, runs in arms.items():
            if key != _PLAIN:
                found.append(_gains(plain, runs))
    return typical_noise(found)


def _plain_noise(groups: _Groups) -> Noise:
    """How far plain models of one round lie apart, in percent of their mean."""
    relative = []
    for arms in groups.values():
        scores = [row["val_bits_per_byte"] for row in arms.get(_PLAIN, {}).values()]
        mean = statistics.fmean(scores) if scores else 1.0
        relative.append([100 * score / mean for score in scores])
    return pooled_noise(relative)


def _screened(groups: _Groups, noise: Noise) -> list[Screened]:
    found = []
    for (_, _, engine, tokenizer), arms in groups.items():
        plain = arms.get(_PLAIN, {})
        for (name, role), runs in arms.items():
            seeds = _shared(plain, runs)
            if role != "arm" or not seeds:
                continue
            gains = _gains(plain, runs)
            controls = _gains(plain, arms.get((name, "placebo"), {}))
            gain = statistics.fmean(gains)
            control = statistics.fmean(controls) if controls else None
            margin = noise.margin(len(gains))
            found.append(
                Screened(
                    arm=name,
                    engine=engine,
                    tokenizer=tokenizer,
                    seeds=len(seeds),
                    gain=gain,
                    low=min(gains),
                    high=max(gains),
                    placebo_gain=control,
                    placebo_low=min(controls, default=None),
                    placebo_high=max(controls, default=None),
                    margin=margin,
                    bits_per_byte=_mean(runs, seeds, "val_bits_per_byte"),
                    plain_bits_per_byte=_mean(plain, seeds, "val_bits_per_byte"),
                    parameters=runs[seeds[0]]["num_parameters"],
                    plain_parameters=plain[seeds[0]]["num_parameters"],
                    steps_ratio=_mean(runs, seeds, "steps") / _mean(plain, seeds, "steps"),
                    verdict=verdict(
                        gain,
                        control,
                        margin=margin,
                        placebo_margin=noise.margin(min(len(gains), len(controls))),
                    ),
                )
            )
    return sorted(found, key=lambda entry: -entry.gain)


def _shared(*runs: _Scores) -> list[int]:
    """The seeds that all of them have."""
    return sorted(set.intersection(*map(set, runs)))


def _gains(plain: _Scores, runs: _Scores) -> list[float]:
    """Percent fewer bits per byte than the plain model of the same seed, seed by seed."""
    return [_percent(plain[s], plain[s], runs[s]) for s in _shared(plain, runs)]


def _percent(plain: Row, worse: Row, better: Row) -> float:
    bits = [float(row["val_bits_per_byte"]) for row in (plain, worse, better)]
    return 100 * (bits[1] - bits[2]) / bits[0]


def _mean(runs: _Scores, seeds: Sequence[int], figure: str) -> float:
    return statistics.fmean(float(runs[seed][figure]) for seed in seeds)


def _confirmed(rows: Sequence[Row]) -> list[Confirmed]:
    cells: dict[tuple[str, str, str, Budget], dict[str, dict[str, _Scores]]] = {}
    for row in rows:
        if row["role"] == "plain":
            continue
        key = (row["arm"], row["engine"], row["tokenizer"], row["budget"])
        text = cells.setdefault(key, {}).setdefault(row["text"], {"arm": {}, "placebo": {}})
        text[row["role"]][row["seed"]] = row
    plain: dict[tuple[str, str, Budget, str], _Scores] = defaultdict(dict)
    for row in rows:
        if row["role"] == "plain":
            key_ = (row["engine"], row["tokenizer"], row["budget"], row["text"])
            plain[key_][row["seed"]] = row
    found = []
    for (arm, engine, tokenizer, budget), texts in cells.items():
        plains = {text: plain[engine, tokenizer, budget, text] for text in texts}
        entry = _confirm((arm, engine, tokenizer), budget, texts, plains)
        if entry is not None:
            found.append(entry)
    return found


def _confirm(
    names: tuple[str, str, str],
    budget: Budget,
    texts: dict[str, dict[str, _Scores]],
    plains: dict[str, _Scores],
) -> Confirmed | None:
    gains, controls, overs = {}, {}, {}
    for text, roles in texts.items():
        plain, runs, placebo = plains[text], roles["arm"], roles["placebo"]
        if found := _gains(plain, runs):
            gains[text] = found
        if found := _gains(plain, placebo):
            controls[text] = found
        if both := _shared(plain, placebo, runs):
            overs[text] = [_percent(plain[s], placebo[s], runs[s]) for s in both]
    if not gains:
        return None
    gain = stratified(list(gains.values()))
    control = stratified(list(controls.values())) if controls else None
    over = stratified(list(overs.values())) if overs else None
    arms = {text: texts[text]["arm"] for text in gains}
    common = {text: _shared(plains[text], arms[text]) for text in gains}
    return Confirmed(
        arm=names[0],
        budget=budget,
        engine=names[1],
        tokenizer=names[2],
        texts=tuple(gains),
        seeds=min(map(len, gains.values())),
        gain=gain,
        placebo_gain=control,
        over_placebo=over,
        by_text={text: paired(values) for text, values in gains.items()},
        placebo_by_text={text: paired(values) for text, values in controls.items()},
        bits_per_byte={t: _mean(arms[t], common[t], "val_bits_per_byte") for t in gains},
        plain_bits_per_byte={t: _mean(plains[t], common[t], "val_bits_per_byte") for t in gains},
        verdict=_confirmed_verdict(gain, control, over),
    )


def _confirmed_verdict(gain: Estimate, control: Estimate | None, over: Estimate | None) -> str:
    if gain.low is None:
        return UNDECIDED
    return verdict(
        gain.mean,
        None if over is None or control is None else gain.mean - over.mean,
        margin=gain.mean - gain.low,
        placebo_margin=None if over is None or over.low is None else over.mean - over.low,
    )


def equal_steps(rows: Sequence[Row]) -> dict[Cell, int]:
    """Steps for equal tokens by text, engine and tokeniser: the plain model's at equal time."""
    found: dict[Cell, list[int]] = defaultdict(list)
    for row in rows:
        is_plain = row["role"] == "plain" and has_figure(row)
        if is_plain and row["budget"] == "time" and row["phase"] == "confirm":
            found[row["text"], row["engine"], row["tokenizer"]].append(row["steps"])
    return {key: max(1, round(statistics.median(steps))) for key, steps in found.items()}
