"""Write: a document that a model continues in place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, final

from nicegui import ui

from cllm.errors import CllmError
from cllm.web.beam_dialog import BeamDialog
from cllm.web.conversation_list import ConversationList
from cllm.web.desk import Desk, as_shown, sound
from cllm.web.layout import notify_error
from cllm.web.paper import Paper
from cllm.web.running import LOOK_S, RunningText
from cllm.web.sampling_panel import SamplingPanel
from cllm.web.token_text import Segment, TokenFact, segments
from cllm.web.transcript import figures, told
from cllm.web.writing_frame import WritingFrame, starting_settings
from cllm.workspace.conversations import Message


@final
class WriteView:
    """The page's body: list of texts, the sheet, controls."""

    def __init__(
        self, desk: Desk, model: Callable[[], str | None], conversation: str | None = None
    ) -> None:
        self._desk, self._model, self._conversation = desk, model, conversation
        self._settings: dict[str, Any] = {}
        self._frame = WritingFrame()
        self._running: RunningText | None = None
        self._last: Message | None = None
        self._ends_in_passage = False
        # A click on "Continue" also ends the typing, which is to be kept: two at once.
        self._one_at_a_time = asyncio.Lock()
        self._seen_model = model()
        self._list = ConversationList(desk.workspace, "write", self.open, chosen=conversation)

    async def build(self) -> None:
        """Draw it and read what is shown."""
        with self._frame.build():
            with self._frame.list_place():
                self._list.build()
            with self._frame.main_place():
                self._frame.bar("Texts")
                self._no_model()
                self._paper = Paper(self._keep, label="The text")
                self._foot()
            self._panel_place = self._frame.panel_place()
        await ui.context.client.connected()
        await self.open(self._conversation, is_first=True)
        ui.timer(1.0, self._watch_model)

    async def open(self, conversation: str | None, *, is_first: bool = False) -> None:
        """Show another text, or a new one; on the first empty sheet a person may write already."""
        self._conversation, self._running, self._last = conversation, None, None
        parts: list[Segment] = []
        title, running = "New text", None
        if conversation is not None:
            try:
                store = self._desk.workspace.conversations
                held = await asyncio.to_thread(store.get, conversation)
                self._settings, title = dict(held.settings), held.title or "Untitled"
                running = None if held.leaf is None else self._desk.texts.get(held.leaf)
                parts = await self._read(but=None if running is None else held.leaf)
            except CllmError as error:
                ui.notify(error.message, type="warning")
                self._conversation = None
        if self._conversation is None:
            workspace = self._desk.workspace
            self._settings = await asyncio.to_thread(starting_settings, workspace, self._model())
        if parts or not is_first:
            self._paper.show(parts)
        self._frame.title.set_text(title)
        self._panel_place.clear()
        with self._panel_place:
            self._frame.panel_head()
            SamplingPanel(self._settings, self._keep_settings)
        address = f"/write?conversation={self._conversation}" if self._conversation else "/write"
        ui.navigate.history.replace(address)
        if self._conversation is not None or not is_first:
            self._foot.refresh()
        await self._list.choose(self._conversation)
        if running is not None:
            self._follow(running)

    def _watch_model(self) -> None:
        """Another model was chosen in the header."""
        if self._model() != self._seen_model:
            self._seen_model = self._model()
            self._no_model.refresh()
            self._foot.refresh()

    async def _read(self, *, but: int | None = None) -> list[Segment]:
        """The document's passages as tokens, without one that will be shown as it comes."""
        assert self._conversation is not None
        store = self._desk.workspace.conversations
        branch = await asyncio.to_thread(store.branch, self._conversation)
        page = await asyncio.to_thread(store.messages, self._conversation, limit=1)
        self._last = page.items[-1] if page.items else None
        written = next((message for message in reversed(branch) if message.text), None)
        self._ends_in_passage = written is not None and written.role == "assistant"
        parts: list[Segment] = []
        for message in branch:
            if message.id == but:
                continue
            facts = [TokenFact.from_json(item) for item in message.alternatives or ()]
            parts += segments(as_shown(message.text), facts)
        return parts

    @ui.refreshable_method
    def _no_model(self) -> None:
        if self._model() is not None:
            return
        with ui.element("div").classes("cllm-welcome"):
            ui.label("There is no model yet").classes("cllm-welcome-title")
            ui.label("Create one or open a model folder, and it continues your text.").classes(
                "cllm-welcome-text"
            )
            ui.button("Models", on_click=lambda: ui.navigate.to("/models")).props(
                "unelevated no-caps"
            )

    @ui.refreshable_method
    def _foot(self) -> None:
        """The line below the sheet: go on, stop, other ways, and how it went."""
        with ui.element("div").classes("cllm-foot"):
            if self._running is not None:
                stop = ui.button("Stop", icon="stop", on_click=self._stop)
                stop.props("unelevated no-caps")
                self._speed = ui.label("").classes("cllm-figures").props("aria-live=off")
                return
            go_on = ui.button("Continue", icon="east", on_click=self._go_on)
            go_on.props("unelevated no-caps").tooltip("Ctrl+Enter")
            go_on.set_enabled(self._model() is not None)
            ways = ui.button("Likeliest ways on", icon="account_tree", on_click=self._beams)
            ways.props("flat no-caps").set_enabled(self._model() is not None)
            last = self._last
            if last is not None and last.role == "assistant":
                ui.button("Another way", icon="refresh", on_click=self._again).props("flat no-caps")
                self._take_back_button()
                self._versions(last)
                ui.label(told(last)).classes("cllm-figures")
            elif last is not None and not last.text and last.details.get("instead_of"):
                redo = ui.button("Bring back", icon="redo")
                redo.on_click(lambda: self._turn(self._desk.bring_back)).props("flat no-caps")
                if self._ends_in_passage:
                    self._take_back_button()
                ui.label("What was taken out is kept.").classes("cllm-figures")
        ui.keyboard(on_key=self._key, ignore=[])

    def _take_back_button(self) -> None:
        back = ui.button("Take back", icon="undo").props("flat no-caps")
        back.on_click(lambda: self._turn(self._desk.take_back))

    def _versions(self, last: Message) -> None:
        if len(last.siblings) < 2:
            return
        at = last.siblings.index(last.id)
        with ui.row().classes("cllm-branches no-wrap items-center"):
            for icon, label, step in (
                ("chevron_left", "The version before", -1),
                ("chevron_right", "The next version", 1),
            ):
                button = ui.button(icon=icon).props("flat dense round size=sm")
                button.props["aria-label"] = label
                is_there = 0 <= at + step < len(last.siblings)
                button.set_enabled(is_there)
                if is_there:
                    button.on_click(lambda _, to=last.siblings[at + step]: self._select(to))
                if step < 0:
                    ui.label(f"{at + 1}/{len(last.siblings)}").classes("cllm-figures")

    async def _key(self, event: Any) -> None:
        if event.action.keydown and event.modifiers.ctrl and event.key == "Enter":
            await self._go_on()

    async def _ensure(self) -> str:
        """The conversation's id, made if it is a new one."""
        if self._conversation is None:
            made = await asyncio.to_thread(
                self._desk.workspace.conversations.create,
                model=self._model(),
                mode="write",
                settings=self._settings,
            )
            assert made is not None
            self._conversation = made.id
            ui.navigate.history.replace(f"/write?conversation={made.id}")
        return self._conversation

    async def _keep(self, text: str) -> None:
        """Keep what the person typed."""
        async with self._one_at_a_time:
            if self._running is not None or (self._conversation is None and not text):
                return
            held = await self._ensure()
            await asyncio.to_thread(self._desk.keep, held, text)
            await self._note_last()

    async def _note_last(self) -> None:
        assert self._conversation is not None
        before = self._last
        store = self._desk.workspace.conversations
        page = await asyncio.to_thread(store.messages, self._conversation, limit=1)
        self._last = page.items[-1] if page.items else None
        if before != self._last:
            self._foot.refresh()

    async def _go_on(self) -> None:
        name = self._model()
        if name is None:
            return
        async with self._one_at_a_time:
            if self._running is not None:
                return
            with self._frame.root:
                text = await self._paper.text()
                held = await self._ensure()
                await self._begin(lambda: self._desk.go_on(held, name, text))

    async def _again(self) -> None:
        name, last, held = self._model(), self._last, self._conversation
        if name is None or last is None or held is None:
            return
        async with self._one_at_a_time:
            with self._frame.root:
                text = await self._paper.text()
                await asyncio.to_thread(self._desk.keep, held, text)
                await self._begin(lambda: self._desk.answer(held, name, beside=last), show=True)

    async def _begin(self, begin: Callable[[], Message], *, show: bool = False) -> bool:
        try:
            message = await asyncio.to_thread(begin)
        except CllmError as error:
            notify_error(error)
            return False
        running = self._desk.texts.get(message.id)
        if show:
            self._paper.show(await self._read(but=message.id))
        self._last = message
        if running is not None:
            self._follow(running)
        else:
            await self._ended()
        return True

    def _follow(self, running: RunningText) -> None:
        """Show a text as it comes."""
        self._running = running
        self._paper.lock(True)
        self._foot.refresh()
        at, used = 0, 0

        async def look() -> None:
            nonlocal at, used
            is_done = running.is_done
            text, facts = running.text, running.facts
            parts = segments(text[at:], facts[used:])
            self._paper.grow(parts)
            at, used = len(text), used + sum(fact is not None for _, fact in parts)
            self._speed.set_text(figures(running.num_tokens, running.tokens_per_s))
            if is_done:
                timer.deactivate()
                await self._ended(running)

        with self._frame.root:
            timer = ui.timer(LOOK_S, look)

    async def _ended(self, running: RunningText | None = None) -> None:
        self._running = None
        self._paper.lock(False)
        if running is not None and running.error is not None:
            notify_error(running.error)
        # Aligned over the whole passage, the shades are exact.
        self._paper.show(await self._read())
        self._foot.refresh()
        await self._list.choose(self._conversation)
        assert self._conversation is not None
        held = await asyncio.to_thread(self._desk.workspace.conversations.get, self._conversation)
        self._frame.title.set_text(held.title or "Untitled")
        self._paper.focus()

    def _stop(self) -> None:
        if self._running is not None:
            self._running.stop()

    async def _turn(self, work: Callable[[str], None]) -> None:
        """Take the last passage out, or bring it back; what was typed since is kept first."""
        held = self._conversation
        assert held is not None
        async with self._one_at_a_time:
            with self._frame.root:
                text = await self._paper.text()
                await asyncio.to_thread(self._desk.keep, held, text)
                await asyncio.to_thread(work, held)
                await self.open(held)

    async def _select(self, message: int) -> None:
        assert self._conversation is not None
        store = self._desk.workspace.conversations
        with self._frame.root:
            await asyncio.to_thread(store.select, self._conversation, message)
            await self.open(self._conversation)

    async def _beams(self) -> None:
        name = self._model()
        if name is None:
            return
        with self._frame.root:
            text = sound(await self._paper.text())
            chosen = await BeamDialog(self._desk.workspace, name, text, self._settings).ask()
            if chosen:
                held = await self._ensure()
                await asyncio.to_thread(self._desk.keep, held, text + chosen)
                await self.open(held)

    async def _keep_settings(self, values: dict[str, Any]) -> None:
        self._settings = values
        if self._conversation is not None:
            store = self._desk.workspace.conversations
            await asyncio.to_thread(store.change, self._conversation, settings=values)
