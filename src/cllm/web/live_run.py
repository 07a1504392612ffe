"""A training as it goes: its curve, figures and samples, and the ways to steer it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from nicegui import run, ui

from cllm.errors import CllmError, NotFoundError
from cllm.jobs import training_service as service
from cllm.jobs.training_record import read_log, read_samples
from cllm.jobs.training_status import TrainingStatus
from cllm.quantities import clock, count, short_count, size
from cllm.web.dialogs import ask
from cllm.web.finished_run import draw_result, offer_what_next
from cllm.web.layout import notify_error, sentence, text
from cllm.web.learning_curve import CurveChart, CurveReader, Reading, as_loss
from cllm.web.proposal import in_page_words, page_words
from cllm.web.state import AppState

_LOOK_S = 1.0
_SAMPLES_SHOWN = 12
_STAGES = {
    "reading": "Reading the text",
    "tokenizer": "Learning which pieces the text is made of",
    "encoding": "Turning the text into tokens",
}
_FIGURES = (
    ("left", "Time left"),
    ("step", "Step"),
    ("speed", "Tokens a second"),
    ("memory", "Memory"),
    ("bpb", "Bits per byte, training"),
    ("val", "Bits per byte, held out"),
    ("loss", "Loss, training"),
    ("val_loss", "Loss, held out"),
)
_ONLY_AT_WORK = ("left", "memory")


@final
class LiveRun:
    """One run on its page; looks once a second while it is at work."""

    def __init__(self, state: AppState, status: TrainingStatus) -> None:
        self._state, self._status = state, status
        self._folder: Path = state.workspace.home / "runs" / status.id
        self._samples: Any = None
        self._curve = CurveReader(self._folder)
        self._drawn_state: Any = None
        self._is_looking = False
        self.timer: ui.timer | None = None

    async def draw(self) -> None:
        """Draw it, and keep it up to date."""
        with ui.element("div").classes("cllm-top"):
            with ui.element("div").classes("cllm-heading"):
                text("h1", self._status.model)
                self.state = ui.label().classes("cllm-soft").props("role=status")
            self.buttons = ui.element("div").classes("cllm-flow")
        self.meter = ui.element("div").classes("cllm-meter cllm-run-meter")
        self.meter.props('role=progressbar aria-label="Progress" aria-valuemin=0 aria-valuemax=100')
        with self.meter:
            self.fill = ui.element("span")
        self.trouble = ui.element("div").props("aria-live=polite")
        self.after = ui.element("div")
        with ui.element("dl").classes("cllm-facts cllm-live-facts"):
            self.figures, self._places = {}, {}
            for key, name in _FIGURES:
                with ui.element("div") as self._places[key]:
                    text("dt", name)
                    self.figures[key] = text("dd", "–")
        with ui.element("div").classes("cllm-live"):
            with ui.element("section").classes("cllm-card"):
                self.curve = CurveChart()
            with ui.element("section").classes("cllm-card cllm-samples-card"):
                text("h2", "What it writes")
                self.samples = ui.element("div").classes("cllm-samples")
                self.samples.props('tabindex=0 role=region aria-label="Samples, the newest first"')
        self._show(self._status)
        await ui.context.client.connected()
        self.timer = ui.timer(_LOOK_S, self._look)

    async def _look(self) -> None:
        if self._is_looking:
            return
        self._is_looking = True
        try:
            found = await run.io_bound(self._read)
        except NotFoundError:
            ui.navigate.to("/training?new=true")
            return
        except CllmError as error:
            notify_error(in_page_words(error))
            return
        finally:
            self._is_looking = False
        if found is None:
            return
        status, curve, samples = found
        self._show(status, curve.bytes_per_token)
        self.curve.show(curve)
        self._show_samples(samples)
        if self.timer is not None:
            self.timer.active = status.is_active

    def _read(self) -> tuple[TrainingStatus, Reading, list[dict[str, Any]]]:
        status = service.training_status(self._state.workspace, self._status.id)
        return status, self._curve.read(is_last=not status.is_active), read_samples(self._folder)

    def _show(self, status: TrainingStatus, bytes_per_token: float | None = None) -> None:
        self._status = status
        self.state.set_text(describe(status))
        is_reading = status.state == "preparing" and bool(status.done_bytes and status.total_bytes)
        is_unknown = status.step is None and status.is_active and not is_reading
        share = status.progress
        if is_reading and status.done_bytes and status.total_bytes:
            share = min(1.0, status.done_bytes / status.total_bytes)
        self.fill.style(f"--share: {share:.4f}")
        self.meter.classes(add="is-unknown" if is_unknown else "", remove="is-unknown")
        self.meter.props["aria-valuenow"] = round(100 * share)
        self.meter.update()
        self.meter.set_visibility(status.state != "finished")
        for key, value in _figures(status, bytes_per_token).items():
            if self.figures[key].content != value:
                self.figures[key].set_content(value)
        for key in _ONLY_AT_WORK:
            self._places[key].set_visibility(status.is_active)
        now = (status.state, status.wanted, status.has_crashed, status.can_continue, status.advice)
        if now != self._drawn_state:
            self._drawn_state = now
            self._draw_buttons(status)
            self._draw_trouble(status)
            draw_result(self.after, self._state, status, self._folder)

    def _show_samples(self, samples: list[dict[str, Any]]) -> None:
        if samples == self._samples:
            return
        self._samples = samples
        self.samples.clear()
        with self.samples:
            if not samples:
                ui.label("It writes its first words soon.").classes("cllm-hint")
            for sample in reversed(samples[-_SAMPLES_SHOWN:]):
                with ui.element("article"):
                    step = int(sample["step"])
                    said = f"after {count(step)} steps" if step else "before training"
                    text("h3", said, "cllm-kicker")
                    with ui.element("p").classes("cllm-prose"):
                        text("span", sample["prompt"].lstrip(), "cllm-soft")
                        text("span", sample["text"])

    def _draw_buttons(self, status: TrainingStatus) -> None:
        # A press may be answered by other buttons.
        self.buttons.clear()
        wants_stop = status.wanted == "stop"
        with self.buttons:
            if status.state == "training":
                self._button("Pause", "pause", service.pause_training, is_off=wants_stop)
            elif status.state == "paused":
                self._button("Resume", "play_arrow", service.resume_training, is_main=True)
            if status.state in ("training", "paused"):
                stop = ui.button("Stop and keep", icon="stop", on_click=self._stop)
                stop.props("outline no-caps").set_enabled(not wants_stop)
            elif status.state == "preparing":
                self._button("Cancel", "close", service.stop_training, is_off=wants_stop)
            if status.can_continue:
                self._button("Continue", "play_arrow", service.continue_training, is_main=True)
                if self._has_state():
                    self._button("Keep what it reached", "save", service.stop_training)
            if status.state == "finished":
                offer_what_next(self._state, status.model)
            if not status.is_active:
                forget = ui.button("Forget this run", on_click=self._discard)
                forget.props("flat no-caps")
            if status.state == "finished":
                again = ui.button("Train another", on_click=self._another)
                again.props("flat no-caps")

    def _button(
        self,
        label: str,
        icon: str,
        work: Callable[..., TrainingStatus],
        *,
        is_main: bool = False,
        is_off: bool = False,
    ) -> None:
        button = ui.button(label, icon=icon, on_click=lambda: self._do(work))
        button.props("unelevated no-caps" if is_main else "outline no-caps")
        button.set_enabled(not is_off)

    async def _do(self, work: Callable[..., TrainingStatus]) -> None:
        try:
            status = await run.io_bound(work, self._state.workspace, self._status.id)
        except CllmError as error:
            notify_error(in_page_words(error))
            return
        if status is not None:
            self._show(status)
        if self.timer is not None:
            self.timer.active = True

    async def _stop(self) -> None:
        note = "What it has learned so far is measured and saved as a model."
        with ui.context.client.content:
            is_wanted = await ask("Stop training?", note, yes="Stop and keep")
        if is_wanted:
            await self._do(service.stop_training)

    async def _discard(self) -> None:
        note = "Its curve, samples and checkpoints are removed. A model that it made stays."
        with ui.context.client.content:
            is_wanted = await ask("Forget this run?", note, yes="Forget it", loses=True)
        if not is_wanted:
            return
        try:
            await run.io_bound(service.discard_training, self._state.workspace, self._status.id)
        except CllmError as error:
            notify_error(in_page_words(error))
            return
        ui.navigate.to("/training?new=true")

    def _another(self) -> None:
        ui.navigate.to("/training?new=true")

    def _has_state(self) -> bool:
        """Whether there is something that it can go on from."""
        return any((self._folder / "checkpoints").glob("step-*"))

    def _draw_trouble(self, status: TrainingStatus) -> None:
        self.trouble.clear()
        with self.trouble:
            for line in status.advice:
                ui.label(page_words(line)).classes("cllm-advice")
            if status.state not in ("failed", "interrupted"):
                return
            words = "the training has crashed" if status.has_crashed else "the training has ended"
            hint = "Continue: it goes on exactly where its last checkpoint is."
            if not self._has_state():
                hint = "Continue: it begins anew, for it had not come to its first checkpoint."
            if not status.can_continue:
                hint = "It can't be continued; start a new one."
            if status.state == "interrupted" and not status.has_crashed and not status.error:
                words = "the training was interrupted"
            with ui.element("div").classes("cllm-error").props("role=alert"):
                ui.label(sentence(words)).classes("cllm-error-title")
                if status.error:
                    ui.label(sentence(page_words(status.error)))
                ui.label(hint)
            log = read_log(self._folder, max_bytes=4096)
            if log.strip():
                with ui.expansion("What it said last").classes("w-full cllm-details q-mt-md"):
                    text("pre", log[-3000:], "cllm-mono cllm-log").props("tabindex=0")


def describe(status: TrainingStatus) -> str:
    """How a run stands, in a few words."""
    if status.is_active and status.wanted == "stop":
        return "Stopping: what it has learned is measured and saved …"
    match status.state:
        case "preparing":
            stage = _STAGES.get(status.stage or "", "Getting ready")
            if status.done_bytes and status.total_bytes:
                return f"{stage}: {size(status.done_bytes)} of {size(status.total_bytes)}"
            return f"{stage} …"
        case "training":
            if status.wanted == "pause":
                return "Pausing after this step …"
            if status.step is None:
                return "Training: the first steps …"
            return f"Training: {status.progress:.0%} after {_time(status.elapsed_s)}"
        case "paused":
            return f"Paused at {status.progress:.0%}; everything is saved"
        case "finished":
            return "Finished"
        case "interrupted":
            return "Crashed" if status.has_crashed else "Interrupted"
        case "failed":
            return "Failed"


def _figures(status: TrainingStatus, bytes_per_token: float | None) -> dict[str, str]:
    total = "" if not status.total_steps else f" of {count(status.total_steps)}"
    return {
        "left": _time(status.remaining_s),
        "bpb": _three(status.bits_per_byte),
        "val": _three(status.val_bits_per_byte),
        "loss": _three(status.loss),
        "val_loss": _three(as_loss(status.val_bits_per_byte, bytes_per_token)),
        "speed": short_count(status.tokens_per_s),
        "step": count(status.step) + total,
        "memory": size(status.memory_bytes),
    }


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else clock(seconds)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
