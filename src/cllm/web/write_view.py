"""Write: a document that a model continues in place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, final

from nicegui import ui

from cllm.errors import CllmError, NotFoundError
from cllm.web.beam_dialog import BeamDialog
from cllm.web.conversation_list import ConversationList
from cllm.web.desk import Desk, as_shown, sound
from cllm.web.layout import notify_error, sentence, telling
from cllm.web.missing_model import DAMAGED, UNOPENED, damaged, no_model, training_told
from cllm.web.paper import Paper
from cllm.web.running import LOOK_S, RunningText
from cllm.web.sampling_panel import KeptSettings, SamplingPanel
from cllm.web.state import app_state
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
        self._settings = KeptSettings(desk.workspace.conversations)
        self._frame = WritingFrame()
        self._running: RunningText | None = None
        self._look: ui.timer | None = None
        # The last passage as this page has seen it: another window may have changed it since.
        self._last: Message | None = None
        self._ends_in_passage = False
        # A click on "Continue" also ends the typing, which is to be kept: two at once.
        # Another text is opened between two such steps, never within one.
        self._one_at_a_time = asyncio.Lock()
        self._seen = self._standing()
        self._list = ConversationList(desk, "write", self.open, chosen=conversation)

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
        # On the first empty sheet a person may write already.
        async with self._one_at_a_time:
            with self._frame.root:
                await self._show(self._conversation, is_first=True)
        ui.timer(1.0, self._watch_model)

    async def open(self, conversation: str | None) -> None:
        """Show another text, or a new one."""
        async with self._one_at_a_time:
            with self._frame.root:
                await self._show(conversation)

    async def _show(self, conversation: str | None, *, is_first: bool = False) -> None:
        self._leave()
        self._conversation, self._last = conversation, None
        parts: list[Segment] = []
        title, running = "New text", None
        store = self._desk.workspace.conversations
        values: Mapping[str, Any] = {}
        if conversation is not None:
            try:
                held = await asyncio.to_thread(store.get, conversation)
                values, title = held.settings, held.title or "Untitled"
                running = None if held.leaf is None else self._desk.texts.get(held.leaf)
                parts = await self._read(but=None if running is None else held.leaf)
            except CllmError as error:
                ui.notify(sentence(error.message), type="warning")
                self._conversation, running = None, None
        if self._conversation is None:
            workspace = self._desk.workspace
            values = await asyncio.to_thread(starting_settings, workspace, self._model())
        if parts or not is_first:
            self._paper.show(parts)
        self._frame.title.set_text(title)
        self._settings = KeptSettings(store, self._conversation, values)
        self._panel_place.clear()
        with self._panel_place:
            self._frame.panel_head()
            SamplingPanel(self._settings)
        address = f"/write?conversation={self._conversation}" if self._conversation else "/write"
        ui.navigate.history.replace(address)
        if self._conversation is not None or not is_first:
            self._foot.refresh()
        await self._list.choose(self._conversation)
        if running is not None:
            self._follow(running)

    def _standing(self) -> tuple[object, ...]:
        """The model in use, what is wrong with it, and the training of a first one."""
        name = self._model()
        return (name, _problem(), training_told() if name is None else None)

    def _watch_model(self) -> None:
        """Another model was chosen in the header, or something has happened to it."""
        if self._standing() != self._seen:
            self._seen = self._standing()
            self._no_model.refresh()
            self._foot.refresh()

    async def _read(self, *, but: int | None = None) -> list[Segment]:
        """The document's passages as tokens, without one that will be shown as it comes."""
        assert self._conversation is not None
        store = self._desk.workspace.conversations
        # In this order: what comes in between from another window is not taken for seen.
        page = await asyncio.to_thread(store.messages, self._conversation, limit=1)
        self._last = page.items[-1] if page.items else None
        branch = await asyncio.to_thread(store.branch, self._conversation)
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
        problem = _problem()
        if self._model() is None:
            no_model().classes("is-above")
        elif problem is not None:
            damaged(*problem)

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
            can_write = self._model() is not None and _problem() is None
            go_on.set_enabled(can_write)
            ways = ui.button("Likeliest ways on", icon="account_tree", on_click=self._beams)
            ways.props("flat no-caps").set_enabled(can_write)
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
            elif last is not None and last.text:
                self._versions(last)
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
        """The conversation's id, made if it is a new one or was deleted elsewhere."""
        store = self._desk.workspace.conversations
        if self._conversation is not None:
            try:
                return (await asyncio.to_thread(store.get, self._conversation)).id
            except NotFoundError:
                told = "This text was deleted in another window. What stands here is kept anew."
                ui.notify(told, type="warning")
                self._conversation, self._last = None, None
                self._frame.title.set_text("New text")
        made = await self._settings.create(self._model(), "write")
        self._conversation = made.id
        ui.navigate.history.replace(f"/write?conversation={made.id}")
        return made.id

    async def _keep(self, text: str) -> None:
        """Keep what the person typed."""
        async with self._one_at_a_time:
            if self._running is not None or (self._conversation is None and not text):
                return
            with telling(self._frame.root):
                await self._put(text)

    async def _put(self, text: str) -> str:
        """Keep a text, and note how it stands then; returns the conversation's id."""
        held, before = await self._ensure(), self._last
        now = await asyncio.to_thread(self._desk.keep, held, text, seen=before)
        self._last = now
        # A button that is being pressed would not be clicked if it were drawn anew meanwhile.
        if _offered(before) != _offered(now):
            self._foot.refresh()
        return held

    async def _go_on(self) -> None:
        name = self._model()
        if name is None:
            return
        async with self._one_at_a_time:
            if self._running is not None:
                return
            with telling(self._frame.root):
                text = await self._paper.text()
                held = await self._ensure()
                seen = self._last
                await self._begin(lambda: self._desk.go_on(held, name, text, seen=seen))

    async def _again(self) -> None:
        name, last, held = self._model(), self._last, self._conversation
        if name is None or last is None or held is None:
            return
        async with self._one_at_a_time:
            if self._running is not None or self._conversation != held:
                return
            with telling(self._frame.root):
                await self._put(await self._paper.text())
                await self._begin(lambda: self._desk.answer(held, name, beside=last), show=True)

    async def _begin(self, begin: Callable[[], Message], *, show: bool = False) -> None:
        message = await asyncio.to_thread(begin)
        running = self._desk.texts.get(message.id)
        if show:
            self._paper.show(await self._read(but=message.id))
        self._last = message
        if running is not None:
            self._follow(running)
        else:
            await self._ended()

    def _follow(self, running: RunningText) -> None:
        """Show a text as it comes."""
        self._running = running
        self._paper.lock(True)
        self._foot.refresh()
        at, used = 0, 0

        async def look() -> None:
            nonlocal at, used
            if self._running is not running:
                timer.cancel()
                return
            is_done = running.is_done
            text, facts = running.text, running.facts
            parts = segments(text[at:], facts[used:])
            self._paper.grow(parts)
            at, used = len(text), used + sum(fact is not None for _, fact in parts)
            self._speed.set_text(figures(running.num_tokens, running.tokens_per_s))
            if is_done:
                timer.cancel()
                async with self._one_at_a_time:
                    if self._running is running:
                        with telling(self._frame.root):
                            await self._ended(running)

        with self._frame.root:
            self._look = timer = ui.timer(LOOK_S, look)

    def _leave(self) -> None:
        """No longer show the text that is being written, which goes on by itself."""
        if self._look is not None:
            self._look.cancel()
        if self._running is not None:
            self._paper.lock(False)
        self._look = self._running = None

    async def _ended(self, running: RunningText | None = None) -> None:
        self._leave()
        if running is not None and running.error is not None:
            notify_error(running.error)
        try:
            # Aligned over the whole passage, the shades are exact.
            self._paper.show(await self._read())
        finally:
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
        async with self._one_at_a_time:
            if held is None or self._running is not None or self._conversation != held:
                return
            with telling(self._frame.root):
                held = await self._put(await self._paper.text())
                await asyncio.to_thread(work, held)
                await self._show(held)

    async def _select(self, message: int) -> None:
        held = self._conversation
        async with self._one_at_a_time:
            if held is None or self._running is not None or self._conversation != held:
                return
            with telling(self._frame.root):
                store = self._desk.workspace.conversations
                await asyncio.to_thread(store.select, held, message)
                await self._show(held)

    async def _beams(self) -> None:
        name = self._model()
        if name is None:
            return
        with telling(self._frame.root):
            text = sound(await self._paper.text())
            chosen = await BeamDialog(self._desk.workspace, name, text, self._settings.values).ask()
            if chosen:
                async with self._one_at_a_time:
                    await self._show(await self._put(text + chosen))


def _offered(last: Message | None) -> tuple[object, ...]:
    """What a text that ends so offers besides going on; nothing if only one's own words."""
    if last is None or (last.role == "document" and last.text and len(last.siblings) < 2):
        return ()
    return (last.id, last.siblings, bool(last.text))


def _problem() -> tuple[str, str | None] | None:
    """What keeps the model in use from being opened: in words for people, and its details."""
    glance = app_state().glance
    if glance.loading != "failed":
        return None
    is_damaged = glance.card is not None and glance.card.problem is not None
    return (DAMAGED if is_damaged else UNOPENED), glance.problem
