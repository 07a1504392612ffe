"""Taking back what was just done: a bar at the foot of the page for some seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import Client, ui

_SECONDS = 10.0


def offer_undo(client: Client, message: str, undo: Callable[[], Awaitable[None]]) -> None:
    """Say on a page what was done, with a button that takes it back."""
    with client.content, ui.element("div").classes("cllm-undo") as bar:
        bar.props("role=status")
        told = ui.label(message).classes("cllm-undo-text")

        def close() -> None:
            bar.delete()
            # What had the focus may be gone with it.
            client.run_javascript("cllmFocus.giveBack()")

        async def take_back() -> None:
            close()
            await undo()

        button = ui.button("Undo", on_click=take_back).props("flat no-caps dense")
        button.props["aria-describedby"] = told.html_id
        cross = ui.button(icon="close", on_click=close).props("flat dense round size=sm")
        cross.props["aria-label"] = "Close"
        ui.timer(_SECONDS, close, once=True)
    # What was deleted had it.
    client.run_javascript(f"cllmFocus.offer('{button.html_id}')")
