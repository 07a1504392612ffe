"""Ulam's and the golden spiral over a vocabulary, coloured by what the model knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import numpy as np
from nicegui import background_tasks, ui

from cllm.errors import CllmError
from cllm.jobs import number_pictures
from cllm.jobs.knowledge import Colour, KnownSpiral, Spiral, known_spiral
from cllm.web.layout import Loading
from cllm.web.missing_model import model_error
from cllm.web.theme import chart, is_dark, on_dark_change, palette
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.jobs.inspect import Inspection

_NOTES: dict[Colour, str] = {
    "expected": "Quiet tokens the model expects often in the text; loud ones hardly ever.",
    "surprise": "Loud tokens surprised the model where the text has them; others are only there.",
}


@final
class SpiralsView:
    """A spiral of tokens; `found` gives the text that was read last."""

    def __init__(self, workspace: Workspace, found: Callable[[], Inspection | None]) -> None:
        self._workspace, self._found = workspace, found
        self._spiral: Spiral = "golden"
        self._colour: Colour = "expected"
        self._has_others = True

    def build(self) -> None:
        """Draw the controls and the place of the spiral."""
        with ui.element("div").classes("cllm-flow cllm-choices"):
            self._choice({"golden": "Golden spiral", "ulam": "Ulam’s spiral"}, "_spiral", "Spiral")
            self._choice(
                {"expected": "Expected anywhere", "surprise": "Surprise where it is"},
                "_colour",
                "Coloured by",
            )
            switch = ui.switch("Composite numbers, too", value=True)
            switch.on_value_change(lambda event: self._set("_has_others", event.value))
        self._place = ui.element("div").classes("cllm-spiral")
        self._dark = is_dark()
        on_dark_change(self._turn)

    def _choice(self, options: dict[str, str], name: str, label: str) -> None:
        toggle = ui.toggle(options, value=getattr(self, name))
        toggle.props(f'no-caps unelevated aria-label="{label}"').classes("cllm-toggle")
        toggle.on_value_change(lambda event: self._set(name, event.value))

    def _turn(self, dark: bool) -> None:
        self._dark = dark
        background_tasks.create(self.draw())

    async def _set(self, name: str, value: Any) -> None:
        setattr(self, name, value)
        await self.draw()

    async def draw(self) -> None:
        """Draw the spiral of the text that was read last."""
        found = self._found()
        self._place.clear()
        if found is None:
            with self._place:
                ui.label("Let the model read a text first.").classes("cllm-soft")
            return
        with self._place:
            loading = Loading("Winding …")
        try:
            known = await asyncio.to_thread(
                known_spiral, self._workspace, found, spiral=self._spiral, colour=self._colour
            )
        except CllmError as error:
            if not loading.is_deleted:
                self._place.clear()
                with self._place:
                    model_error(error)
            return
        # Another one was asked for, or the page shows another model by now.
        if loading.is_deleted:
            return
        self._place.clear()
        with self._place:
            drawn = chart(
                options(known, has_others=self._has_others, dark=self._dark),
                label=f"{self._spiral} spiral of {len(known.names):,} tokens",
                height="min(80vh, 46rem)",
            )
            drawn.classes("cllm-square")
            numbered = "by frequency" if known.is_by_frequency else "in the vocabulary's order"
            told = (
                f"Token number n, {numbered}, stands on the spiral's n-th place; the large dots "
                f"are those with prime numbers. {_NOTES[self._colour]}"
            )
            ui.label(told).classes("cllm-hint")


def options(known: KnownSpiral, *, has_others: bool, dark: bool) -> dict[str, Any]:
    """The spiral as ECharts draws it: a point a token, its name and bits where one points."""
    look = palette(dark)
    # The colours of the posters: from quiet to loud.
    ramp = (number_pictures.DARK if dark else number_pictures.LIGHT).colours
    is_known = np.isfinite(known.bits)
    highest = max(float(np.max(known.bits, initial=1.0, where=is_known)), 1.0)
    half = float(np.abs(known.places).max(initial=0.5)) * 1.02
    shown = np.flatnonzero(known.is_prime | has_others)
    size = float(np.clip(420 / max(np.sqrt(len(known.names)), 1), 3, 22))
    points = [_point(known, int(n), size, look.line) for n in shown]
    axis = {"show": False, "min": -half, "max": half}
    scale = {
        "type": "continuous",
        "min": 0,
        "max": highest,
        "dimension": 2,
        "seriesIndex": 0,
        "inRange": {"color": list(ramp)},
        "text": [f"{highest:.0f} bits", "0"],
        "orient": "horizontal",
        "left": "center",
        "bottom": 0,
        "itemHeight": 160,
        "itemWidth": 8,
        "textStyle": {"color": look.soft},
    }
    return {
        "xAxis": axis,
        "yAxis": axis,
        "grid": {"left": 24, "right": 24, "top": 4, "bottom": 44, "containLabel": False},
        "tooltip": {"trigger": "item", "formatter": "{b}"},
        "visualMap": scale,
        # The chart's own description would stand in the place of its label.
        "aria": {"enabled": False},
        "animation": False,
        "series": [{"type": "scatter", "data": points, "large": False}],
    }


def _point(known: KnownSpiral, n: int, size: float, quiet: str) -> dict[str, Any]:
    bits = float(known.bits[n])
    name = known.names[n].replace("\n", "⏎").replace(" ", "␣")
    x, y = known.places[n]
    point: dict[str, Any] = {
        "name": f"{n + 1:,}: {name}" + (f", {bits:.1f} bits" if np.isfinite(bits) else ""),
        "value": [round(float(x), 4), round(float(y), 4), round(bits, 3)],
        "symbolSize": size if known.is_prime[n] else size * 0.45,
    }
    if not np.isfinite(bits):
        point["value"][2] = None
        point["visualMap"] = False
        point["itemStyle"] = {"color": quiet}
    return point
