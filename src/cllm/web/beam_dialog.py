"""The likeliest ways on from a text, as a tree, to choose one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
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

# The names of tokens lie on one line each in the picture of the tree.
_ROW_PIXELS, _LEAST_PIXELS, _STEP_PIXELS = 26, 260, 92


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
            ui.button("Search", on_click=self._search).props("flat no-caps")

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
            if not self._dialog.is_deleted:
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
        options = tree_options(result)
        with (
            ui.element("div")
            .classes("cllm-beam-tree")
            .props('tabindex="0" role="region" aria-label="Tree of tokens"')
        ):
            width, height = tree_size(result)
            chart = ui.echart(options, renderer="svg")
            chart.style(f"width:{width}px; min-width:100%; height:{height}px")
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


def tree_size(result: BeamResult) -> tuple[int, int]:
    """Width and height of the picture in pixels."""
    depths = _depths(result)
    parents = {node.parent for node in result.nodes}
    leaves = sum(place not in parents for place in range(len(result.nodes)))
    height = max(_LEAST_PIXELS, leaves * _ROW_PIXELS + 40)
    return (max(depths, default=1) + 2) * _STEP_PIXELS, height


def _depths(result: BeamResult) -> list[int]:
    """The depth of each node; a node comes after its parent."""
    depths: list[int] = []
    for node in result.nodes:
        depths.append(1 if node.parent is None else depths[node.parent] + 1)
    return depths


def tree_options(result: BeamResult) -> dict[str, Any]:
    """The tree as ECharts draws it; the way to the best text stands out."""
    best = set()
    node = result.samples[0].node if result.samples else None
    while node is not None:
        best.add(node)
        node = result.nodes[node].parent
    items: list[dict[str, Any]] = []
    roots: list[dict[str, Any]] = []
    for place, found in enumerate(result.nodes):
        share = math.exp(found.log_probability)
        item = {
            "name": f"{_visible(found.token)}",
            "value": _percent(share),
            "symbolSize": 5 + 11 * math.sqrt(share),
            "children": [],
        }
        if place in best:
            item["itemStyle"] = {"color": "#c0492f", "borderColor": "#c0492f"}
            item["lineStyle"] = {"color": "#c0492f", "width": 2}
        items.append(item)
        (roots if found.parent is None else items[found.parent]["children"]).append(item)
    series = {
        "type": "tree",
        "data": [{"name": "…", "children": roots}],
        "left": 30,
        "right": 90,
        "top": 10,
        "bottom": 10,
        "orient": "LR",
        "symbol": "circle",
        "roam": False,
        "initialTreeDepth": -1,
        "expandAndCollapse": False,
        "animationDuration": 250,
        "itemStyle": {"color": "#5d7f91", "borderWidth": 0},
        "lineStyle": {"color": "#8d94a3", "width": 1, "curveness": 0.5},
        "label": {
            "position": "top",
            "distance": 4,
            "fontSize": 12,
            "color": "inherit",
            "fontFamily": "Georgia, serif",
        },
    }
    return {"tooltip": {"formatter": "{b}  {c}", "confine": True}, "series": [series]}


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")[:16]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}" if share >= 0.0005 else "<0.1%"
