"""Chat: a conversation with a model that has learned one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from nicegui import ui

from cllm.errors import CllmError
from cllm.web.conversation_list import ConversationList
from cllm.web.desk import Desk
from cllm.web.layout import Loading, error_card, notify_error
from cllm.web.sampling_panel import SamplingPanel
from cllm.web.transcript import Actions, Transcript
from cllm.web.writing_frame import WritingFrame, starting_settings

if TYPE_CHECKING:
    from cllm.workspace.conversations import Message

# What a text for dialogue looks like, for models that have seen none.
EXAMPLE = "User: What is the tide?\nAssistant: The rise and fall of the sea.\n"


@final
class ChatView:
    """The page's body: list, messages, composer, controls.

    `model` names the model in use, or None; `conversation` is shown first, None for a new one.
    """

    def __init__(
        self, desk: Desk, model: Callable[[], str | None], conversation: str | None = None
    ) -> None:
        self._desk, self._model, self._conversation = desk, model, conversation
        self._settings: dict[str, Any] = {}
        self._frame = WritingFrame()
        # None while the model is being loaded, and where that failed.
        self._is_chat: bool | None = None
        self._problem: CllmError | None = None
        self._seen_model: str | None = None
        self._list = ConversationList(desk.workspace, "chat", self.open, chosen=conversation)
        self._transcript = Transcript(desk, Actions(self._edit, self._again, self._done))

    async def build(self) -> None:
        """Draw it and read what is shown."""
        with self._frame.build():
            with self._frame.list_place():
                self._list.build()
            with self._frame.main_place():
                self._frame.bar("Conversations")
                self._notice()
                self._transcript.body()
                self._composer()
            self._panel_place = self._frame.panel_place()
        await ui.context.client.connected()
        await self.open(self._conversation)
        ui.timer(1.0, self._watch_model)

    async def open(self, conversation: str | None) -> None:
        """Show another conversation, or a new one."""
        self._conversation = conversation
        held = None
        if conversation is not None:
            try:
                held = await asyncio.to_thread(self._desk.workspace.conversations.get, conversation)
            except CllmError as error:
                ui.notify(error.message, type="warning")
                self._conversation = None
        await self._transcript.load(self._conversation)
        if held is None:
            self._settings = await asyncio.to_thread(
                starting_settings, self._desk.workspace, self._model()
            )
        else:
            self._settings = dict(held.settings)
        self._frame.title.set_text(held.title if held is not None and held.title else "New chat")
        self._panel_place.clear()
        with self._panel_place:
            self._frame.panel_head()
            SamplingPanel(self._settings, self._keep_settings)
        ui.navigate.history.replace(
            f"/chat?conversation={self._conversation}" if self._conversation else "/chat"
        )
        await self._list.choose(self._conversation)
        await self._look_at_model()

    async def _watch_model(self) -> None:
        """Another model was chosen in the header."""
        if self._model() != self._seen_model:
            await self._look_at_model()

    async def _look_at_model(self) -> None:
        """Whether the model in use can chat at all; opening it may take a moment."""
        name = self._seen_model = self._model()
        self._is_chat, self._problem = None, None
        self._notice.refresh()
        self._composer.refresh()
        if name is not None:
            try:
                writer = await asyncio.to_thread(self._desk.writers.get, name)
                self._is_chat = writer.chat is not None
            except CllmError as error:
                self._problem = error
        self._notice.refresh()
        self._composer.refresh()

    @ui.refreshable_method
    def _notice(self) -> None:
        """What to know before the first word: no model, no dialogue, or how to begin."""
        name = self._model()
        if name is None:
            self._empty("There is no model yet", "Create one or open a model folder first.")
            with self._empty_row():
                ui.button("Models", on_click=lambda: ui.navigate.to("/models")).props(
                    "unelevated no-caps"
                )
        elif self._problem is not None:
            error_card(self._problem)
            with self._empty_row().classes("q-mt-md"):
                other = ui.button("Choose another model").props("unelevated no-caps")
                other.on_click(lambda: ui.navigate.to("/models"))
        elif self._is_chat is False:
            self._empty(
                f"{name} continues texts",
                "It has no chat template: nothing in the text it was trained on was a dialogue, "
                "so it has not learned to answer. Train on text like this, with a name before "
                "each turn, and it will:",
            )
            with self._empty_row():
                ui.html(f"<pre>{EXAMPLE}</pre>", sanitize=False).classes("cllm-example")
            with self._empty_row():
                ui.button("Write with it", on_click=lambda: ui.navigate.to("/write")).props(
                    "unelevated no-caps"
                )
        elif self._transcript.is_empty:
            self._empty(
                f"Say something to {name}",
                "It answers in the manner of its text; what it says is not to be taken for fact.",
            )

    def _empty(self, title: str, text: str) -> None:
        with ui.element("div").classes("cllm-welcome"):
            ui.label(title).classes("cllm-welcome-title")
            ui.label(text).classes("cllm-welcome-text")

    def _empty_row(self) -> ui.element:
        return ui.element("div").classes("cllm-welcome-row")

    @ui.refreshable_method
    def _composer(self) -> None:
        if self._is_chat is None and self._problem is None and self._model() is not None:
            Loading(f"{self._model()} is being loaded …").classes("is-late")
        if not self._is_chat:
            return
        with ui.element("div").classes("cllm-composer"):
            field = ui.textarea(placeholder=f"Message {self._model()}")
            field.props(
                'borderless autogrow dense aria-label="Message" input-style="max-height:40vh"'
            )
            field.classes("cllm-composer-field")
            # Enter sends, Shift+Enter begins a line; not while an input method composes.
            field.on(
                "keydown",
                lambda: self._send(field),
                js_handler="(e) => { if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) "
                "{ e.preventDefault(); emit(); } }",
            )
            is_running = self._transcript.running is not None
            send = ui.button(icon="stop" if is_running else "arrow_upward")
            send.props("unelevated round").classes("cllm-send")
            send.props["aria-label"] = "Stop" if is_running else "Send"
            if is_running:
                send.on_click(self._stop)
            else:
                send.on_click(lambda: self._send(field))
        ui.label("Enter sends, Shift+Enter begins a new line.").classes("cllm-composer-note")

    def _stop(self) -> None:
        if self._transcript.running is not None:
            self._transcript.running.stop()

    async def _send(self, field: ui.textarea) -> None:
        text = field.value or ""
        if not text.strip() or self._transcript.running is not None:
            return
        field.set_value("")
        if not await self._say(text):
            field.set_value(text)

    async def _say(self, text: str, beside: Message | None = None) -> bool:
        name = self._model()
        if name is None:
            return False
        if self._conversation is None:
            made = await asyncio.to_thread(
                self._desk.workspace.conversations.create,
                model=name,
                mode="chat",
                settings=self._settings,
            )
            assert made is not None
            self._conversation = made.id
            ui.navigate.history.replace(f"/chat?conversation={made.id}")
        return await self._start(lambda held: self._desk.say(held, name, text, beside=beside))

    async def _edit(self, message: Message, text: str) -> None:
        await self._say(text, beside=message)

    async def _again(self, message: Message | None) -> None:
        name = self._model()
        if name is not None:
            await self._start(lambda held: self._desk.answer(held, name, beside=message))

    async def _start(self, begin: Callable[[str], object]) -> bool:
        """Let a text begin and show it; False where it was refused."""
        assert self._conversation is not None
        try:
            await asyncio.to_thread(begin, self._conversation)
        except CllmError as error:
            with self._frame.root:
                notify_error(error)
            await self._transcript.load(self._conversation)
            return False
        await self._transcript.load(self._conversation)
        self._notice.refresh()
        self._composer.refresh()
        await self._name()
        return True

    async def _done(self) -> None:
        await self._transcript.load(self._conversation)
        self._composer.refresh()
        await self._list.load()

    async def _name(self) -> None:
        assert self._conversation is not None
        held = await asyncio.to_thread(self._desk.workspace.conversations.get, self._conversation)
        if held is not None:
            self._frame.title.set_text(held.title or "New chat")
        await self._list.choose(self._conversation)

    async def _keep_settings(self, values: dict[str, Any]) -> None:
        self._settings = values
        if self._conversation is not None:
            store = self._desk.workspace.conversations
            await asyncio.to_thread(store.change, self._conversation, settings=values)
