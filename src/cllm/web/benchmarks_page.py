"""Benchmarks: how fast this machine writes and learns."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, final

from nicegui import app, ui

from cllm.errors import CllmError
from cllm.jobs.bench_peers import describe_peers
from cllm.quantities import clock
from cllm.web.bench_comparison import Comparison, is_compared
from cllm.web.bench_worker import BenchWorker
from cllm.web.layout import empty, heading, notify_error, page, section, text
from cllm.web.state import AppState, app_state
from cllm.web.theme import chart

_SUBJECTS = {"presets": "Four sizes of model", "model": "The model in use"}
# A slow machine takes longer than it is given.
_SECONDS = {20: "20 s or more", 60: "a minute or more", 180: "3 minutes or more"}
_USUAL_S, _USUAL_WITH_PEERS_S = 60, 180
_LOOK_S = 0.5
# The smallest bar ends at so many times the start of the axis.
_LEAST_BAR = 1.6
# What the formats of the weights are called.
_FORMATS = {"float32": "32 bits", "bfloat16": "16 bits", "int8": "8 bits", "int4": "4 bits"}
_WARNING = "A training is at work: the figures will be low. Pause it first for good ones."


@page("Benchmarks", "/benchmarks")
async def benchmarks_page() -> None:
    """The figures of this machine."""
    state = app_state()
    await BenchmarksView(state, worker_of(state)).build()


def worker_of(state: AppState) -> BenchWorker:
    """The one worker of the running app."""
    found: BenchWorker | None = getattr(app.state, "cllm_bench", None)
    if found is None:
        found = app.state.cllm_bench = BenchWorker(state.workspace)
        app.on_shutdown(found.stop)
    return found


@final
class BenchmarksView:
    """The controls, the progress, and what was found last."""

    def __init__(self, state: AppState, worker: BenchWorker) -> None:
        self._state, self._worker = state, worker
        self._subject, self._seconds, self._has_peers = "presets", _USUAL_S, False
        self._found: dict[str, Any] | None = None
        self._programs: list[dict[str, Any]] = []
        self._was_running = worker.is_running

    async def build(self) -> None:
        """Draw it and read the last figures."""
        heading(
            "Benchmarks",
            "How fast this machine writes and learns, measured in processes of their own.",
        )
        # A moment only; drawn anew later, a button could be pressed that goes.
        self._programs = await asyncio.to_thread(describe_peers)
        self._controls()
        self._results()
        await ui.context.client.connected()
        self._found = await asyncio.to_thread(self._worker.last)
        self._results.refresh()
        ui.timer(_LOOK_S, self._look)

    @ui.refreshable_method
    def _controls(self) -> None:
        if self._worker.is_running:
            self._progress()
        else:
            self._choices()
        self._warning = ui.label(_WARNING).classes("cllm-bench-warning").props("role=status")
        self._warning.set_visibility(self._is_training())

    def _choices(self) -> None:
        with ui.element("div").classes("cllm-flow cllm-bench-controls"):
            subject = ui.select(_SUBJECTS, label="Measure").bind_value(self, "_subject")
            subject.props("outlined dense options-dense").style("min-width: 13rem")
            length = ui.select(_SECONDS, label="Time").bind_value(self, "_seconds")
            length.props("outlined dense options-dense").style("min-width: 10rem")
            if any(program["version"] for program in self._programs):
                switch = ui.switch("Compare with other programs", value=self._has_peers)
                switch.on_value_change(lambda event: self._compare(event.value))
            button = ui.button("Measure", icon="speed", on_click=self._measure)
            button.props("unelevated no-caps")
        told = self._told()
        if told:
            text("p", told, "cllm-hint cllm-bench-told")

    def _told(self) -> str:
        """Which programs there are to compare with, and how to get the others."""
        here = [program["name"] for program in self._programs if program["version"]]
        away = [program for program in self._programs if not program["version"]]
        missing = "; ".join(f"{program['name']} ({program['install']})" for program in away)
        if not here:
            return f"Other programs can be compared once they are installed: {missing}."
        if not self._has_peers:
            return ""
        told = f"On the same weights, in turns: {', '.join(here)}. It takes longer."
        return f"{told} Not installed: {missing}." if away else told

    def _compare(self, is_wanted: bool) -> None:
        self._has_peers = is_wanted
        self._seconds = _USUAL_WITH_PEERS_S if is_wanted else _USUAL_S
        self._controls.refresh()

    def _is_training(self) -> bool:
        training = self._state.glance.training
        return training is not None and training.state != "paused"

    def _progress(self) -> None:
        with ui.element("div").classes("cllm-bench-progress").props("role=status"):
            self._label = ui.label("Beginning …").classes("cllm-num")
            with ui.element("div").classes("cllm-meter is-unknown") as self._meter:
                self._bar = ui.element("span")
            ui.button("Stop", on_click=self._worker.stop).props("outline no-caps")

    async def _look(self) -> None:
        worker = self._worker
        if worker.is_running != self._was_running:
            self._was_running = worker.is_running
            self._controls.refresh()
            if self._found is None:
                self._results.refresh()
            if not worker.is_running:
                # Whichever page began it, all show what was found.
                self._found = await asyncio.to_thread(worker.last)
                self._results.refresh()
        self._warning.set_visibility(self._is_training())
        if not worker.is_running:
            return
        step, seconds = worker.step, time.time() - (worker.began or time.time())
        if step is not None:
            name, done, total = step
            told = f"Measuring {name} ({done + 1} of {total}), {worker.share:.0%}"
            self._label.set_text(f"{told}, {clock(seconds)}")
            if worker.share > 0:
                self._meter.classes(remove="is-unknown")
            self._bar.style(f"--share:{worker.share:.3f}")

    async def _measure(self) -> None:
        model = self._state.model if self._subject == "model" else None
        if self._subject == "model" and model is None:
            ui.notify("There is no model in use.", type="warning")
            return
        client, seconds, peers = ui.context.client, float(self._seconds), self._has_peers
        with self._state.working("Benchmarks", "/benchmarks") as activity:

            def tell(share: float) -> None:
                activity.progress = share
                if self._worker.step is not None:
                    _, done, total = self._worker.step
                    activity.label = f"Benchmarks {done + 1} of {total}"

            ui.timer(0.1, self._look, once=True)
            try:
                await self._worker.measure(model=model, seconds=seconds, peers=peers, on_share=tell)
            except CllmError as error:
                with client:
                    notify_error(error)

    @ui.refreshable_method
    def _results(self) -> None:
        found = self._found
        if found is None:
            if not self._worker.is_running:
                empty(
                    "Nothing was measured yet",
                    "It takes a minute or more, by the machine, and uses the whole of it; "
                    "the app stays usable.",
                    icon="speed",
                )
            return
        with section("Tokens a second", when_and_where(found)):
            if found.get("is_disturbed"):
                busy = max(found["busy_before"], found["busy_after"])
                told = f"Other programs used {busy:.0%} of the processors: the figures are low."
                text("p", told, "cllm-bench-warning")
            self._chart(found)
            table(found)
        if is_compared(found):
            Comparison(found).build()
        with section("Where"):
            facts(found)

    def _chart(self, found: Mapping[str, Any]) -> None:
        names = [model["name"] for model in found["models"]]
        series: list[dict[str, Any]] = []
        for label, pick in (
            ("reading", "prefill_tokens_per_s"),
            ("one text", "decode_tokens_per_s"),
            ("32 at once", "batch_32_tokens_per_s"),
        ):
            data = [median(model["formats"][0].get(pick)) for model in found["models"]]
            if any(data):
                series.append({"type": "bar", "name": label, "data": data, "barMaxWidth": 34})
        trained = [median(model["training_tokens_per_s"]) for model in found["models"]]
        if any(trained):
            series.append({"type": "bar", "name": "training", "data": trained, "barMaxWidth": 34})
        least = min((value for one in series for value in one["data"] if value), default=100)
        options = {
            "xAxis": {"type": "category", "data": names},
            "yAxis": {"type": "log", "scale": False, "min": axis_start(least)},
            "tooltip": {"trigger": "axis"},
            "aria": {"enabled": False},
            "series": series,
        }
        chart(options, label="Tokens a second by size of model", height="20rem")


def axis_start(least: int) -> int:
    """Where an axis of powers of ten begins: so far below the least that its bar is seen, too."""
    return int(10 ** math.floor(math.log10(max(least / _LEAST_BAR, 1.0))))


def median(rates: Mapping[str, Any] | None) -> int | None:
    """The middle of the rounds, as a whole number."""
    return None if rates is None else round(float(rates["median"]))


def table(found: Mapping[str, Any]) -> None:
    """Every model and format with its rates."""
    names = ["Model", "Weights", "Reading", "One text", "8 at once", "32 at once", "First token"]
    names += ["Training", "Memory"]
    text("p", "The table goes on to the right.", "cllm-hint cllm-bench-more")
    with (
        ui.element("div")
        .classes("cllm-bench-table")
        .props('tabindex="0" role="region" aria-label="All figures"'),
        ui.element("table").classes("cllm-table"),
    ):
        with ui.element("thead"), ui.element("tr"):
            for name in names:
                _cell(name, "th").props('scope="col"')
        with ui.element("tbody"):
            for model in found["models"]:
                for number, figures in enumerate(model["formats"]):
                    with ui.element("tr"):
                        for cell in row(model, figures, is_first=number == 0):
                            _cell(cell)


def row(model: Mapping[str, Any], figures: Mapping[str, Any], *, is_first: bool) -> list[str]:
    """One line of the table."""
    keys = ("prefill", "decode", "batch_8", "batch_32")
    rates = [_rate(figures.get(f"{key}_tokens_per_s")) for key in keys]
    first = figures["first_token_s"]["median"]
    memory = figures.get("process_bytes")
    return [
        f"{model['name']} ({model['parameters'] / 1e6:.1f} M)" if is_first else "",
        _FORMATS.get(figures["format"], str(figures["format"])),
        *rates,
        f"{first * 1e3:.2f} ms",
        _rate(model["training_tokens_per_s"]) if is_first else "",
        "" if memory is None else f"{memory / 1e6:.0f} MB",
    ]


def _rate(rates: Mapping[str, Any] | None) -> str:
    found = median(rates)
    return "" if found is None else f"{found:,}"


def when_and_where(found: Mapping[str, Any]) -> str:
    """When it was measured, on what: it may be long ago, on another machine."""
    when = datetime.fromtimestamp(found["measured_at"])
    return f"Measured {when:%-d %b %Y, %H:%M}, on {found['processor']}, {found['cores']} cores."


def facts(found: Mapping[str, Any]) -> None:
    """The machine, the versions, and how quiet it was."""
    told = {
        "processor": found.get("processor"),
        "cores": found.get("cores"),
        "others used": f"{max(found['busy_before'], found['busy_after']):.0%} of the processors",
    }
    versions = found.get("versions") or {}
    told |= {name: version for name, version in versions.items() if version}
    with ui.element("dl").classes("cllm-facts"):
        for name, value in told.items():
            if value is None:
                continue
            with ui.element("div"):
                _cell(name, "dt")
                _cell(str(value), "dd")
    with ui.element("p").classes("cllm-hint"):
        _cell(
            "Medians of rounds in which everything is measured in turn. The four sizes have "
            "random weights; speed does not depend on what a model has learned.",
            "span",
        )


def _cell(text: str, tag: str = "td") -> ui.html:
    from html import escape

    return ui.html(escape(text), sanitize=False, tag=tag)
