"""Benchmarks: how fast this machine writes and learns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, final

from nicegui import app, ui

from cllm.errors import CllmError
from cllm.web.bench_worker import BenchWorker
from cllm.web.layout import empty, heading, notify_error, page, section
from cllm.web.state import AppState, app_state
from cllm.web.theme import chart

_SUBJECTS = {"presets": "Four sizes of model", "model": "The model in use"}
_SECONDS = {20: "about 20 s", 60: "about a minute", 180: "about 3 minutes"}
_LOOK_S = 0.5


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
    return found


@final
class BenchmarksView:
    """The controls, the progress, and what was found last."""

    def __init__(self, state: AppState, worker: BenchWorker) -> None:
        self._state, self._worker = state, worker
        self._subject, self._seconds = "presets", 60
        self._found: dict[str, Any] | None = None
        self._was_running = worker.is_running

    async def build(self) -> None:
        """Draw it and read the last figures."""
        heading(
            "Benchmarks",
            "How fast this machine writes and learns, measured in a process of its own.",
        )
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
            return
        with ui.element("div").classes("cllm-flow cllm-bench-controls"):
            subject = ui.select(_SUBJECTS, label="Measure").bind_value(self, "_subject")
            subject.props("outlined dense options-dense").style("min-width: 13rem")
            length = ui.select(_SECONDS, label="Time").bind_value(self, "_seconds")
            length.props("outlined dense options-dense").style("min-width: 9rem")
            button = ui.button("Measure", icon="speed", on_click=self._measure)
            button.props("unelevated no-caps")
            training = self._state.glance.training
            if training is not None and training.state != "paused":
                ui.label("A training is at work: the figures will be lower.").classes("cllm-hint")

    def _progress(self) -> None:
        with ui.element("div").classes("cllm-bench-progress").props("role=status"):
            self._label = ui.label("Beginning …")
            with ui.element("div").classes("cllm-meter is-unknown") as self._meter:
                self._bar = ui.element("span")
            ui.button("Stop", on_click=self._worker.stop).props("outline no-caps dense")

    def _look(self) -> None:
        worker = self._worker
        if worker.is_running != self._was_running:
            self._was_running = worker.is_running
            self._controls.refresh()
        if not worker.is_running:
            return
        step, seconds = worker.step, time.time() - (worker.began or time.time())
        if step is not None:
            name, done, total = step
            self._label.set_text(f"Measuring {name} ({done + 1} of {total}), {seconds:.0f} s")
            self._meter.classes(remove="is-unknown")
            self._bar.style(f"--share:{done / total:.3f}")

    async def _measure(self) -> None:
        model = self._state.model if self._subject == "model" else None
        if self._subject == "model" and model is None:
            ui.notify("There is no model in use.", type="warning")
            return
        client, seconds = ui.context.client, float(self._seconds)
        with self._state.working("Benchmarks", "/benchmarks") as activity:

            def tell(_: str, done: int, total: int) -> None:
                activity.progress = done / total

            ui.timer(0.1, self._look, once=True)
            try:
                found = await self._worker.measure(model=model, seconds=seconds, on_step=tell)
            except CllmError as error:
                with client:
                    notify_error(error)
                return
        if found is not None:
            self._found = found
            with client:
                self._results.refresh()

    @ui.refreshable_method
    def _results(self) -> None:
        found = self._found
        if found is None:
            empty(
                "Nothing was measured yet",
                "It takes about a minute and uses the whole machine; the app stays usable.",
                icon="speed",
            )
            return
        with section("Tokens a second"):
            self._chart(found)
            table(found)
        with section("Where"):
            facts(found)

    def _chart(self, found: Mapping[str, Any]) -> None:
        names = [model["name"] for model in found["models"]]
        series = []
        for label, pick in (
            ("prompt", "prefill_tokens_per_s"),
            ("one text", "decode_tokens_per_s"),
            ("32 texts", "batch_32_tokens_per_s"),
        ):
            data = [median(model["formats"][0].get(pick)) for model in found["models"]]
            if any(data):
                series.append({"type": "bar", "name": label, "data": data, "barMaxWidth": 34})
        trained = [median(model["training_tokens_per_s"]) for model in found["models"]]
        if any(trained):
            series.append({"type": "bar", "name": "training", "data": trained, "barMaxWidth": 34})
        options = {
            "xAxis": {"type": "category", "data": names},
            "yAxis": {"type": "log", "scale": False, "min": 100},
            "tooltip": {"trigger": "axis"},
            "aria": {"enabled": False},
            "series": series,
        }
        chart(options, label="Tokens a second by size of model", height="20rem")


def median(rates: Mapping[str, Any] | None) -> int | None:
    """The middle of the rounds, as a whole number."""
    return None if rates is None else round(float(rates["median"]))


def table(found: Mapping[str, Any]) -> None:
    """Every model and format with its rates."""
    names = ["model", "weights", "prompt", "one text", "8 texts", "32 texts", "first token"]
    names += ["training", "memory"]
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
        str(figures["format"]),
        *rates,
        f"{first * 1e3:.2f} ms",
        _rate(model["training_tokens_per_s"]) if is_first else "",
        "" if memory is None else f"{memory / 1e6:.0f} MB",
    ]


def _rate(rates: Mapping[str, Any] | None) -> str:
    found = median(rates)
    return "" if found is None else f"{found:,}"


def facts(found: Mapping[str, Any]) -> None:
    """The machine, the versions, and how quiet it was."""
    told = {
        "processor": found.get("processor"),
        "cores": found.get("cores"),
        "measured": datetime.fromtimestamp(found["measured_at"]).strftime("%d %B %Y, %H:%M"),
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
