"""From made-up results to findings, a page and figures that were worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cllm.files import read_json
from cllm.study.arms import Role
from cllm.study.findings import equal_steps, find
from cllm.study.plan import Budget, Engine, Phase, Run
from cllm.study.report import gain_in_words, measured_figures, write_report
from cllm.study.statistics import HELPS, HURTS, NOTHING, PLACEBO_HELPS

SETTINGS = {
    "seconds": 30.0,
    "steps": None,
    "seeds": 2,
    "parallel": None,
    "screen_preset": "tiny",
    "confirm_preset": "small",
    "context": 128,
    "batch_size": 16,
    "bpe_vocab": 1024,
    "words_vocab": 4096,
}
MANIFEST = {
    "command": ["cllm", "study", "mechanisms", "my text"],
    "texts": {"t": ["/t"], "u": ["/u"]},
    "settings": SETTINGS,
    "starts": [
        {
            "processor": "Abacus 9",
            "cores": 2,
            "memory_bytes": 8_000_000_000,
            "system": "Linux x86_64",
            "python": "3.11.7",
            "versions": {"torch": "2.13"},
            "commit": "abc123",
        }
    ],
}
RECORDS = [{"name": "good", "title": "a good idea"}, {"name": "vain", "title": "a vain one"}]


def row(
    arm: str,
    role: Role,
    seed: int,
    bits: float | None,
    *,
    phase: Phase = "screen",
    budget: Budget = "time",
    text: str = "t",
    engine: Engine = "torch",
) -> dict[str, Any]:
    run = Run(phase, budget, text, "bpe", engine, arm, role, (arm,), seed, 30.0, None, "tiny", 1)
    if bits is None:
        return run.to_json() | {"error": "it fell over"}
    figures = {"steps": 90 if role == "arm" else 100, "num_parameters": 1000}
    curve = [[10, 1.0, bits + 1], [20, 2.0, bits]]
    return (
        run.to_json()
        | {"val_bits_per_byte": bits, "seconds_training": 25.0}
        | figures
        | {"curve": curve}
    )


def pairs(arm: str, role: Role, *bits: float) -> list[dict[str, Any]]:
    return [row(arm, role, seed, value) for seed, value in enumerate(bits, 1)]


# Plain models take 4.0 and 4.2. Gains: good 5% and 6%, its placebo 1% and 0%; vain 0% and 1%;
# bad -8% and -9%; lucky 5% and 6%, its placebo 6% and 5%.
SCREEN = [
    *pairs("plain", "plain", 4.0, 4.2),
    *pairs("good", "arm", 3.8, 3.948),
    *pairs("good", "placebo", 3.96, 4.2),
    *pairs("vain", "arm", 4.0, 4.158),
    *pairs("vain", "placebo", 4.0, 4.158),
    *pairs("bad", "arm", 4.32, 4.578),
    *pairs("bad", "placebo", 4.0, 4.158),
    *pairs("lucky", "arm", 3.8, 3.948),
    *pairs("lucky", "placebo", 3.76, 3.99),
    # Of another engine: no part of the comparison.
    row("plain", "plain", 1, 9.0, engine="compiled"),
    row("broken", "arm", 1, None),
]


def test_a_screen_by_hand() -> None:
    found = find(SCREEN)
    entries = {entry.arm: entry for entry in found.screened}
    assert list(entries) == ["good", "lucky", "vain", "bad"]
    good = entries["good"]
    assert (good.gain, good.low, good.high) == pytest.approx((5.5, 5.0, 6.0))
    assert (good.placebo_gain, good.placebo_low, good.placebo_high) == pytest.approx((0.5, 0, 1))
    assert (good.bits_per_byte, good.plain_bits_per_byte) == pytest.approx((3.874, 4.1))
    assert good.steps_ratio == pytest.approx(0.9)
    # Every pair of gains lies 1% apart: variance 1/2, over the median of χ² with one degree;
    # t of eight degrees is 2.306.
    deviation = math.sqrt(0.5 / (7 / 9) ** 3)
    assert found.noise.deviation == pytest.approx(deviation)
    assert good.margin == pytest.approx(2.306004 * deviation / math.sqrt(2), rel=1e-5)
    assert {name: entry.verdict for name, entry in entries.items()} == {
        "good": HELPS,
        "lucky": PLACEBO_HELPS,
        "vain": NOTHING,
        "bad": HURTS,
    }
    # 4.0 and 4.2 lie 0.2 apart: 0.2 / √2 of 4.1.
    assert found.plain_noise.deviation == pytest.approx(100 * 0.2 / math.sqrt(2) / 4.1)
    assert found.failed == [(SCREEN[-1]["id"], "it fell over")]


def confirmation(budget: Budget = "time") -> list[dict[str, Any]]:
    """Gains on t: 1, 2, 3, 4, 5%; on u: 3% each time but for ±1%; placebos 0.5% everywhere."""
    gains = {"t": [1, 2, 3, 4, 5], "u": [2, 3, 3, 3, 4]}
    rows = []
    for text, values in gains.items():
        for seed, gain in enumerate(values, 2001):
            place: dict[str, Any] = {"phase": "confirm", "budget": budget, "text": text}
            rows += [
                row("plain", "plain", seed, 2.0, **place),
                row("crystal", "arm", seed, 2 - 0.02 * gain, **place),
                row("crystal", "placebo", seed, 1.99, **place),
            ]
    return rows


def test_a_confirmation_by_hand() -> None:
    (entry,) = find(confirmation()).confirmed
    assert (entry.texts, entry.seeds) == (("t", "u"), 5)
    # Variances 2.5 / 5 and 0.5 / 5; the mean of two means has a quarter of their sum.
    shares = [0.5 / 4, 0.1 / 4]
    freedom = sum(shares) ** 2 / sum(share**2 / 4 for share in shares)
    assert freedom == pytest.approx(5.538, abs=1e-3)
    assert entry.gain.mean == pytest.approx(3.0)
    assert entry.gain.count == 10
    # Between t of 5 degrees (2.571) and of 6 (2.447).
    assert entry.gain.high is not None
    t = (entry.gain.high - 3) / math.sqrt(sum(shares))
    assert 2.447 < t < 2.571
    assert entry.by_text["t"].high == pytest.approx(3 + 2.776445 * math.sqrt(0.5), abs=1e-4)
    assert entry.placebo_gain is not None
    assert entry.placebo_gain.mean == pytest.approx(0.5)
    assert entry.over_placebo is not None
    assert entry.over_placebo.mean == pytest.approx(2.5)
    assert entry.verdict == HELPS
    assert entry.plain_bits_per_byte == {"t": 2.0, "u": 2.0}
    assert gain_in_words(entry) == "3.0% fewer bits per byte (2.0 to 4.0; two texts, five seeds)"


def test_a_loss_in_words() -> None:
    rows = [r | {"val_bits_per_byte": 4 - r["val_bits_per_byte"]} for r in confirmation()]
    (entry,) = find(rows).confirmed
    assert gain_in_words(entry) == "3.0% more bits per byte (2.0 to 4.0; two texts, five seeds)"
    assert entry.verdict == HURTS


def test_equal_tokens_take_the_steps_of_the_plain_model_at_equal_time() -> None:
    rows = confirmation()
    for seed_row, steps in zip(
        [r for r in rows if r["role"] == "plain"], range(100, 110), strict=True
    ):
        seed_row["steps"] = steps
    # The screen's runs and those of equal tokens themselves do not count.
    rows += [*SCREEN, *(r | {"steps": 5000} for r in confirmation("tokens"))]
    assert equal_steps(rows) == {("t", "torch", "bpe"): 102, ("u", "torch", "bpe"): 107}


def test_figures_for_the_catalogue() -> None:
    measured = measured_figures(find([*SCREEN, *confirmation(), *confirmation("tokens")]))
    assert measured["mechanisms"]["good"] == {
        "gain_percent": 5.5,
        "placebo_gain_percent": 0.5,
        "verdict": "helps",
        "seeds": 2,
        "engine": "torch",
    }
    crystal = measured["sets"]["crystal"]
    assert crystal["gain"] == "3.0% fewer bits per byte (2.0 to 4.0; two texts, five seeds)"
    assert crystal["equal_tokens"]["gain_percent"] == 3.0


def test_a_mechanism_that_was_confirmed_has_the_figures_of_that() -> None:
    rows = [r | {"arm": "good"} if r["arm"] == "crystal" else r for r in confirmation()]
    measured = measured_figures(find([*SCREEN, *rows]))
    assert measured["mechanisms"]["good"]["gain_percent"] == 3.0
    assert measured["mechanisms"]["good"]["seeds"] == 5


def test_the_page_says_it_all(tmp_path: Path) -> None:
    rows = [*SCREEN, *confirmation(), *confirmation("tokens")]
    measured = write_report(tmp_path, find(rows), rows, MANIFEST, RECORDS)
    assert read_json(tmp_path / "measured.json") == measured
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| `good` | torch, bpe | +5.50% (+5.00 to +6.00) | +0.50% (+0.00 to +1.00) " in page
    assert "### What did nothing\n\n- `vain` (+0.50%): a vain one" in page
    assert "### What hurt\n\n- `bad` (-8.50%)" in page
    assert "| crystal | equal tokens | u | 2.0000 | 1.9400 | +3.00% (" in page
    assert "- **crystal** at equal time: helps." in page
    assert "it fell over" in page
    assert "`cllm study mechanisms 'my text'`" in page
    assert "Abacus 9, 2 cores, 8.0 GB" in page
    assert "abc123" in page
    for name in ("screen", "confirm", "curves"):
        assert f"({name}.svg)" in page
        assert (tmp_path / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "screen.svg").read_bytes()
    write_report(tmp_path, find(rows), rows, MANIFEST, RECORDS)
    assert (tmp_path / "screen.svg").read_bytes() == first
