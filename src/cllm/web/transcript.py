"""The messages of a chat: bubbles, branches, and the reply that is being written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from nicegui import ui

from cllm.web.desk import Desk
from cllm.web.layout import notify_error, telling
from cllm.web.running import LOOK_S, RunningText
from cllm.web.streamed_text import StreamedText
from cllm.web.token_text import TokenFact

if TYPE_CHECKING:
    from cllm.workspace.conversations import Message

PAGE = 40

_ENDS = {
    "length": "cut at the longest length",
    "cancelled": "stopped",
    "error": "ended by an error",
}


@dataclass(frozen=True, slots=True)
class Actions:
    """What a person can do with a message; each is told which one."""

    # Whether it was taken.
    edit: Callable[[Message, str], Awaitable[bool]]
    again: Callable[[Message | None], Awaitable[None]]
    on_done: Callable[[], Awaitable[None]]
    # Other messages are shown, or another reply is being written, or none.
    on_load: Callable[[], None]


@final
class Transcript:
    """The branch of a conversation that is looked at, its newest part first."""

    def __init__(self, desk: Desk, actions: Actions) -> None:
        self._desk, self._actions = desk, actions
        self._client = ui.context.client
        self._messages: list[Message] = []
        self._has_more = False
        self.conversation: str | None = None
        self.running: RunningText | None = None

    async def load(self, conversation: str | None) -> None:
        """Show a conversation, or that it is empty."""
        self.conversation = conversation
        messages: list[Message] = []
        has_more, running = False, None
        if conversation is not None:
            store = self._desk.workspace.conversations
            page = await asyncio.to_thread(store.messages, conversation, limit=PAGE)
            if page.items and not _is_whole(page.items[-1]):
                running = self._desk.texts.get(page.items[-1].id)
                if running is None:  # It was kept for good only after it was read here.
                    page = await asyncio.to_thread(store.messages, conversation, limit=PAGE)
            messages, has_more = page.items, page.has_more
        if self.conversation != conversation:
            return
        self._messages, self._has_more, self.running = messages, has_more, running
        self.body.refresh()
        self._actions.on_load()
        self._client.run_javascript("window.cllmWriting?.toEnd()")

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said yet."""
        return not self._messages

    async def _earlier(self) -> None:
        """Put what came before above the rest, which stays as it is drawn."""
        assert self.conversation is not None
        store, first = self._desk.workspace.conversations, self._messages[0].id
        page = await asyncio.to_thread(store.messages, self.conversation, before=first, limit=PAGE)
        self._messages, self._has_more = [*page.items, *self._messages], page.has_more
        with self._lines:
            for place, message in enumerate(page.items):
                self._line(message).move(target_index=place + 1)
        self._more.set_visibility(self._has_more)

    @ui.refreshable_method
    def body(self) -> None:
        """Draw the messages."""
        with ui.element("ol").classes("cllm-messages") as self._lines:
            self._lines.props('aria-label="Messages"')
            if self._has_more:
                with ui.element("li").classes("cllm-earlier") as self._more:
                    ui.button("Earlier messages", on_click=self._earlier).props("flat no-caps")
            for message in self._messages:
                self._line(message)
        self._unseen()

    def _line(self, message: Message) -> ui.element:
        with ui.element("li").classes(f"cllm-message is-{message.role}") as line:
            if message.role == "assistant":
                self._reply(message)
            else:
                self._said(message, is_last=message is self._messages[-1])
        return line

    def _unseen(self) -> None:
        """How much of a long conversation the last reply was written without."""
        replies = (message for message in reversed(self._messages) if message.role == "assistant")
        num = (last := next(replies, None)) and last.details.get("unseen")
        if not num:
            return
        turns = "older turn no longer fits" if num == 1 else "older turns no longer fit"
        told = f"{num:,} {turns} the model's context: it answers without them."
        ui.label(told).classes("cllm-unseen").props("role=note")

    def _said(self, message: Message, *, is_last: bool) -> None:
        with ui.element("div").classes("cllm-bubble"):
            ui.label(message.text).classes("cllm-said")
        with ui.row().classes("cllm-actions"):
            self._branches(message)
            # What would begin a reply waits until the one before it is whole.
            edit = _action("edit", "Edit", lambda: self._edit(message))
            edit.set_enabled(self.running is None)
            _copy(message.text)
            if is_last:
                again = ui.button("Answer", icon="refresh")
                again.on_click(lambda: self._actions.again(None)).props("flat no-caps dense")

    def _reply(self, message: Message) -> None:
        running = self.running
        facts = [TokenFact.from_json(item) for item in message.alternatives or ()]
        if running is not None and message is self._messages[-1]:
            text = StreamedText(running.text, running.facts)
            with ui.row().classes("cllm-actions is-live") as live:
                ui.spinner("dots", size="1.4em")
                speed = ui.label("").classes("cllm-figures").props("aria-live=off")
            self._follow(running, text, live, speed)
            return
        if message.text:
            StreamedText(message.text, facts)
        else:
            ui.label("Nothing came.").classes("cllm-nothing")
        with ui.row().classes("cllm-actions"):
            self._branches(message)
            _copy(message.text)
            again = _action("refresh", "Another answer", lambda: self._actions.again(message))
            again.set_enabled(running is None)
            ui.label(told(message)).classes("cllm-figures")

    def _follow(
        self, running: RunningText, text: StreamedText, live: ui.element, speed: ui.label
    ) -> None:
        async def look() -> None:
            is_done = running.is_done
            text.grow(running.text, running.facts)
            speed.set_text(figures(running.num_tokens, running.tokens_per_s))
            if is_done:
                timer.cancel()
                self.running = None
                # Should the messages not be read again, this no longer looks alive.
                live.set_visibility(False)
                if running.error is not None:
                    notify_error(running.error)
                await self._actions.on_done()

        timer = ui.timer(LOOK_S, look)

    def _branches(self, message: Message) -> None:
        """Arrows between what stands in the same place: edits and other answers."""
        others = message.siblings
        if len(others) < 2:
            return
        at = others.index(message.id)
        with ui.row().classes("cllm-branches no-wrap"):
            back = _action("chevron_left", "The version before", lambda: self._go(others[at - 1]))
            back.set_enabled(at > 0)
            ui.label(f"{at + 1}/{len(others)}").classes("cllm-figures")
            on = _action("chevron_right", "The next version", lambda: self._go(others[at + 1]))
            on.set_enabled(at + 1 < len(others))

    async def _go(self, message: int) -> None:
        assert self.conversation is not None
        store = self._desk.workspace.conversations
        with telling(self._client.content):
            await asyncio.to_thread(store.select, self.conversation, message)
            await self.load(self.conversation)

    async def _edit(self, message: Message) -> None:
        text = message.text
        while (given := await self._ask(text)) is not None and given.strip():
            if await self._actions.edit(message, given):
                return
            # What was refused is asked again, as it was written.
            text = given

    async def _ask(self, text: str) -> str | None:
        """Another text for a message; the messages may be drawn anew while it is written."""
        with self._client.content, ui.dialog() as dialog, ui.card().classes("cllm-dialog"):
            dialog.props["aria-label"] = "Edit what you said"
            ui.label("Edit what you said").classes("cllm-dialog-title")
            field = ui.textarea("Message", value=text)
            field.props("outlined autogrow autofocus").classes("w-full")
            ui.label("The old version and what followed stay: a branch of their own.").classes(
                "cllm-help"
            )
            with ui.row().classes("cllm-dialog-actions w-full"):
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
                send = ui.button("Send", on_click=lambda: dialog.submit(field.value))
                send.props("unelevated no-caps")
        given = await dialog
        if not dialog.is_deleted:
            dialog.delete()
        return None if given is None else str(given)


def _is_whole(message: Message) -> bool:
    return message.role != "assistant" or "finish" in message.details


def figures(num_tokens: int, tokens_per_s: float) -> str:
    """How many tokens, and how fast."""
    count = f"{num_tokens:,} token{'' if num_tokens == 1 else 's'}"
    return f"{count} · {tokens_per_s:,.0f} tokens/s" if tokens_per_s else count


def told(message: Message) -> str:
    """What is known of how a reply was written, on one line."""
    details = message.details
    parts = []
    if message.tokens is not None:
        parts.append(figures(message.tokens, details.get("tokens_per_s") or 0.0))
    if details.get("model"):
        parts.append(str(details["model"]))
    if details.get("seed") is not None:
        parts.append(f"seed {details['seed']}")
    if details.get("finish") in _ENDS:
        parts.append(_ENDS[details["finish"]])
    if details.get("windowed"):
        parts.append("only the end of what is above fits the model")
    return " · ".join(parts)


def _action(icon: str, label: str, act: Callable[[], Any]) -> ui.button:
    button = ui.button(icon=icon, on_click=act).props("flat dense round size=sm")
    button.props["aria-label"] = label
    return button.tooltip(label)


def _copy(text: str) -> None:
    def copy() -> None:
        ui.clipboard.write(text)
        ui.notify("Copied.", timeout=1500)

    _action("content_copy", "Copy", copy)
