"""The three columns of Chat and Write: what there is, the text, the controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

from nicegui import ui

from cllm.web.theme import STATIC, STATIC_URL

if TYPE_CHECKING:
    from cllm.workspace.workspace import Workspace


@final
class WritingFrame:
    """The columns; on narrow windows the outer two slide over the text when they are asked for."""

    def __init__(self) -> None:
        # Handlers speak from here: the button that was pressed may be gone by then.
        self.root: ui.element
        self.title: ui.label

    @contextmanager
    def build(self) -> Iterator[None]:
        """The place of the columns."""
        add_script("writing.js")
        self.root = ui.element("div").classes("cllm-desk")
        with self.root:
            yield

    @contextmanager
    def list_place(self) -> Iterator[None]:
        """The left column."""
        with ui.element("aside").classes("cllm-side is-left") as column:
            column.props('aria-label="Conversations"')
            self._close()
            yield

    @contextmanager
    def main_place(self) -> Iterator[None]:
        """The text's column."""
        with ui.element("section").classes("cllm-main"):
            yield

    def panel_place(self) -> ui.element:
        """The right column."""
        panel = ui.element("aside").classes("cllm-side is-right")
        panel.props('aria-label="How it is written"')
        return panel

    def panel_head(self) -> None:
        """The right column's title."""
        self._close()
        ui.label("How it is written").classes("cllm-side-title").props("role=heading aria-level=2")

    def bar(self, list_name: str) -> None:
        """The line above the text: its title, and on narrow windows what opens the columns."""
        with ui.row().classes("cllm-bar w-full no-wrap items-center"):
            # Both columns are opened and closed in the browser, with no word to the app.
            left = ui.button(icon="menu_open")
            left.props("flat dense round aria-expanded=false").classes("cllm-open-left")
            left.props["aria-label"] = list_name
            self.title = ui.label("").classes("cllm-title").props("role=heading aria-level=1")
            ui.space()
            right = ui.button(icon="tune")
            right.props("flat dense round aria-expanded=false").classes("cllm-open-right")
            right.props["aria-label"] = "How it is written"

    def _close(self) -> None:
        button = ui.button(icon="close")
        button.props("flat dense round").classes("cllm-side-close")
        button.props["aria-label"] = "Close"


def add_script(name: str) -> None:
    """Let this page load a script of ours; a change of the file changes its address."""
    stamp = f"{(STATIC / name).stat().st_mtime_ns:x}"
    ui.add_head_html(f'<script src="{STATIC_URL}/{name}?{stamp}"></script>')


def starting_settings(workspace: Workspace, model: str | None) -> dict[str, Any]:
    """What a new conversation begins with: the model's own defaults where it has some."""
    if model is None:
        return {}
    from cllm.errors import CllmError
    from cllm.jobs.model_service import read_defaults

    try:
        found: Mapping[str, Any] = read_defaults(workspace, model)
    except CllmError:
        return {}
    return dict(found)
