"""Train: the run that is at work, or a new one; and those before."""

from __future__ import annotations

from datetime import datetime
from typing import final

from nicegui import ui
from nicegui.run import io_bound

from cllm.errors import NotFoundError
from cllm.jobs.training_service import list_trainings, training_status
from cllm.jobs.training_status import TrainingStatus
from cllm.quantities import clock
from cllm.web.layout import Loading, heading, page, section, text
from cllm.web.live_run import LiveRun
from cllm.web.state import AppState, app_state
from cllm.web.training_form import TrainingForm

_FIRST, _MORE = 12, 50
STATES = {
    "preparing": "reading text",
    "training": "training",
    "paused": "paused",
    "finished": "finished",
    "interrupted": "interrupted",
    "failed": "failed",
}


@page("Train", "/training")
async def training_page(run: str = "", new: bool = False) -> None:
    """The run of that id; else the one at work; else, or with `new`, the way to a new one."""
    state = app_state()
    # A page may be sent before this is known, while the machine is busy with the run's start.
    waiting = Loading("Loading …")
    try:
        status = await _asked(state, run, new=new)
    except NotFoundError:
        waiting.delete()
        heading("There is no such run", f"It may have been forgotten: {run}")
        ui.link("All runs", "/training?new=true")
        return
    waiting.delete()
    if status is not None:
        await LiveRun(state, status).draw()
        return
    heading("Train a model", "From text of yours, in the time you give it.")
    active = state.glance.training
    if active is not None:
        with ui.element("p").classes("cllm-note-line"):
            now = "is paused" if active.state == "paused" else "is being trained"
            text("span", f"{active.model} {now}; another one can start after it. ")
            ui.link("Look at it", "/training")
    form = TrainingForm(state, asks_how=True)
    drawn = form.draw()
    place = _Before(state)
    await drawn
    await place.draw()


async def _asked(state: AppState, wanted: str, *, new: bool) -> TrainingStatus | None:
    if wanted:
        status = await io_bound(training_status, state.workspace, wanted)
        if status is None:
            raise NotFoundError("there is no such run", where=wanted)
        return status
    glance = await io_bound(state.look, now=True)
    return None if new or glance is None else glance.training


@final
class _Before:
    """The runs so far, the newest first, some at a time."""

    def __init__(self, state: AppState) -> None:
        self._state, self._limit = state, _FIRST

    async def draw(self) -> None:
        """Draw it where there are any."""
        self.place = ui.element("div")
        await self._fill()

    async def _fill(self) -> None:
        found = await io_bound(list_trainings, self._state.workspace, limit=self._limit + 1)
        self.place.clear()
        if not found:
            return
        with self.place, section("Runs so far"), ui.element("ul").classes("cllm-runs"):
            for status in found[: self._limit]:
                _run_line(status)
        if len(found) > self._limit:
            with self.place:
                ui.button("Show more", on_click=self._more).props("flat no-caps")

    async def _more(self) -> None:
        self._limit += _MORE
        await self._fill()


def _run_line(status: TrainingStatus) -> None:
    with ui.element("li"), ui.element("a").props(f'href="/training?run={status.id}"'):
        text("span", status.model, "cllm-run-name")
        bad = " is-bad" if status.state == "failed" or status.has_crashed else ""
        said = "crashed" if status.has_crashed else STATES[status.state]
        text("span", said, "cllm-chip" + bad)
        bits = status.val_bits_per_byte
        text("span", "" if bits is None else f"{bits:.3f} bits per byte", "cllm-num cllm-hint")
        spent = "" if status.elapsed_s is None else clock(status.elapsed_s)
        text("span", spent, "cllm-num cllm-hint")
        when = datetime.fromtimestamp(status.started)
        text("span", f"{when:%-d %b %Y, %H:%M}", "cllm-num cllm-hint cllm-run-when")
