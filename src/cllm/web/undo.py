"""Taking back what was just done: a bar at the foot of the page for some seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import Client, ui

_SECONDS = 10.0


def offer_undo(client: Client, message: str, undo: Callable[[], Awaitable[None]]) -> None:
    """Say on a page what was done, with a button that takes it back."""
    with client.content, ui.element("div").classes("cllm-undo") as bar:
        bar.props("role=status")
        ui.label(message).classes("cllm-undo-text")

        async def take_back() -> None:
            bar.delete()
            await undo()

        ui.button("Undo", on_click=take_back).props("flat no-caps dense")
        close = ui.button(icon="close", on_click=bar.delete).props("flat dense round size=sm")
        close.props["aria-label"] = "Close"
        ui.timer(_SECONDS, bar.delete, once=True)
