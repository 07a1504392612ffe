"""Look inside: how the model in use reads, and what it has learned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final

from nicegui import ui

from cllm.errors import CllmError
from cllm.jobs.gates import has_mechanisms
from cllm.web.inside_gates import GatesView
from cllm.web.inside_reading import FIRST_TEXT, ReadingView
from cllm.web.inside_spirals import SpiralsView
from cllm.web.inside_words import NeighboursView, RootsView
from cllm.web.layout import heading, page
from cllm.web.missing_model import no_model
from cllm.web.state import AppState, app_state

_TABS = {
    "reading": "Reading a text",
    "neighbours": "Near in meaning",
    "roots": "Roots and primes",
    "spirals": "Spirals",
    "gates": "Gates",
}


@page("Look inside", "/inside")
async def inside_page(show: str = "reading") -> None:
    """The views of the model in use."""
    state = app_state()
    await InsideView(state, show if show in _TABS else "reading").build()


@final
class InsideView:
    """Tabs over the views; each looks at the model only when it is first shown."""

    def __init__(self, state: AppState, first: str) -> None:
        self._state, self._shown = state, first
        self._model = state.model
        self._seen: set[str] = set()
        self._has_gates = True
        # What the person wrote outlives a change of the model.
        self._text, self._near, self._word = FIRST_TEXT, " river", ""

    async def build(self) -> None:
        """Draw it, then fill in the tab that is shown."""
        await self._look_for_gates()
        self._body()
        await ui.context.client.connected()
        if self._model is not None:
            await self._enter(self._shown)
        ui.timer(1.0, self._watch_model)

    async def _watch_model(self) -> None:
        """Another model was chosen in the header."""
        if self._state.model != self._model:
            if self._model is not None:
                self._text, self._near = self.reading.text, self.neighbours.word
                self._word = self.roots.asked
            self._model, self._seen = self._state.model, set()
            await self._look_for_gates()
            await self._body.refresh()
            if self._model is not None:
                await self._enter(self._shown)

    async def _look_for_gates(self) -> None:
        """A plain model has none to show."""
        workspace, model = self._state.workspace, self._model
        try:
            self._has_gates = model is not None and await asyncio.to_thread(
                has_mechanisms, workspace, model
            )
        except CllmError:
            # The view tells what is wrong.
            self._has_gates = True
        if self._shown == "gates" and not self._has_gates:
            self._shown = "reading"

    @ui.refreshable_method
    def _body(self) -> None:
        name = self._model
        if name is None:
            heading("Look inside")
            no_model()
            return
        heading("Look inside", f"What {name} expects, where it looks, and what it has learned.")
        workspace = self._state.workspace
        self.reading = ReadingView(self._state.writers, name, self._read_anew, text=self._text)
        self.neighbours = NeighboursView(workspace, name, self._near)
        self.roots = RootsView(workspace, name, self._word)
        self.spirals = SpiralsView(workspace, lambda: self.reading.found)
        self.gates = GatesView(workspace, name)
        views: dict[str, Callable[[], None]] = {
            "reading": self.reading.build,
            "neighbours": self.neighbours.build,
            "roots": self.roots.build,
            "spirals": self.spirals.build,
            "gates": self.gates.build,
        }
        if not self._has_gates:
            del views["gates"]
        with ui.tabs().props("align=left no-caps outside-arrows mobile-arrows") as tabs:
            for key in views:
                ui.tab(key, _TABS[key])
        first = self._shown
        tabs.set_value(first)
        tabs.classes("cllm-inside-tabs").on_value_change(lambda event: self._enter(event.value))
        with ui.tab_panels(tabs, value=first, animated=False).props("keep-alive"):
            for key in views:
                with ui.tab_panel(key):
                    views[key]()

    def _read_anew(self) -> None:
        self._seen.discard("spirals")

    async def _enter(self, key: str) -> None:
        """Fill in a view that is shown for the first time."""
        self._shown = key
        ui.context.client.run_javascript(f"history.replaceState(history.state, '', '?show={key}')")
        if key in self._seen:
            return
        self._seen.add(key)
        if key in ("reading", "spirals") and self.reading.found is None:
            await self.reading.read()
            self._seen |= {"reading", key}
        if key == "spirals":
            await self.spirals.draw()
        elif key == "neighbours":
            await self.neighbours.look()
        elif key == "roots":
            await self.roots.look()
        elif key == "gates":
            await self.gates.load()
