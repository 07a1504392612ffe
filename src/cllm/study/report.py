"""What a study found, as a page, as pictures and as figures for the catalogue."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cllm.files import write_atomic, write_json
from cllm.study.findings import Confirmed, Findings, Screened
from cllm.study.plots import Interval, plot_curves, plot_gains
from cllm.study.results import Row
from cllm.study.statistics import (
    HELPS,
    HURTS,
    LEAST_PERCENT,
    NOTHING,
    PLACEBO_HELPS,
    UNCONTROLLED,
    Estimate,
)

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BUDGETS = {"time": "equal time", "tokens": "equal tokens"}


def write_report(
    folder: Path,
    findings: Findings,
    rows: Sequence[Row],
    manifest: dict[str, Any],
    records: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Write report.md, its pictures and measured.json; returns what measured.json holds."""
    measured = measured_figures(findings)
    pictures = _pictures(folder, findings, rows)
    write_json(folder / "measured.json", measured)
    write_atomic(folder / "report.md", page(findings, manifest, records, pictures))
    return measured


def _pictures(folder: Path, findings: Findings, rows: Sequence[Row]) -> list[str]:
    made = []
    if findings.screened:
        bars: list[tuple[str, Interval, Interval]] = [
            (e.arm, (e.gain, e.low, e.high), (e.placebo_gain, e.placebo_low, e.placebo_high))
            for e in findings.screened
        ]
        plot_gains(folder / "screen", bars, margin=findings.screened[0].margin)
        made.append("screen")
    if findings.confirmed:
        named = [(f"{e.arm}, {_BUDGETS[e.budget]}", e) for e in findings.confirmed]
        bars = [(name, _bar(e.gain), _bar(e.placebo_gain)) for name, e in named]
        plot_gains(folder / "confirm", bars, margin=None)
        plot_curves(folder / "curves", [row for row in rows if row["phase"] == "confirm"])
        made += ["confirm", "curves"]
    return made


def _bar(estimate: Estimate | None) -> Interval:
    return (None, None, None) if estimate is None else (estimate.mean, estimate.low, estimate.high)


def measured_figures(findings: Findings) -> dict[str, Any]:
    """What the catalogue says of each mechanism, and of each set that was confirmed."""
    mechanisms: dict[str, Any] = {
        entry.arm: {
            "gain_percent": round(entry.gain, 2),
            "placebo_gain_percent": _rounded(entry.placebo_gain),
            "verdict": entry.verdict,
            "seeds": entry.seeds,
            "engine": entry.engine,
        }
        for entry in findings.screened
    }
    sets: dict[str, Any] = {}
    for entry in findings.confirmed:
        kept = sets.setdefault(entry.arm, {})
        figures = {
            "gain": gain_in_words(entry),
            "gain_percent": round(entry.gain.mean, 2),
            "low_percent": _rounded(entry.gain.low),
            "high_percent": _rounded(entry.gain.high),
            "p": entry.gain.p,
            "placebo_gain_percent": _rounded(
                entry.placebo_gain.mean if entry.placebo_gain else None
            ),
            "verdict": entry.verdict,
            "seeds": entry.seeds,
            "texts": len(entry.texts),
            "engine": entry.engine,
        }
        if entry.budget == "time":
            sets[entry.arm] = figures | kept
        else:
            kept["equal_tokens"] = figures
    for name, entry_ in sets.items():
        # A quick check by steps alone has no comparison at equal time.
        entry_.setdefault("gain", entry_.get("equal_tokens", {}).get("gain"))
        if name in mechanisms and "gain_percent" in entry_:
            mechanisms[name] |= {key: entry_[key] for key in mechanisms[name]}
    return {"mechanisms": mechanisms, "sets": sets}


def gain_in_words(entry: Confirmed) -> str:
    """`3.1% fewer bits per byte (2.4 to 3.8; two texts, five seeds)`."""
    gain = entry.gain
    word, sign = ("more", -1) if gain.mean < 0 else ("fewer", 1)
    texts = _counted(len(entry.texts), "text")
    counts = f"{texts}, {_counted(entry.seeds, 'seed')}"
    if gain.low is not None and gain.high is not None:
        low, high = sorted((sign * gain.low, sign * gain.high))
        counts = f"{low:.1f} to {high:.1f}; {counts}"
    return f"{abs(gain.mean):.1f}% {word} bits per byte ({counts})"


def _counted(number: int, thing: str) -> str:
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} {thing}{'' if number == 1 else 's'}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def page(
    findings: Findings,
    manifest: dict[str, Any],
    records: Sequence[dict[str, Any]],
    pictures: Sequence[str],
) -> str:
    """The report in Markdown."""
    titles = {record["name"]: record["title"] for record in records}
    parts = [
        "# What the mechanisms gain",
        "Each mechanism was trained against the plain model and against its placebo: the same "
        "shape and cost with the number theory replaced by random numbers. Only a gain over both "
        "speaks for the idea. A gain is how many percent fewer bits per byte the held-out text "
        f"takes; negative is worse. Differences up to {LEAST_PERCENT}% count as none.",
        *_confirmed_part(findings.confirmed, manifest, pictures),
        *_screened_part(findings, manifest, titles, pictures),
        *_failed_part(findings),
        *_method_part(findings, manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _confirmed_part(
    entries: Sequence[Confirmed], manifest: dict[str, Any], pictures: Sequence[str]
) -> list[str]:
    if not entries:
        return []
    settings = manifest["settings"]
    rows = []
    for entry in entries:
        if len(entry.texts) > 1:
            rows.append(_confirmed_row(entry, "all", entry.gain, entry.placebo_gain))
        for text in entry.texts:
            placebo = entry.placebo_by_text.get(text)
            rows.append(_confirmed_row(entry, text, entry.by_text[text], placebo))
    columns = "set|compared at|text|plain|set|gain (95% interval)|p|placebo's gain|over placebo"
    return [
        "## Confirmation",
        f"Models of the size `{settings['confirm_preset']}`, "
        f"{_counted(entries[0].seeds, 'seed')} that the screen has not used. {_equal(settings)} "
        "Where there are two texts, each counts the same. p is of the paired t-test.",
        _table(columns.split("|"), rows),
        "\n".join(f"- **{e.arm}** at {_BUDGETS[e.budget]}: {e.verdict}." for e in entries),
        *_shown(pictures, "confirm", "Gain of each set and its placebo with 95% intervals"),
        *_shown(pictures, "curves", "Held-out bits per byte along the runs"),
    ]


def _equal(settings: dict[str, Any]) -> str:
    if settings["steps"] is not None:
        return f"Every model takes {settings['steps']} steps on the same batches."
    return (
        "At equal tokens every model takes as many steps as the plain one took in its time, on "
        "the same batches."
    )


def _confirmed_row(
    entry: Confirmed, text: str, gain: Estimate, placebo: Estimate | None
) -> list[str]:
    is_all = text == "all"
    return [
        entry.arm,
        _BUDGETS[entry.budget],
        text,
        "" if is_all else f"{entry.plain_bits_per_byte[text]:.4f}",
        "" if is_all else f"{entry.bits_per_byte[text]:.4f}",
        interval(gain),
        p_value(gain),
        interval(placebo),
        interval(entry.over_placebo) if is_all or len(entry.texts) == 1 else "",
    ]


def interval(estimate: Estimate | None) -> str:
    """`+3.1% (+2.4 to +3.8)`."""
    if estimate is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:+.2f}%"
    return f"{estimate.mean:+.2f}% ({estimate.low:+.2f} to {estimate.high:+.2f})"


def p_value(estimate: Estimate) -> str:
    """The p value with two digits; below a thousandth only that."""
    if estimate.p is None:
        return "–"
    return "<0.001" if estimate.p < 0.001 else f"{estimate.p:.2g}"


def _screened_part(
    findings: Findings,
    manifest: dict[str, Any],
    titles: dict[str, str],
    pictures: Sequence[str],
) -> list[str]:
    entries, settings = findings.screened, manifest["settings"]
    if not entries:
        return []
    columns = (
        "mechanism|engine, tokens|gain (range)|placebo's gain (range)|parameters|steps|verdict"
    )
    margin = entries[0].margin
    noise = ""
    if findings.plain_noise.freedom:
        deviation = findings.plain_noise.deviation
        noise += f"Plain models with other seeds differ by {deviation:.2f}% (standard deviation). "
    if margin is not None:
        noise += (
            f"A gain differs by {findings.noise.deviation:.2f}% from seed to seed, because arms "
            f"share seeds; one below {margin:.2f}% can be chance (at 95%), and of {len(entries)} "
            f"arms about {len(entries) / 20:.1g} pass that by chance alone."
        )
    return [
        "## Screen",
        f"Models of the size `{settings['screen_preset']}`, "
        f"{_counted(entries[0].seeds, 'seed')}, each {_length(settings)}, compared with the plain "
        "model on the same engine and the same tokens. Parameters and steps are shares of the "
        f"plain model's. {noise}".rstrip(),
        _table(columns.split("|"), [_screened_row(entry) for entry in entries]),
        *_shown(pictures, "screen", "Gain of each mechanism and its placebo"),
        *_verdict_part(entries, titles),
    ]


def _screened_row(entry: Screened) -> list[str]:
    placebo = "–"
    if entry.placebo_gain is not None:
        low, high = entry.placebo_low, entry.placebo_high
        placebo = f"{entry.placebo_gain:+.2f}% ({low:+.2f} to {high:+.2f})"
    return [
        f"`{entry.arm}`",
        f"{entry.engine}, {entry.tokenizer}",
        f"{entry.gain:+.2f}% ({entry.low:+.2f} to {entry.high:+.2f})",
        placebo,
        f"{entry.parameters / entry.plain_parameters:.2f}",
        f"{entry.steps_ratio:.2f}",
        entry.verdict,
    ]


def _verdict_part(entries: Sequence[Screened], titles: dict[str, str]) -> list[str]:
    kinds = (
        ("What helped, and more than its placebo", HELPS),
        ("What helped, but no more than its placebo", PLACEBO_HELPS),
        ("What helped, without a placebo to compare with", UNCONTROLLED),
        ("What did nothing", NOTHING),
        ("What hurt", HURTS),
    )
    parts = []
    for heading, wanted in kinds:
        lines = [
            f"- `{entry.arm}` ({entry.gain:+.2f}%)"
            + (f": {titles[entry.arm]}" if entry.arm in titles else "")
            for entry in entries
            if entry.verdict == wanted
        ]
        if lines:
            parts += [f"### {heading}", "\n".join(lines)]
    return parts


def _failed_part(findings: Findings) -> list[str]:
    if not findings.failed:
        return []
    lines = [f"- {name}: {complaint}" for name, complaint in findings.failed]
    return ["## Runs that failed", "\n".join(lines)]


def _method_part(findings: Findings, manifest: dict[str, Any]) -> list[str]:
    settings, start = manifest["settings"], manifest["starts"][-1]
    versions = ", ".join(f"{name} {value}" for name, value in start["versions"].items() if value)
    parallel = settings["parallel"]
    side = f"{parallel} at a time" if parallel else "as many at a time as there are cores"
    alone = f"{parallel} at a time" if parallel else "one at a time on all cores"
    commits = list(dict.fromkeys(entry["commit"] or "unknown" for entry in manifest["starts"]))
    lines = [
        f"- Command: `{shlex.join(manifest['command'])}`",
        f"- Texts: {', '.join(manifest['texts'])}; the screen reads the first. Vocabularies of "
        f"{settings['bpe_vocab']:,} BPE pieces, and of {settings['words_vocab']:,} words for "
        "mechanisms that need roots; fewer where a text has no more.",
        f"- {findings.num_runs} runs, each {_length(settings)}, in batches of "
        f"{settings['batch_size']} windows of {settings['context']} tokens; each is "
        "`cllm train` from Enter to the saved model, in a process of its own.",
        f"- The screen's runs went {side}, the confirmation's {alone}; arms in a mixed order, so "
        "that drifts of the machine cancel.",
        f"- Machine: {start['processor']}, {start['cores']} cores, "
        f"{start['memory_bytes'] / 1e9:.1f} GB, {start['system']}.",
        f"- Programs: Python {start['python']}, {versions}; commit {', '.join(commits)}.",
    ]
    return ["## How it was measured", "\n".join(lines)]


def _length(settings: dict[str, Any]) -> str:
    if settings["steps"] is not None:
        return f"{settings['steps']} steps long"
    return f"{settings['seconds']:g} s long"


def _shown(pictures: Sequence[str], name: str, caption: str) -> list[str]:
    return [f"![{caption}]({name}.svg)"] if name in pictures else []


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
