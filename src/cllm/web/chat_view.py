"""Chat: a conversation with a model that has learned one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, final

from nicegui import ui

from cllm.errors import CllmError, IntegrityError
from cllm.web.conversation_list import ConversationList
from cllm.web.desk import Desk
from cllm.web.layout import Loading, sentence, telling
from cllm.web.missing_model import another_model, model_error, no_model, training_told
from cllm.web.sampling_panel import KeptSettings, SamplingPanel
from cllm.web.transcript import Actions, Transcript
from cllm.web.writing_frame import WritingFrame, starting_settings

if TYPE_CHECKING:
    from cllm.workspace.conversations import Message

# What a text for dialogue looks like, for models that have seen none.
EXAMPLE = "User: What is the tide?\nAssistant: The rise and fall of the sea.\n"
# Not on a screen that is touched, where a keyboard would come up; nobody is torn from what they do.
_TO_COMPOSER = """(() => {
  if (!matchMedia("(pointer: fine)").matches) return;
  const focus = (tries) => {
    const field = document.querySelector(".cllm-composer:not(.hidden) textarea");
    const at = document.activeElement;
    const isBusy = document.querySelector(".q-dialog, .q-menu, .cllm-side.is-open")
      || getSelection().type === "Range" || !(at === document.body || at.closest(".cllm-new"));
    if (isBusy) return;
    if (field) field.focus({ preventScroll: true });
    else if (tries) setTimeout(focus, 50, tries - 1);
  };
  focus(10);
})()"""


@final
class ChatView:
    """The page's body: list, messages, composer, controls.

    `model` names the model in use, or None; `conversation` is shown first, None for a new one.
    """

    def __init__(
        self, desk: Desk, model: Callable[[], str | None], conversation: str | None = None
    ) -> None:
        self._desk, self._model, self._conversation = desk, model, conversation
        self._settings = KeptSettings(desk.workspace.conversations)
        self._field: ui.textarea | None = None
        self._frame = WritingFrame()
        # None while the model is being loaded, and where that failed.
        self._is_chat: bool | None = None
        self._problem: CllmError | None = None
        self._seen_model: str | None = None
        # What the notice was drawn for: only for something else is it drawn anew.
        self._noticed: tuple[object, ...] | None = None
        self._list = ConversationList(desk, "chat", self.open, chosen=conversation)
        # What begins a reply comes one after the other: opening a model may take a moment.
        self._one_at_a_time = asyncio.Lock()
        self._transcript = Transcript(
            desk, Actions(self._edit, self._again, self._done, self._show_composer)
        )

    async def build(self) -> None:
        """Draw it and read what is shown."""
        with self._frame.build():
            with self._frame.list_place():
                self._list.build()
            with self._frame.main_place():
                self._frame.bar("Conversations")
                self._notice()
                self._transcript.body()
                self._loading()
                self._composer = ui.element("div").classes("cllm-composer")
                self._note = ui.label("Enter sends, Shift+Enter begins a new line.")
                self._note.classes("cllm-composer-note")
                for part in (self._composer, self._note):
                    part.set_visibility(False)
            self._panel_place = self._frame.panel_place()
        await ui.context.client.connected()
        await self.open(self._conversation)
        ui.timer(1.0, self._watch_model)

    async def open(self, conversation: str | None) -> None:
        """Show another conversation, or a new one."""
        self._conversation = conversation
        store, held = self._desk.workspace.conversations, None
        if conversation is not None:
            try:
                held = await asyncio.to_thread(store.get, conversation)
            except CllmError as error:
                ui.notify(sentence(error.message), type="warning")
                self._conversation = None
        await self._transcript.load(self._conversation)
        if held is None:
            values = await asyncio.to_thread(starting_settings, self._desk.workspace, self._model())
        else:
            values = held.settings
        self._settings = KeptSettings(store, self._conversation, values)
        self._frame.title.set_text(held.title if held is not None and held.title else "New chat")
        self._panel_place.clear()
        with self._panel_place:
            self._frame.panel_head()
            SamplingPanel(self._settings)
        ui.navigate.history.replace(
            f"/chat?conversation={self._conversation}" if self._conversation else "/chat"
        )
        await self._list.choose(self._conversation)
        await self._look_at_model()
        if self._is_chat:
            self._frame.root.client.run_javascript(_TO_COMPOSER)

    async def _watch_model(self) -> None:
        """Another model was chosen in the header, or the first one is being made."""
        if self._model() != self._seen_model:
            await self._look_at_model()
        elif self._to_notice() != self._noticed:
            self._notice.refresh()

    async def _look_at_model(self) -> None:
        """Whether the model in use can chat at all; opening it may take a moment."""
        name = self._seen_model = self._model()
        self._is_chat, self._problem = None, None
        self._show_state()
        if name is not None:
            try:
                writer = await asyncio.to_thread(self._desk.writers.get, name)
                is_chat, problem = writer.chat is not None, None
            except CllmError as error:
                is_chat, problem = None, error
            if self._seen_model != name:
                return
            self._is_chat, self._problem = is_chat, problem
        self._show_state()

    def _to_notice(self) -> tuple[object, ...]:
        name = self._model()
        training = training_told() if name is None else None
        return (name, self._problem, self._is_chat, self._transcript.is_empty, training)

    def _show_state(self) -> None:
        if self._to_notice() != self._noticed:
            self._notice.refresh()
        self._loading.refresh()
        self._show_composer()

    @ui.refreshable_method
    def _notice(self) -> None:
        """What to know before the first word: no model, no dialogue, or how to begin."""
        name, self._noticed = self._model(), self._to_notice()
        if name is None:
            no_model()
        elif self._problem is not None:
            model_error(self._problem)
            if not isinstance(self._problem, IntegrityError):
                with self._empty_row().classes("q-mt-md"):
                    another_model()
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
    def _loading(self) -> None:
        if self._is_loading:
            Loading(f"{self._model()} is being loaded …").classes("is-late")

    @property
    def _is_loading(self) -> bool:
        return self._is_chat is None and self._problem is None and self._model() is not None

    def _compose(self) -> ui.textarea:
        """Where a message is written: drawn once, so that no word and no cursor is lost."""
        with self._composer:
            field = ui.textarea().classes("cllm-composer-field")
            field.props(
                'borderless autogrow dense aria-label="Message" input-style="max-height:40vh"'
            )
            # Enter sends, Shift+Enter begins a line; not while an input method composes.
            field.on(
                "keydown",
                lambda: self._send(field),
                js_handler="(e) => { if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) "
                "{ e.preventDefault(); emit(); } }",
            )
            self._button = ui.button(icon="arrow_upward")
            self._button.on_click(lambda: self._send_or_stop(field))
            self._button.props("unelevated round").classes("cllm-send")
        return field

    def _show_composer(self) -> None:
        """Whether a message can be written, to whom, and what the button does."""
        # While another model is being loaded, what stands there stays.
        if not self._is_loading:
            for part in (self._composer, self._note):
                part.set_visibility(bool(self._is_chat))
        if self._field is None:
            if not self._is_chat:
                return
            # Not before it can be seen: hidden, it would not find its height.
            self._field = self._compose()
        placeholder = f"Message {self._model()}"
        if self._field.props.get("placeholder") != placeholder:
            self._field.props["placeholder"] = placeholder
        is_running = self._transcript.running is not None
        self._button.set_icon("stop" if is_running else "arrow_upward")
        self._button.props["aria-label"] = "Stop" if is_running else "Send"

    async def _send_or_stop(self, field: ui.textarea) -> None:
        if self._transcript.running is not None:
            self._transcript.running.stop()
        else:
            await self._send(field)

    async def _send(self, field: ui.textarea) -> None:
        text = field.value or ""
        is_busy = self._transcript.running is not None or self._one_at_a_time.locked()
        if not text.strip() or is_busy:
            return

        def taken() -> None:
            # What was typed since stays; a refused message was never taken out.
            field.set_value((field.value or "").removeprefix(text))

        await self._start(lambda held, name: self._desk.say(held, name, text), taken)

    async def _edit(self, message: Message, text: str) -> bool:
        return await self._start(
            lambda held, name: self._desk.say(held, name, text, beside=message)
        )

    async def _again(self, message: Message | None) -> None:
        await self._start(lambda held, name: self._desk.answer(held, name, beside=message))

    async def _start(
        self, begin: Callable[[str, str], object], taken: Callable[[], None] = lambda: None
    ) -> bool:
        """Let a text begin, given conversation and model, and show it; False where refused."""
        name, is_begun = self._model(), False
        if name is None:
            return False
        async with self._one_at_a_time:
            with telling(self._frame.root):
                held = await self._ensure(name)
                await asyncio.to_thread(begin, held, name)
                is_begun = True
                taken()
            # After a refusal, too: another window may have changed what is there, or all is gone.
            with telling(self._frame.root) if is_begun else contextlib.suppress(CllmError):
                await self._transcript.load(self._conversation)
                self._notice.refresh()
                await self._name()
        return is_begun

    async def _ensure(self, model: str) -> str:
        """The conversation's id, made if it is a new one."""
        if self._conversation is None:
            settings = self._settings
            made = await settings.create(model, "chat")
            # Another was opened in the meantime.
            if self._conversation is not None or self._settings is not settings:
                return made.id
            self._conversation = made.id
            ui.navigate.history.replace(f"/chat?conversation={made.id}")
        return self._conversation

    async def _done(self) -> None:
        with telling(self._frame.root):
            await self._list.load()
            # The last: what waits for this is drawn anew with the messages.
            await self._transcript.load(self._conversation)

    async def _name(self) -> None:
        if self._conversation is None:
            return
        held = await asyncio.to_thread(self._desk.workspace.conversations.get, self._conversation)
        self._frame.title.set_text(held.title or "New chat")
        await self._list.choose(self._conversation)
