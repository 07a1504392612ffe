"""Benchmarks: what other programs reach with the same weights, side by side with ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from nicegui import ui

from cllm.quantities import short_count, size
from cllm.web.layout import section, text

# What is compared, and what a ratio of it means.
WORKS = {
    "decode": ("One text", "Tokens a second when writing one text."),
    "prefill": ("Prompt", "Tokens a second when reading a prompt."),
    "training": ("Training", "Tokens a second in training, each with the optimiser it has."),
    "memory": ("Memory", "The most that a whole process held, Python and all."),
}
_GROUPS = {
    "float32": "32 and 16 bits",
    "int8": "8 bits",
    "int4": "4 bits",
    "as stored": "as it is stored",
}
# Nearer to one than this, nobody is ahead.
_EVEN = 0.03
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """One program in one format: its figure, and how many times as well ours does."""

    name: str
    value: float
    times: float | None
    is_ours: bool

    @property
    def is_loss(self) -> bool:
        """Whether ours is behind."""
        return self.times is not None and self.times < 1 - _EVEN


def groups(model: Mapping[str, Any], work: str) -> list[tuple[str, list[Bar]]]:
    """The bars of a model, ours first in each group of equal bits."""
    found = []
    for number, own in enumerate(model["formats"]):
        kind = own["format"]
        mine = _figure(own, work) if work != "training" else None
        if work == "training" and number == 0:
            mine = _middle(model.get("training_tokens_per_s"))
        bars = [] if mine is None else [Bar("cllm", mine, None, True)]
        for peer in model.get("peers") or ():
            theirs = _figure(peer, work)
            if peer["against"] == kind and theirs is not None:
                name = f"{peer['program']} {peer['format']}"
                bars.append(Bar(name, theirs, _times(peer, work, mine, theirs), False))
        if len(bars) > 1:
            found.append((_GROUPS.get(kind, kind), bars))
    return found


def _figure(figures: Mapping[str, Any], work: str) -> float | None:
    if work == "memory":
        held = figures.get("peak_bytes")
        return None if held is None else float(held)
    return _middle(figures.get(f"{work}_tokens_per_s"))


def _middle(rates: Mapping[str, Any] | None) -> float | None:
    return None if rates is None else float(rates["median"])


def _times(peer: Mapping[str, Any], work: str, mine: float | None, theirs: float) -> float | None:
    if work == "memory":
        return theirs / mine if mine else None
    return _middle(peer.get(f"{work}_times"))


def verdict(found: Mapping[str, Any]) -> tuple[str, list[str]]:
    """How often ours is ahead, and where it is behind, the farthest first."""
    told: list[tuple[float, str]] = []
    ahead = total = 0
    for model in found["models"]:
        for work, (label, _) in WORKS.items():
            for _, bars in groups(model, work):
                for bar in bars:
                    if bar.times is None:
                        continue
                    total += 1
                    ahead += bar.times > 1 + _EVEN
                    if bar.is_loss:
                        line = f"{model['name']}, {label.lower()}: {bar.name} {shown(bar.times)}"
                        told.append((bar.times, line))
    behind = len(told)
    counted = f"cllm is ahead in {ahead} of {total} comparisons"
    counted += f", behind in {behind}." if behind else "."
    return counted, [line for _, line in sorted(told)]


def shown(times: float) -> str:
    """`×0.52`, `×8.5`, `×139`."""
    digits = 0 if times >= 99.5 else 1 if times >= 9.95 else 2
    return f"×{times:.{digits}f}"


def is_compared(found: Mapping[str, Any]) -> bool:
    """Whether other programs took part."""
    return found.get("programs") is not None


@final
class Comparison:
    """The part of the page with all programs side by side."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found
        self._works = [
            work for work in WORKS if any(groups(model, work) for model in found["models"])
        ]
        self._work = self._works[0] if self._works else ""

    def build(self) -> None:
        """Draw it."""
        with section("Beside other programs"):
            if self._works:
                self._verdict()
                names = {work: WORKS[work][0] for work in self._works}
                toggle = ui.toggle(names, value=self._work).classes("cllm-toggle")
                toggle.props('no-caps unelevated aria-label="What is compared"')
                toggle.on_value_change(lambda event: self._choose(event.value))
                self._bars()
            for line in problems(self._found):
                text("p", line, "cllm-hint")
            programs(self._found["programs"])

    def _choose(self, work: str) -> None:
        self._work = work
        self._bars.refresh()

    def _verdict(self) -> None:
        counted, behind = verdict(self._found)
        text("p", counted, "cllm-bench-verdict")
        if behind:
            rest = len(behind) - _MOST_TOLD
            more = [f"and {rest} more"] if rest > 0 else []
            text("p", "; ".join([*behind[:_MOST_TOLD], *more]) + ".", "cllm-hint")

    @ui.refreshable_method
    def _bars(self) -> None:
        told = "×: how many times as fast cllm is; below 1 it is slower."
        if self._work == "memory":
            told = "×: how many times as much it takes as cllm; below 1 cllm takes more."
        text("p", f"{WORKS[self._work][1]} {told}", "cllm-hint cllm-bench-told")
        with ui.element("div").classes("cllm-bench-cards"):
            for model in self._found["models"]:
                found = groups(model, self._work)
                if found:
                    card(model, found, self._work)


def card(model: Mapping[str, Any], found: Sequence[tuple[str, Sequence[Bar]]], work: str) -> None:
    """The bars of one model."""
    most = max(bar.value for _, bars in found for bar in bars)
    with ui.element("section").classes("cllm-card cllm-bench-card"):
        with ui.element("div").classes("cllm-bench-head"):
            text("h3", str(model["name"]))
            text("span", f"{short_count(model['parameters'])} parameters", "cllm-hint")
        for label, bars in found:
            if work != "training":
                text("h4", label, "cllm-kicker")
            with ui.element("ul").classes("cllm-bench-bars"):
                for bar in bars:
                    row(bar, bar.value / most, work)


def row(bar: Bar, share: float, work: str) -> None:
    """One program: its name, its bar, its figure, and the ratio."""
    with ui.element("li").classes("is-ours" if bar.is_ours else ""):
        text("span", bar.name, "cllm-bench-name")
        with ui.element("span").classes("cllm-bench-bar").props("aria-hidden=true"):
            ui.element("span").style(f"--share:{share:.4f}")
        text("span", size(bar.value) if work == "memory" else short_count(bar.value), "cllm-num")
        times = "" if bar.times is None else shown(bar.times)
        text("span", times, f"cllm-num cllm-bench-times{' is-loss' if bar.is_loss else ''}")


def problems(found: Mapping[str, Any]) -> Iterator[str]:
    """Which figures are missing, and why."""
    for model in found["models"]:
        if model.get("peers_notice"):
            yield f"No other program runs {model['name']}: {model['peers_notice']}."
        for peer in model.get("peers") or ():
            if peer["problem"]:
                name = f"{peer['program']} {peer['format']}"
                yield f"{model['name']}: {name} has no figures: {peer['problem']}"


def programs(known: Sequence[Mapping[str, Any]]) -> None:
    """The versions that took part, and how to install what did not."""
    with ui.element("dl").classes("cllm-facts cllm-bench-programs"):
        for program in known:
            with ui.element("div"):
                text("dt", program["name"])
                if program["version"]:
                    text("dd", program["version"])
                else:
                    text("dd", "not installed")
                    text("dd", program["install"], "cllm-mono cllm-hint")
