"""The list of conversations beside a chat or document: searched, renamed, exported, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, final

from nicegui import ui
from nicegui.events import GenericEventArguments

from cllm.errors import CllmError
from cllm.web.layout import notify_error, telling
from cllm.web.shared_menu import SharedMenu
from cllm.web.undo import offer_undo

if TYPE_CHECKING:
    from cllm.jobs.conversations import Form
    from cllm.web.desk import Desk
    from cllm.workspace.conversations import ConversationEntry, Mode

PAGE = 50

OnChoose = Callable[[str | None], Awaitable[None]]
# The list is drawn anew while it is being searched: a click counts by the conversation that it
# named, even where its line is gone when it arrives.
_CHOSEN = """(event) => {
  const line = event.target.closest("[data-conversation]");
  const more = event.target.closest("[data-more]");
  if (more) emit(["more", more.dataset.more]);
  else if (line) emit(["open", line.dataset.conversation]);
}"""
_MORE_ICON = (
    '<i class="q-icon notranslate material-icons" aria-hidden="true" role="presentation">'
    "more_horiz</i>"
)
_NAMES = {"chat": ("New chat", "No conversations yet."), "write": ("New text", "No texts yet.")}


@final
class ConversationList:
    """The conversations of a mode, the last changed first, a page at a time.

    `on_choose` gets an id, or None for a new one.
    """

    def __init__(
        self, desk: Desk, mode: Mode, on_choose: OnChoose, *, chosen: str | None = None
    ) -> None:
        self.chosen = chosen
        # The entry whose menu was used may be gone by then.
        self._client = ui.context.client
        self._desk, self._workspace = desk, desk.workspace
        self._mode, self._on_choose = mode, on_choose
        self._search, self._shown = "", PAGE
        self._entries: list[ConversationEntry] = []
        self._total, self._num_loads = 0, 0

    def build(self) -> None:
        """Draw it; `load` fills it."""
        name, _ = _NAMES[self._mode]
        with ui.row().classes("cllm-list-head w-full no-wrap"):
            button = ui.button(name, icon="add", on_click=lambda: self._on_choose(None))
            button.props("flat no-caps").classes("cllm-new grow")
        field = ui.input(placeholder="Search").props(
            'dense outlined clearable debounce=200 type=search aria-label="Search conversations"'
        )
        field.classes("cllm-search w-full")
        with field.add_slot("prepend"):
            ui.icon("search").classes("cllm-soft")
        field.on_value_change(lambda event: self._find(event.value or ""))
        with ui.element("nav").classes("cllm-list").props('aria-label="Conversations"') as lines:
            self._items()
        lines.on("click", self._clicked, js_handler=_CHOSEN)
        self._menu = SharedMenu()

    async def load(self) -> None:
        """Read the list anew; what comes after a later look is no longer shown."""
        self._num_loads += 1
        asked = self._num_loads
        page = await asyncio.to_thread(
            self._workspace.conversations.list,
            search=self._search,
            mode=self._mode,
            limit=self._shown,
        )
        if asked == self._num_loads:
            self._entries, self._total = page.items, page.total
            self._items.refresh()

    async def choose(self, conversation: str | None) -> None:
        """Mark another one as the one shown."""
        self.chosen = conversation
        await self.load()

    async def _find(self, text: str) -> None:
        self._search, self._shown = text, PAGE
        await self.load()

    async def _more(self) -> None:
        self._shown += 2 * PAGE
        await self.load()

    async def _clicked(self, event: GenericEventArguments) -> None:
        asked, conversation = event.args
        if asked == "open":
            await self._on_choose(conversation)
            return
        found = (e.conversation for e in self._entries if e.conversation.id == conversation)
        if (held := next(found, None)) is None:
            return
        title = held.title or "Untitled"
        self._menu.open(
            f'[data-more="{held.id}"]',
            [
                ("Rename", lambda: self._rename(held.id, title)),
                ("Export as Markdown", lambda: self._export(held.id, "markdown")),
                ("Export as JSON", lambda: self._export(held.id, "json")),
                ("Delete", lambda: self._delete(held.id, title)),
            ],
        )

    @ui.refreshable_method
    def _items(self) -> None:
        # One piece of HTML: a hundred lines of it are drawn as quickly as one.
        lines = "".join(_line_html(entry, self.chosen) for entry in self._entries)
        ui.html(lines, sanitize=False).classes("cllm-list-lines")
        if not self._entries:
            empty = "Nothing was found." if self._search else _NAMES[self._mode][1]
            ui.label(empty).classes("cllm-empty-note")
        if self._total > len(self._entries):
            rest = self._total - len(self._entries)
            ui.button(f"Show more ({rest:,})", on_click=self._more).props("flat no-caps dense")

    async def _rename(self, conversation: str, title: str) -> None:
        with ui.dialog() as dialog, ui.card().classes("cllm-dialog"):
            dialog.props["aria-label"] = "Rename"
            ui.label("Rename").classes("cllm-dialog-title")
            field = ui.input("Name", value=title).props("outlined autofocus").classes("w-full")
            field.on("keydown.enter", lambda: dialog.submit(field.value))
            with ui.row().classes("cllm-dialog-actions w-full"):
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
                save = ui.button("Rename", on_click=lambda: dialog.submit(field.value))
                save.props("unelevated no-caps")
        name = await dialog
        if not dialog.is_deleted:
            dialog.delete()
        if name:
            store = self._workspace.conversations
            with telling(self._client.content):
                await asyncio.to_thread(store.change, conversation, title=name)
            await self.load()

    async def _export(self, conversation: str, form: Form) -> None:
        from cllm.jobs.conversations import export_conversation

        try:
            made = await asyncio.to_thread(export_conversation, self._workspace, conversation, form)
        except CllmError as error:
            notify_error(error)
            return
        ui.download.content(made[1], made[0])

    async def _delete(self, conversation: str, title: str) -> None:
        store = self._workspace.conversations

        async def bring_back() -> None:
            with telling(self._client.content):
                await asyncio.to_thread(store.restore, conversation)
            await self.load()

        with telling(self._client.content):
            # First: a text that is stopped for this is not looked at once more.
            if conversation == self.chosen:
                await self._on_choose(None)
            await asyncio.to_thread(self._desk.delete, conversation)
            offer_undo(self._client, f"“{title}” was deleted.", bring_back)
        await self.load()


def _line_html(entry: ConversationEntry, chosen: str | None) -> str:
    """A line of the list; all that a person wrote is escaped."""
    held = entry.conversation
    title = escape(held.title or "Untitled")
    note = escape(entry.snippet or _when(held.updated))
    on, current = (" is-on", ' aria-current="page"') if held.id == chosen else ("", "")
    return (
        f'<div class="cllm-list-item{on}">'
        f'<button type="button" class="cllm-list-open" data-conversation="{held.id}"{current}>'
        f'<span class="cllm-list-title">{title}</span>'
        f'<span class="cllm-list-note">{note}</span></button>'
        f'<button type="button" class="cllm-list-more" data-more="{held.id}" '
        f'aria-haspopup="menu" aria-label="More for {title}">{_MORE_ICON}</button></div>'
    )


def _when(seconds: float) -> str:
    then, now = datetime.fromtimestamp(seconds), datetime.now()
    if then.date() == now.date():
        return then.strftime("%H:%M")
    return then.strftime("%-d %B" if then.year == now.year else "%-d %B %Y")
