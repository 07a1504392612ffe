"""How a run learns, as a chart: bits per byte or loss, on its text and on text held out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from nicegui import ui

from cllm.jobs.journal import read_progress
from cllm.jobs.training_record import Curve, read_curve
from cllm.web.layout import text
from cllm.web.theme import chart

Unit = Literal["bits", "loss"]

_POINTS = 300
# A long run's file takes a while to read: that may cost a twentieth of the time.
_REST = 20.0
_UNITS: dict[str, str] = {"bits": "Bits per byte", "loss": "Loss"}
_NOTES = {
    "bits": "Bits for each byte of text: less is better, whatever the tokens.",
    "loss": "Nats for each token, what is minimised: less is better, for the same tokens.",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A curve, and what turns its bits per byte into loss where that is known."""

    curve: Curve
    bytes_per_token: float | None


@final
class CurveReader:
    """A run's curve as it grows; called from one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = Reading(Curve([], []), None)
        self._next = 0.0

    def read(self, *, is_last: bool = False) -> Reading:
        """The curve now, or a little older where reading it takes long; `is_last` is now."""
        began = time.monotonic()
        if began < self._next and not is_last:
            return self._held
        scale = read_progress(self._folder).get("bytes_per_token") or None
        self._held = Reading(read_curve(self._folder, max_points=_POINTS), scale)
        now = time.monotonic()
        self._next = now + _REST * (now - began)
        return self._held


@final
class CurveChart:
    """The chart, with a switch between its two units."""

    def __init__(self) -> None:
        self._unit: Unit = "bits"
        self._reading = Reading(Curve([], []), None)
        with ui.element("div").classes("cllm-flow"):
            text("h2", "What it has learned", "grow")
            switch = ui.toggle(
                _UNITS, value="bits", on_change=lambda event: self._turn(event.value)
            )
            switch.props('no-caps unelevated dense aria-label="What the chart shows"')
            switch.classes("cllm-switch")
        self._note = text("p", _NOTES["bits"], "cllm-hint")
        self._chart = chart(_options(), label=_spoken("bits", [], []), height="22rem")

    def show(self, reading: Reading) -> None:
        """Show a curve; nothing is sent where it is the same."""
        if reading != self._reading:
            self._reading = reading
            self._draw()

    def _turn(self, unit: Unit) -> None:
        self._unit = unit
        self._note.set_content(_NOTES[unit])
        self._draw()

    def _draw(self) -> None:
        found = self._reading
        lines = [
            [[step, round(value, 4)] for step, value in points_in(self._unit, line, found)]
            for line in (found.curve.train, found.curve.val)
        ]
        for series, points in zip(self._chart.options["series"], lines, strict=True):
            series["data"] = points
        self._chart.props["aria-label"] = _spoken(self._unit, *lines)
        self._chart.update()


def points_in(
    unit: Unit, line: list[tuple[int, float]], reading: Reading
) -> list[tuple[int, float]]:
    """A line of bits per byte in that unit; empty where it can't be told."""
    if unit == "bits":
        return line
    known = ((step, as_loss(value, reading.bytes_per_token)) for step, value in line)
    return [(step, value) for step, value in known if value is not None]


def as_loss(bits_per_byte: float | None, bytes_per_token: float | None) -> float | None:
    """Nats a token, from bits per byte."""
    if bits_per_byte is None or bytes_per_token is None:
        return None
    return bits_per_byte * math.log(2) * bytes_per_token


def _spoken(unit: Unit, train: list[list[float]], val: list[list[float]]) -> str:
    """What the chart shows, in words."""
    what = {"bits": "Bits per byte", "loss": "Loss in nats a token"}[unit]
    said = [f"{what} over steps"]
    for name, line in (("on the text it learns from", train), ("on text held out", val)):
        if line:
            first, last = line[0], line[-1]
            said.append(f"{name} {first[1]:.2f} at step {first[0]:,}, {last[1]:.3f} at {last[0]:,}")
    return "; ".join(said) if len(said) > 1 else f"{said[0]}: no steps yet"


def _options() -> dict[str, Any]:
    line = {"type": "line", "data": [], "animation": False}
    return {
        "animation": False,
        "xAxis": {"name": "steps", "nameLocation": "middle", "nameGap": 28, "min": 0},
        "grid": {"bottom": 28},
        "series": [
            {**line, "name": "training", "showSymbol": False, "lineStyle": {"width": 1.5}},
            {**line, "name": "held out", "symbolSize": 6, "lineStyle": {"width": 2.5}},
        ],
    }
