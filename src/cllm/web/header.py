"""The header of every page: where one is, the model in use, and what is running."""

from __future__ import annotations

from html import escape
from typing import final

from nicegui import run, ui

from cllm.errors import CllmError
from cllm.quantities import clock, size
from cllm.server.refusal_page import MARK
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
                self.label = ui.html("", tag="span", sanitize=escape)
                self.left = ui.html("", tag="span", sanitize=escape).classes("cllm-running-left")
            self.bar = ui.element("span").classes("cllm-running-bar").props("aria-hidden=true")
        self._show(app_state().glance)
        ui.timer(_LOOK_S, self._look)

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
        words, left, path, progress = told
        self.label.set_content(words)
        self.left.set_content(left)
        self.link.props["href"] = path
        self.link.update()
        share = "1" if progress is None else f"{progress:.3f}"
        self.bar.style(f"--share: {share}")
        self.bar.classes(add="is-unknown" if progress is None else "", remove="is-unknown")


def running(glance: Glance) -> tuple[str, str, str, float | None] | None:
    """What the header says of work in hand: words, time left, its page, progress 0..1."""
    status = glance.training
    if status is not None:
        name, path = status.model, "/training"
        if status.state == "paused":
            return f"{name}: paused", "", path, status.progress
        if status.step is None:
            doing = "reading text" if status.state == "preparing" else "starting"
            return f"{name}: {doing}", "", path, None
        left = "" if status.remaining_s is None else f", {clock(status.remaining_s)} left"
        return f"{name}: {status.progress:.0%}", left, path, status.progress
    if glance.activities:
        work = glance.activities[-1]
        more = "" if work.progress is None else f": {work.progress:.0%}"
        return work.label + more, "", work.path, work.progress
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
            self.menu = ui.menu().props("auto-close").classes("cllm-menu")
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
                item = ui.menu_item(on_click=lambda name=card.name: use(name))
                with item, ui.element("span").classes("cllm-menu-row"):
                    with ui.element("span").classes("cllm-menu-mark"):
                        if card.name == glance.model:
                            ui.icon("check")
                    ui.label(card.name).classes("grow")
                    ui.label(size(card.num_bytes)).classes("cllm-hint cllm-num")
            ui.separator()
            ui.menu_item("All models", lambda: ui.navigate.to("/models"))
            ui.menu_item("Make a new one", lambda: ui.navigate.to("/training"))


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
