"""The likeliest ways on from a text, as a tree, to choose one."""

from __future__ import annotations

import asyncio
import math
import unicodedata
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, final

from nicegui import background_tasks, ui

from cllm.errors import CllmError
from cllm.web.layout import error_card
from cllm.web.state import app_state
from cllm.web.writers import settings_of
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.config import GenerateSettings
    from cllm.jobs.beam import BeamResult, BeamSettings, BeamText

# The picture of the tree: each token is a box of two lines, the columns lie a gap apart.
_ROW_PIXELS, _BOX_PIXELS, _LEAST_PIXELS, _GAP_PIXELS, _EDGE_PIXELS = 40, 32, 34, 26, 12
# Smaller than this, its words could no longer be read.
_SMALLEST = 0.85


@final
class BeamDialog:
    """Follows several texts at once and shows what it found; `ask` returns the chosen one."""

    def __init__(
        self, workspace: Workspace, model: str, text: str, settings: Mapping[str, Any]
    ) -> None:
        self._workspace, self._model, self._text = workspace, model, text
        self._settings = settings
        self._beams, self._tokens, self._groups = 4, 12, 1
        self._result: BeamResult | None = None
        self._problem: CllmError | None = None
        self._is_busy = False

    async def ask(self) -> str | None:
        """The text that the person chose to go on with, None for none."""
        with ui.dialog() as self._dialog, ui.card().classes("cllm-dialog is-wide"):
            self._dialog.props["aria-label"] = "Likeliest ways on"
            with ui.row().classes("w-full items-center no-wrap"):
                ui.label("Likeliest ways on").classes("cllm-dialog-title")
                ui.space()
                close = ui.button(icon="close", on_click=self._dialog.close)
                close.props("flat dense round")
                close.props["aria-label"] = "Close"
            ui.label(
                "Beam search follows several texts at once and keeps those that are likeliest as "
                "a whole. Each branch shows how likely a token was after the one before it."
            ).classes("cllm-help")
            self._controls()
            self._found()
        # It may be closed while it searches.
        background_tasks.create(self._search())
        chosen = await self._dialog
        if not self._dialog.is_deleted:
            self._dialog.delete()
        return None if chosen is None else str(chosen)

    def _controls(self) -> None:
        with ui.row().classes("cllm-beam-controls items-center"):
            for label, name, options in (
                ("Texts", "_beams", [2, 4, 6, 8]),
                ("Tokens", "_tokens", [6, 12, 24, 48]),
                ("Groups", "_groups", [1, 2]),
            ):
                choice = ui.select(options, label=label).bind_value(self, name)
                choice.props("dense outlined options-dense").classes("cllm-beam-choice")
            ui.button("Search", on_click=self._search).props("outline no-caps")

    async def _search(self) -> None:
        if self._is_busy:
            return
        from cllm.jobs.beam import BeamSettings

        self._is_busy, self._problem, self._result = True, None, None
        self._found.refresh()
        try:
            settings = settings_of(self._settings).model_copy(update={"stop": ()})
            wanted = BeamSettings(beams=self._beams, groups=self._groups, max_tokens=self._tokens)
            self._result = await asyncio.to_thread(self._find, settings, wanted)
        except CllmError as error:
            self._problem = error
        finally:
            self._is_busy = False
            # Nothing is drawn into a dialog that is being closed.
            if self._dialog.value and not self._dialog.is_deleted:
                self._found.refresh()

    def _find(self, settings: GenerateSettings, wanted: BeamSettings) -> BeamResult:
        with app_state().writers.using(self._model) as writer:
            home = self._workspace.home
            found: BeamResult = writer.find_beams(self._text, settings, wanted, home=home)
        return found

    @ui.refreshable_method
    def _found(self) -> None:
        if self._is_busy:
            with ui.row().classes("cllm-wait items-center"):
                ui.spinner(size="1.4em")
                ui.label("Following…").classes("cllm-soft")
            return
        if self._problem is not None:
            error_card(self._problem)
        result = self._result
        if result is None:
            return
        tree = ui.html(tree_picture(result), sanitize=False).classes("cllm-beam-tree")
        tree.props('tabindex="0" role="region" aria-label="Tree of tokens"')
        with ui.element("ol").classes("cllm-beam-texts"):
            for sample in result.samples:
                with ui.element("li"):
                    self._text_row(sample)

    def _text_row(self, sample: BeamText) -> None:
        with ui.element("button").classes("cllm-beam-text") as button:
            ui.label(sample.text).classes("cllm-text")
            share = math.exp(sample.log_probability)
            # Adding 0 makes no minus of what rounds to nothing.
            score = round(sample.score, 2) + 0.0
            ui.label(f"{_percent(share)} · score {score:.2f}").classes("cllm-figures")
        button.props('type="button"').on("click", lambda: self._dialog.submit(sample.text))


def tree_picture(result: BeamResult) -> str:
    """The tree as SVG: the way to the best text stands out and runs straight along the top."""
    best, depths = _best(result), _depths(result)
    rows = _rows(result, best)
    names = [_visible(node.token) for node in result.nodes]
    widths = [_width(name) for name in names]
    # Each column is as wide as the widest of its tokens; the first holds the beginning.
    columns = [_width("…")] + [0] * max(depths, default=0)
    for depth, wide in zip(depths, widths, strict=True):
        columns[depth] = max(columns[depth], wide)
    lefts = [_EDGE_PIXELS]
    for wide in columns:
        lefts.append(lefts[-1] + wide + _GAP_PIXELS)
    parts = [_box("…", "", (_EDGE_PIXELS, 0, columns[0]), is_best=True)]
    # The best come last: their lines lie above the others.
    for place in sorted(range(len(names)), key=lambda place: place in best):
        node, left, is_best = result.nodes[place], lefts[depths[place]], place in best
        share = math.exp(node.log_probability)
        before, row = (
            (columns[0], 0) if node.parent is None else (widths[node.parent], rows[node.parent])
        )
        start = (lefts[depths[place] - 1] + before, row)
        parts.append(_line(start, (left, rows[place]), share, is_best=is_best))
        spot = (left, rows[place], widths[place])
        parts.append(_box(names[place], _percent(share), spot, is_best=is_best))
    width = lefts[-1] - _GAP_PIXELS + _EDGE_PIXELS
    height = (max(rows, default=0) + 1) * _ROW_PIXELS + 2 * _EDGE_PIXELS
    # A little too wide, it is drawn smaller; much too wide, it scrolls.
    fit = f"width:100%;min-width:{round(width * _SMALLEST)}px;max-width:{width}px"
    head = f'<svg viewBox="0 0 {width} {height}" style="{fit}" role="img" aria-label="Tokens">'
    return "".join([head, *parts, "</svg>"])


def _box(name: str, share: str, spot: tuple[int, int, int], *, is_best: bool) -> str:
    """A token and how likely it was; `spot` is its left, its row and its width."""
    left, row, width = spot
    top, middle = _EDGE_PIXELS + row * _ROW_PIXELS, left + width / 2
    texts = f'<text x="{middle}" y="{top + 15}">{escape(name)}</text>'
    texts += f'<text class="is-share" x="{middle}" y="{top + 27}">{escape(share)}</text>'
    box = f'<rect x="{left}" y="{top}" width="{width}" height="{_BOX_PIXELS}" rx="6"/>'
    return f'<g class="{"is-best" if is_best else ""}">{box}{texts}</g>'


def _line(start: tuple[int, int], end: tuple[int, int], share: float, *, is_best: bool) -> str:
    """From a token to one that came after it; the likelier, the thicker."""
    (x, row), (to_x, to_row) = start, end
    y, to_y = (_EDGE_PIXELS + at * _ROW_PIXELS + _BOX_PIXELS / 2 for at in (row, to_row))
    # Level as far as the gap between the columns: it runs behind no other token.
    gap, half = to_x - _GAP_PIXELS, to_x - _GAP_PIXELS / 2
    path = f"M{x} {y}H{gap}C{half} {y} {half} {to_y} {to_x} {to_y}"
    kind = ' class="is-best"' if is_best else ""
    return f'<path{kind} d="{path}" stroke-width="{1 + 2 * math.sqrt(share):.1f}"/>'


def _best(result: BeamResult) -> set[int]:
    """The places of the best text's tokens."""
    best: set[int] = set()
    node = result.samples[0].node if result.samples else None
    while node is not None:
        best.add(node)
        node = result.nodes[node].parent
    return best


def _depths(result: BeamResult) -> list[int]:
    """The depth of each node; a node comes after its parent."""
    depths: list[int] = []
    for node in result.nodes:
        depths.append(1 if node.parent is None else depths[node.parent] + 1)
    return depths


def _rows(result: BeamResult, best: set[int]) -> list[int]:
    """The row of each node: a first child stands level with its parent; the best is first."""
    children: dict[int | None, list[int]] = {}
    for place, node in reversed(list(enumerate(result.nodes))):
        children.setdefault(node.parent, []).append(place)
    rows, free = [0] * len(result.nodes), 0
    waiting = sorted(children.get(None, ()), key=lambda place: place in best)
    while waiting:
        place = waiting.pop()
        rows[place] = free
        below = sorted(children.get(place, ()), key=lambda place: place in best)
        waiting += below
        free += not below
    return rows


def _width(name: str) -> int:
    """About how wide a token is drawn, in pixels; East Asian characters take twice the room."""
    num = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in name)
    return max(_LEAST_PIXELS, 8 * num + 12)


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")[:16]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}" if share >= 0.0005 else "<0.1%"
