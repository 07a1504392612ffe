"""How a model reads a text: surprise, attention, what each layer would say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, final

from nicegui import ui

from cllm.errors import CllmError
from cllm.web.layout import Loading
from cllm.web.missing_model import model_error
from cllm.web.state import OpensModels
from cllm.web.theme import DARK, LIGHT, Palette

if TYPE_CHECKING:
    from cllm.jobs.inspect import Inspection

FIRST_TEXT = "The old man went down to the river, and the river was not there."

# The page of an inspection stands in a frame; it follows the app's theme and grows as it needs.
_FRAME_SCRIPT = """<script>
(() => {
  const outer = parent.document.documentElement, listeners = [];
  const isDark = () => outer.classList.contains("is-dark");
  const paint = () => document.documentElement.className = isDark() ? "is-dark" : "is-light";
  window.matchMedia = () => ({ get matches() { return isDark(); },
    addEventListener: (_, act) => listeners.push(act) });
  new MutationObserver(() => { paint(); listeners.forEach((act) => act()); })
    .observe(outer, { attributes: true, attributeFilter: ["class"] });
  paint();
  addEventListener("DOMContentLoaded", () => {
    const grow = () => frameElement.style.height = `${document.body.scrollHeight + 8}px`;
    new ResizeObserver(grow).observe(document.body);
    grow();
  });
})();
</script>"""
_FRAME_STYLE = "body{padding:.25rem 0 1rem;max-width:none}header h1,header .kicker{display:none}"


@final
class ReadingView:
    """A text, and what the model makes of it; `found` is what was read last."""

    def __init__(
        self, writers: OpensModels, model: str, on_found: Callable[[], None], *, text: str
    ) -> None:
        self.found: Inspection | None = None
        self.text, self.window = text, 1
        self._writers, self._model, self._on_found = writers, model, on_found

    def build(self) -> None:
        """Draw the text field and the place of what comes of it."""
        with ui.element("div").classes("cllm-ask"):
            field = ui.textarea("A text for the model to read").bind_value(self, "text")
            field.props("outlined autogrow").classes("grow")
            ui.button("Read", on_click=self.read).props("unelevated no-caps")
        self._place = ui.element("div").classes("cllm-reading")

    async def read(self, _: object = None, *, window: int = 1) -> None:
        """Let the model read the text; of two readings the later one is shown."""
        self.window = window
        self._place.clear()
        with self._place:
            loading = Loading(f"{self._model} is reading …")
        try:
            found, notice = await asyncio.to_thread(self._inspect, self.text, window)
        except CllmError as error:
            if not loading.is_deleted:
                self.found = None
                self._place.clear()
                with self._place:
                    model_error(error)
            return
        # It was asked again, or the page shows another model by now.
        if loading.is_deleted:
            return
        self.found = found
        self._show(found, notice)
        self._on_found()

    def _inspect(self, text: str, window: int) -> tuple[Inspection, str | None]:
        with self._writers.using(self._model) as writer:
            return writer.inspect(text, window=window), writer.notice

    def _show(self, found: Inspection, notice: str | None) -> None:
        self._place.clear()
        with self._place:
            if notice:
                ui.label(notice).classes("cllm-hint")
            with ui.element("div").classes("cllm-flow"):
                if found.num_windows > 1:
                    ui.label("Part of the text that is laid open").classes("cllm-hint")
                    pages = ui.pagination(1, found.num_windows, value=found.window_number)
                    pages.on_value_change(lambda event: self.read(window=event.value))
                save = ui.button("Save as a page", icon="download", on_click=self._save)
                save.props("flat no-caps dense")
            frame = ui.element("iframe").classes("cllm-inspection")
            frame.props["title"] = f"How {found.model} reads the text"
            frame.props["srcdoc"] = framed(found)

    def _save(self) -> None:
        from cllm.jobs.inspect_page import page

        if self.found is not None:
            ui.download.content(page(self.found), f"{self._model}-inside.html")


def framed(found: Inspection) -> str:
    """The page of an inspection, dressed to stand inside one of the app's."""
    from cllm.jobs.inspect_page import page

    dress = f"<style>{_FRAME_STYLE}{_colours(LIGHT, 'light')}{_colours(DARK, 'dark')}</style>"
    return page(found).replace("</head>", f"{dress}{_FRAME_SCRIPT}</head>", 1)


def _colours(look: Palette, name: str) -> str:
    names = ("paper", "card", "ink", "soft", "line", "accent", "loud")
    told = "".join(f"--{key}:{getattr(look, key)};" for key in names)
    serif = '--serif:"Iowan Old Style","Palatino Linotype",Palatino,"Book Antiqua","P052",'
    serif += '"URW Palladio L","Source Serif 4",Georgia,"DejaVu Serif",serif;'
    most = "58%" if name == "dark" else "62%"
    return f":root.is-{name}{{{told}{serif}--most:{most};color-scheme:{name}}}"
