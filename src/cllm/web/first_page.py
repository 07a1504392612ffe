"""The start: with a model, to where one talks with it; without, to the first one."""

from __future__ import annotations

from nicegui import run, ui

from cllm.jobs.training_service import list_trainings
from cllm.web.dialogs.models import open_model_folder
from cllm.web.layout import page, text
from cllm.web.state import app_state
from cllm.web.training_form import TrainingForm


async def _elsewhere() -> str | None:
    """Where one goes on who has a model, or is making the first."""
    glance = await run.io_bound(app_state().look, now=True)
    if glance is not None and (card := glance.card) is not None:
        return "/chat" if card.is_chat else "/write"
    return "/training" if glance is not None and glance.training is not None else None


@page("Start", "/", elsewhere=_elsewhere)
async def first_page() -> None:
    """Where to begin."""
    state = app_state()
    with ui.element("div").classes("cllm-hero"):
        text("h1", "Create your first model")
        text(
            "p",
            "Give it text of yours. It learns here, on this machine, to write like it. "
            "Nothing leaves the machine.",
        )
        with ui.element("div").classes("cllm-flow"):
            folder = ui.button("Open a model folder", icon="folder_open")
            folder.props("flat no-caps").on_click(lambda: open_model_folder(state))
    form = TrainingForm(state, asks_how=False)
    unfinished = await run.io_bound(list_trainings, state.workspace, limit=1)
    if unfinished and unfinished[0].can_continue:
        with ui.element("p").classes("cllm-note-line"):
            ui.link("A training was not finished: look at it", f"/training?run={unfinished[0].id}")
    await form.draw()
