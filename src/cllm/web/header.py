"""The header of every page: where one is, the model in use, and what is running."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import final

from nicegui import run, ui

from cllm.errors import CllmError
from cllm.quantities import clock, size
from cllm.server.refusal_page import MARK
from cllm.web.shared_menu import menu_entry
from cllm.web.state import Glance, app_state
from cllm.web.theme import Theme

# Path, name, name where there is little room, icon.
PLACES = (
    ("/chat", "Chat", "Chat", "forum"),
    ("/write", "Write", "Write", "edit_note"),
    ("/training", "Train", "Train", "model_training"),
    ("/models", "Models", "Models", "inventory_2"),
    ("/inside", "Look inside", "Inside", "troubleshoot"),
    ("/benchmarks", "Benchmarks", "Speed", "speed"),
)
_LOOK_S = 1.0
_THEMES: dict[Theme, tuple[Theme, str, str]] = {
    "system": ("light", "brightness_auto", "Theme: as the system"),
    "light": ("dark", "light_mode", "Theme: light"),
    "dark": ("system", "dark_mode", "Theme: dark"),
}
_STATES = {"none": "not loaded", "loading": "loading …", "ready": "ready", "failed": "failed"}


def draw_header(path: str, theme: Theme) -> None:
    """The header with its navigation; it keeps itself up to date."""
    with ui.context.client.layout:
        skip = ui.element("a").props('href="#content"').classes("cllm-skip")
        header = ui.element("header").classes("cllm-header")
    with skip:
        ui.html("Skip to the content", tag="span", sanitize=False)
    with header:
        with ui.element("a").props('href="/" aria-label="cllm, to the start"').classes("cllm-mark"):
            ui.html(MARK, tag="span", sanitize=False)
            ui.html("cllm", tag="span", sanitize=False)
        with ui.element("nav").props('aria-label="Pages"').classes("cllm-nav"):
            for target, name, _, _ in PLACES:
                _link(target, name, is_here=target == path)
        ui.element("div").classes("grow")
        _Running().draw()
        _Switcher().draw()
        _ThemeSwitch(theme).draw()
    header.move(target_index=0)
    skip.move(target_index=0)


def draw_tabs(path: str) -> None:
    """The same navigation at the foot of narrow windows."""
    with ui.context.client.layout, ui.element("nav") as tabs:
        tabs.props('aria-label="Pages, below"').classes("cllm-tabs")
        for target, _, name, icon in PLACES:
            with _link(target, "", is_here=target == path):
                ui.icon(icon)
                ui.html(name, tag="span", sanitize=False)


def _link(target: str, name: str, *, is_here: bool) -> ui.element:
    link = ui.element("a").props(f'href="{target}"' + (" aria-current=page" if is_here else ""))
    if name:
        with link:
            ui.html(name, tag="span", sanitize=False)
    return link


@final
class _Running:
    """What is at work, with its progress; a link to its page."""

    def __init__(self) -> None:
        self._shown: object = self

    def draw(self) -> None:
        self.link = ui.element("a").classes("cllm-running")
        with self.link:
            with ui.element("div"):
                self.name = self._span("name")
                self.state = self._span("state")
                self.left = self._span("left")
                self.more = self._span("more")
            self.bar = ui.element("span").classes("cllm-running-bar").props("aria-hidden=true")
        self._show(app_state().glance)
        ui.timer(_LOOK_S, self._look)

    def _span(self, part: str) -> ui.html:
        return ui.html("", tag="span", sanitize=escape).classes(f"cllm-running-{part}")

    async def _look(self) -> None:
        glance = await run.io_bound(app_state().look)
        if glance is not None:
            self._show(glance)

    def _show(self, glance: Glance) -> None:
        told = running(glance)
        if told == self._shown:
            return
        self._shown = told
        self.link.set_visibility(told is not None)
        if told is None:
            return
        # Where there is little room the name is cut, never how far it is.
        self.name.set_content(f"{told.name}:" if told.state else told.name)
        self.state.set_content(f" {told.state}" if told.state else "")
        self.left.set_content(told.left)
        self.more.set_content(f" +{told.num_more}" if told.num_more else "")
        self.link.props["href"] = told.path
        self.link.props["title"] = told.words
        self.link.update()
        self.bar.style(f"--share: {told.progress or 0:.3f}")
        is_unknown = told.progress is None
        self.bar.classes(add="is-unknown" if is_unknown else "", remove="is-unknown")


@dataclass(frozen=True, slots=True)
class InHand:
    """What the header says of work in hand; `progress` is 0..1, None where nobody knows.

    `num_more` counts what else is at work.
    """

    name: str
    state: str
    left: str
    path: str
    progress: float | None
    num_more: int

    @property
    def words(self) -> str:
        """All of it in one line."""
        state = f": {self.state}{self.left}" if self.state else ""
        more = f"; {self.num_more} more at work" if self.num_more else ""
        return self.name + state + more


def running(glance: Glance) -> InHand | None:
    """The work that the header tells of: the training, or else what began last."""
    status, num = glance.training, len(glance.activities)
    if status is not None:
        state, left = f"{status.progress:.0%}", ""
        progress: float | None = status.progress
        if status.state == "paused":
            state = "paused"
        elif status.step is None:
            state = "reading text" if status.state == "preparing" else "starting"
            progress = None
        elif status.remaining_s is not None:
            left = f", {clock(status.remaining_s)} left"
        return InHand(status.model, state, left, "/training", progress, num)
    if glance.activities:
        work = glance.activities[-1]
        state = "" if work.progress is None else f"{work.progress:.0%}"
        return InHand(work.label, state, "", work.path, work.progress, num - 1)
    return None


@final
class _Switcher:
    """The model in use with its size and state; a menu of all to change it."""

    def __init__(self) -> None:
        self._shown: tuple[object, ...] | None = None

    def draw(self) -> None:
        self.button = ui.button().props("flat no-caps no-wrap").classes("cllm-switcher")
        with self.button:
            self.dot = ui.element("span").classes("cllm-dot").props("aria-hidden=true")
            with ui.element("span").classes("cllm-switcher-text"):
                self.name = ui.html("", tag="span", sanitize=escape).classes("cllm-switcher-name")
                self.note = ui.html("", tag="span", sanitize=escape).classes("cllm-switcher-note")
            ui.icon("expand_more").classes("cllm-soft")
            self.menu = ui.menu().props('auto-close anchor="bottom right" self="top right"')
            self.menu.classes("cllm-menu")
        self.button.props("aria-haspopup=menu")
        self._show(app_state().glance)
        ui.timer(_LOOK_S, lambda: self._show(app_state().glance))

    def _show(self, glance: Glance) -> None:
        names = tuple((card.name, card.num_bytes) for card in glance.models)
        now = (glance.model, glance.loading, glance.problem, names)
        if now == self._shown:
            return
        self._shown = now
        card = glance.card
        name = "No model yet" if card is None else card.name
        note = "" if card is None else f"{size(card.num_bytes)} · {_STATES[glance.loading]}"
        self.name.set_content(name)
        self.note.set_content(note)
        self.dot.props["data-state"] = "none" if card is None else glance.loading
        self.dot.update()
        self.button.props["aria-label"] = f"Model in use: {name}, {note}. Change it"
        self.button.update()
        self._fill(glance)

    def _fill(self, glance: Glance) -> None:
        self.menu.clear()
        with self.menu:
            if glance.problem and glance.loading == "failed":
                ui.label(glance.problem).classes("cllm-menu-note")
            for card in glance.models[:40]:
                item = menu_entry("", lambda name=card.name: use(name))
                with item, ui.element("span").classes("cllm-menu-row"):
                    with ui.element("span").classes("cllm-menu-mark"):
                        if card.name == glance.model:
                            ui.icon("check")
                    ui.label(card.name).classes("grow")
                    ui.label(size(card.num_bytes)).classes("cllm-hint cllm-num")
            ui.separator()
            menu_entry("All models", lambda: ui.navigate.to("/models"))
            menu_entry("Make a new one", lambda: ui.navigate.to("/training"))


async def use(name: str) -> None:
    """Load a model and use it from now on; pages that depend on it are drawn anew."""
    from cllm.web.layout import notify_error

    # What was pressed may be drawn anew by then.
    with ui.context.client.content:
        try:
            await run.io_bound(app_state().use, name)
        except CllmError as error:
            notify_error(error)
            return
        ui.notify(f"{name} is in use.", position="bottom")
        ui.run_javascript(f'emitEvent("cllm-model", {name!r})')


@final
class _ThemeSwitch:
    """As the system, light or dark: one button that goes round."""

    def __init__(self, theme: Theme) -> None:
        self._theme = theme

    def draw(self) -> None:
        self.dark = ui.dark_mode({"system": None, "light": False, "dark": True}[self._theme])
        self.button = ui.button(on_click=self._next).props("flat round dense").classes("cllm-theme")
        self._show()

    async def _next(self) -> None:
        self._theme = _THEMES[self._theme][0]
        self._show()
        self.dark.set_value({"system": None, "light": False, "dark": True}[self._theme])
        ui.run_javascript(f"cllmTheme('{self._theme}')")
        await run.io_bound(app_state().write_theme, self._theme)

    def _show(self) -> None:
        _, icon, label = _THEMES[self._theme]
        self.button.props["icon"] = icon
        self.button.props["aria-label"] = self.button.props["title"] = label
        self.button.update()
