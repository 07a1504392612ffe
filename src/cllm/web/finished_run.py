"""What a finished training leaves: before and after, copying, and what to do with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import ui

from cllm.errors import CllmError
from cllm.jobs.model_service import model_card
from cllm.jobs.training_record import read_result
from cllm.jobs.training_status import TrainingStatus
from cllm.quantities import clock, size
from cllm.web.dialogs.models import copy_as, rename
from cllm.web.header import use
from cllm.web.layout import section, text
from cllm.web.state import AppState

# Below, chance and stock phrases explain what is found.
_MUCH, _SOME = 0.5, 0.05


def draw_result(place: ui.element, state: AppState, status: TrainingStatus, folder: Path) -> None:
    """Fill `place` for a run that has finished; empty it for any other."""
    place.clear()
    result = read_result(folder) if status.state == "finished" else None
    if result is None:
        return
    with place:
        if not state.workspace.models.exists(status.model):
            ui.label("Its model was renamed or deleted since.").classes("cllm-hint")
        with section("Before and after"), ui.element("div").classes("cllm-pair"):
            _sample("Before training", result["prompt"], result["first_sample"])
            _sample("After training", result["prompt"], result["last_sample"])
        with section("Is it copying?"):
            _copying(result.get("copying") or {})
        ui.label(_summary(result, status)).classes("cllm-hint q-mt-md")


def offer_what_next(state: AppState, name: str) -> None:
    """Buttons for what one does with a model that was made just now; none where it is gone."""
    try:
        is_chat = model_card(state.workspace, name).is_chat
    except (CllmError, FileNotFoundError):
        return

    async def open_it() -> None:
        await use(name)
        ui.navigate.to("/chat" if is_chat else "/write")

    async def keep() -> None:
        with ui.context.client.content:
            await copy_as(state, name)

    async def give_name() -> None:
        with ui.context.client.content:
            made = await rename(state, name)
        if made is not None:
            ui.navigate.to("/models")

    go = "Chat with it" if is_chat else "Write with it"
    ui.button(go, on_click=open_it).props("unelevated no-caps")
    ui.button("Save as", on_click=keep).props("outline no-caps")
    ui.button("Rename", on_click=give_name).props("flat no-caps")


def _sample(title: str, prompt: str, written: str) -> None:
    with ui.element("article").classes("cllm-card cllm-long").props("tabindex=0"):
        text("h3", title, "cllm-kicker")
        with ui.element("p").classes("cllm-prose"):
            text("span", prompt.lstrip(), "cllm-soft")
            text("span", written)


def _copying(copying: dict[str, Any]) -> None:
    if "share" not in copying:
        ui.label("It was not measured: the model has written too little.").classes("cllm-hint")
        return
    share, longest = float(copying["share"]), int(copying.get("longest_characters", 0))
    least = int(copying.get("min_characters", 40))
    words = (
        "Much of what it wrote stands in the text it learned from."
        if share > _MUCH
        else "Some of what it wrote stands in the text it learned from."
        if share > _SOME
        else "What it wrote is its own."
    )
    ui.label(words)
    ui.label(
        f"{share:.0%} of its sample stands word for word in the text, in stretches of {least} "
        f"characters or more; the longest has {longest} characters."
    ).classes("cllm-hint")
    if copying.get("longest") and share > _SOME:
        text("blockquote", str(copying["longest"])[:400], "cllm-prose cllm-quote")


def _summary(result: dict[str, Any], status: TrainingStatus) -> str:
    # As the list of runs tells it, without the reading before and the measuring after.
    spent = status.elapsed_s if status.elapsed_s is not None else result["seconds_total"]
    return (
        f"{result['steps']:,} steps over {result['tokens']:,} tokens in "
        f"{clock(spent)}, {size(result['peak_rss_bytes'])} of memory."
    )
