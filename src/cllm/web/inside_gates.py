"""What the gates of a model's mechanisms learned."""

from __future__ import annotations

import asyncio
from typing import Any, final

from nicegui import ui

from cllm.errors import CllmError
from cllm.jobs.gates import Gate, LearnedMechanism, learned_gates
from cllm.web.layout import Loading, empty, section
from cllm.web.missing_model import model_error
from cllm.web.theme import chart
from cllm.workspace.workspace import Workspace


@final
class GatesView:
    """The mechanisms of a model, and how far each of their arrays went from where it began."""

    def __init__(self, workspace: Workspace, model: str) -> None:
        self._workspace, self._model = workspace, model

    def build(self) -> None:
        """Draw the place; `load` fills it."""
        self._place = ui.element("div").classes("cllm-stack")

    async def load(self) -> None:
        """Read the weights and show them."""
        self._place.clear()
        with self._place:
            Loading("Reading its weights …")
        try:
            found = await asyncio.to_thread(learned_gates, self._workspace, self._model)
        except CllmError as error:
            self._place.clear()
            with self._place:
                model_error(error)
            return
        self._place.clear()
        with self._place:
            if not found:
                empty(
                    "No gates",
                    f"{self._model} is a plain model now: it was trained as one, or what its "
                    "mechanisms learned was worked into its weights when it was saved.",
                    icon="tune",
                )
            for mechanism in found:
                self._mechanism(mechanism)

    def _mechanism(self, mechanism: LearnedMechanism) -> None:
        with section(mechanism.name, mechanism.title):
            if not mechanism.gates:
                ui.label("It learns nothing of its own.").classes("cllm-hint")
            with ui.element("div").classes("cllm-cards"):
                for gate in mechanism.gates:
                    with ui.element("div").classes("cllm-card"):
                        ui.label(gate.name).classes("cllm-family")
                        ui.label(told(gate)).classes("cllm-hint")
                        chart(
                            gate_options(gate),
                            label=f"{mechanism.name} {gate.name}",
                            height="12rem",
                        )


def told(gate: Gate) -> str:
    """What the picture shows, in words."""
    shape = " × ".join(f"{length:,}" for length in gate.shape)
    began = "at random" if gate.begin is None else f"at {gate.begin:g}"
    shown = "size of each row's change" if gate.is_rows else "each number"
    if gate.is_rows and gate.begin is None:
        shown = "size of each row"
    return f"{shape} a layer, began {began}; shown: {shown} (mean change {gate.change:.3g})"


def gate_options(gate: Gate) -> dict[str, Any]:
    """Bars of each layer's numbers."""
    count = max(len(row) for row in gate.values)
    series = [
        {"type": "bar", "name": f"layer {k}", "data": [round(v, 5) for v in row], "barMaxWidth": 18}
        for k, row in enumerate(gate.values, 1)
    ]
    if len(series) == 1:
        series[0]["name"] = gate.name
    return {
        "xAxis": {"type": "category", "data": [str(k) for k in range(1, count + 1)]},
        "yAxis": {"scale": False},
        "legend": {"show": len(series) > 1},
        "aria": {"enabled": False},
        "series": series,
    }
