"""What pages say without a model that works: how to come to one, or what is wrong with it."""

from __future__ import annotations

from nicegui import ui

from cllm.errors import CllmError, IntegrityError
from cllm.web.dialogs.models import open_model_folder
from cllm.web.layout import empty, error_card, sentence
from cllm.web.state import app_state

DAMAGED = "This model's file is damaged: train it again or delete it."
UNOPENED = "This model can't be opened: train it again or delete it."


def training_told() -> tuple[str, bool] | None:
    """The model that is being trained, and whether that is paused."""
    training = app_state().glance.training
    return None if training is None else (training.model, training.state == "paused")


def no_model() -> ui.element:
    """What Chat and Write say without a model: how to come to one, or where it is being made."""
    training = training_told()
    if training is not None:
        name, is_paused = training
        title = f"The training of {name} is paused" if is_paused else f"{name} is being trained"
        note = "Once it has learned, it can be used here."
        with empty(title, note, icon="model_training") as card:
            look = ui.button("Look at the training").props("unelevated no-caps")
            look.on_click(lambda: ui.navigate.to("/training"))
        return card
    # The words of Models.
    note = "Train one on text of yours, or open a model folder."
    card = empty("No models yet", note, icon="inventory_2")
    with card, ui.element("div").classes("cllm-flow justify-center"):
        create = ui.button("Create your first model").props("unelevated no-caps")
        create.on_click(lambda: ui.navigate.to("/"))
        folder = ui.button("Open a model folder", icon="folder_open").props("outline no-caps")
        folder.on_click(_open_folder)
    return card


async def _open_folder() -> None:
    # Beside the card, which may be drawn anew meanwhile.
    with ui.context.client.content:
        await open_model_folder(app_state())


def another_model() -> None:
    """The way out of a model that does not work."""
    other = ui.button("Choose another model").props("unelevated no-caps")
    other.on_click(lambda: ui.navigate.to("/models"))


def damaged(told: str, details: str | None, where: str | None = None) -> None:
    """What is wrong with a model in words for people; the rest is folded away."""
    with ui.element("div").classes("cllm-error q-mb-md").props("role=alert"):
        ui.label(told).classes("cllm-error-title")
        if details:
            with ui.expansion("Details").classes("w-full cllm-details q-mb-md"):
                ui.label(sentence(details)).classes("cllm-hint")
                if where:
                    ui.label(where).classes("cllm-mono cllm-hint")
        another_model()


def model_error(error: CllmError) -> None:
    """Why a model does not do what a page is for."""
    if isinstance(error, IntegrityError):
        damaged(DAMAGED, error.message, error.where)
    else:
        error_card(error)
