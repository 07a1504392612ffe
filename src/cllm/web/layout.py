"""The frame of every page: header, navigation, theme; what a page shows goes in between."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from html import escape
from typing import Any, TypeVar, final

from fastapi.responses import RedirectResponse
from nicegui import run, ui

from cllm.errors import CllmError
from cllm.web.header import draw_header, draw_tabs
from cllm.web.state import app_state
from cllm.web.theme import add_look

F = TypeVar("F", bound=Callable[..., Any])
Elsewhere = Callable[[], Awaitable[str | None]]


def page(
    title: str, path: str, *, wide: bool = False, elsewhere: Elsewhere | None = None
) -> Callable[[F], F]:
    """Make a function the page at `path`: what it builds stands below the header.

    The function may be async and may take query parameters as `ui.page` allows. It should draw
    at once and fill in what takes longer than a moment after
    `await ui.context.client.connected()`. A CllmError becomes a card that says what to do.
    Where `elsewhere` returns a path, the browser is sent there instead.
    `wide` uses the whole width of the window and its height (chat); else text keeps to 76 rem.
    """

    def decorate(build: F) -> F:
        @functools.wraps(build)
        async def draw(*args: Any, **kwargs: Any) -> RedirectResponse | None:
            state = app_state()
            # Before anything is drawn: what waits for the browser lets the page be sent.
            if elsewhere is not None and (target := await elsewhere()) is not None:
                return RedirectResponse(target)
            theme = await run.io_bound(state.read_theme)
            await run.io_bound(state.look)
            add_look(theme or "system")
            ui.page_title(f"{title} · cllm")
            draw_header(path, theme or "system")
            draw_tabs(path)
            kind = "cllm-page is-wide" if wide else "cllm-page"
            with ui.element("div").classes(kind).props("id=content tabindex=-1"):
                try:
                    made = build(*args, **kwargs)
                    if inspect.isawaitable(made):
                        await made
                except CllmError as error:
                    error_card(error)
            return None

        # NiceGUI and FastAPI read the parameters; the wrapped module's names are not known here.
        draw.__signature__ = inspect.signature(build, eval_str=True)  # type: ignore[attr-defined]
        ui.page(path, title=f"{title} · cllm", dark=None)(draw)
        return build

    return decorate


def text(tag: str, content: str, classes: str = "") -> ui.html:
    """Plain text in an element of that name; its `content` may be changed."""
    return ui.html(content, tag=tag, sanitize=escape).classes(classes)


def heading(title: str, note: str = "") -> None:
    """The title of a page, and a line below it."""
    with ui.element("div").classes("cllm-heading"):
        text("h1", title)
        if note:
            text("p", note, "cllm-soft")


def section(title: str, note: str = "", *, level: int = 2) -> ui.element:
    """A part of a page with its title; use it as a context."""
    part = ui.element("section").classes("cllm-section")
    with part:
        text(f"h{level}", title)
        if note:
            text("p", note, "cllm-hint")
    return part


def empty(title: str, note: str, *, icon: str = "inbox") -> ui.element:
    """What a page says that has nothing to show yet; buttons go into it."""
    with ui.element("div").classes("cllm-empty") as card:
        ui.icon(icon).classes("cllm-empty-icon")
        text("h2", title)
        text("p", note)
    return card


def error_card(error: CllmError) -> ui.element:
    """What went wrong, where, and what to do."""
    with ui.element("div").classes("cllm-error").props("role=alert") as card:
        ui.label(sentence(error.message)).classes("cllm-error-title")
        if error.where:
            ui.label(error.where).classes("cllm-mono cllm-hint")
        if error.hint:
            ui.label(error.hint)
    return card


def notify_error(error: CllmError) -> None:
    """The same in passing, at the foot of the window."""
    told = " ".join(filter(None, (sentence(error.message), error.hint)))
    ui.notify(told, type="negative", position="bottom", timeout=8000, close_button="Close")


@contextlib.contextmanager
def telling(place: ui.element) -> Iterator[None]:
    """Whatever is refused in the block is told, from a place that outlives it."""
    with place:
        try:
            yield
        except CllmError as error:
            notify_error(error)


@final
class Loading(ui.element):
    """Something takes a moment; `delete()` it when there is something to show."""

    def __init__(self, label: str) -> None:
        super().__init__("div")
        self.classes("cllm-loading").props("role=status")
        with self:
            ui.element("span").classes("cllm-spin").props("aria-hidden=true")
            self._label = ui.label(label)

    def say(self, label: str) -> None:
        """Tell what it is at."""
        self._label.set_text(label)


def sentence(text: str) -> str:
    """A message with a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?", "…")) else text + "."
