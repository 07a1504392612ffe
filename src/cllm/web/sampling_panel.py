"""The controls of how a text is written: presets, and every setting with what it does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from nicegui import background_tasks, ui

from cllm.config import GenerateSettings
from cllm.web.layout import telling

if TYPE_CHECKING:
    from cllm.workspace.conversations import Conversation, ConversationStore, Mode


@dataclass(frozen=True, slots=True)
class Control:
    """A setting on a slider; `off` is the end of the scale that leaves it out."""

    name: str
    label: str
    help: str
    low: float
    high: float
    step: float
    off: float | None = None


CONTROLS = (
    Control(
        "temperature",
        "Temperature",
        "How daring it is. 0 always takes the likeliest token, 1 draws as the model learned, "
        "more makes rare words likelier.",
        0.0,
        2.0,
        0.05,
    ),
    Control(
        "max_tokens",
        "Length",
        "At most this many tokens; a token is a word or a part of one.",
        8.0,
        1024.0,
        8.0,
    ),
    Control(
        "top_p",
        "Top p",
        "Only the likeliest tokens that together have this much of the probability.",
        0.05,
        1.0,
        0.05,
        off=1.0,
    ),
    Control(
        "min_p",
        "Min p",
        "Leaves out tokens that are less likely than this share of the likeliest one.",
        0.0,
        0.5,
        0.01,
        off=0.0,
    ),
)
MORE_CONTROLS = (
    Control("top_k", "Top k", "Only this many of the likeliest tokens.", 0.0, 200.0, 1.0, off=0.0),
    Control(
        "typical_p",
        "Typical p",
        "Only tokens about as surprising as the model expects, together this probable.",
        0.05,
        1.0,
        0.05,
        off=1.0,
    ),
    Control(
        "repetition_penalty",
        "Repetition penalty",
        "Above 1, tokens that occurred already become less likely. 1 does nothing.",
        0.8,
        2.0,
        0.05,
    ),
    Control(
        "frequency_penalty",
        "Frequency penalty",
        "Taken off a token's score each time it occurred. 0 does nothing.",
        -2.0,
        2.0,
        0.1,
    ),
    Control(
        "presence_penalty",
        "Presence penalty",
        "Taken off once from the score of each token that occurred: towards new words.",
        -2.0,
        2.0,
        0.1,
    ),
)
PRESETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "Exact": ("always the likeliest token", {"temperature": 0.0}),
    "Careful": ("stays close to what it knows", {"temperature": 0.5, "top_p": 0.9}),
    "Balanced": ("as it is by default", {"temperature": 0.8}),
    "Daring": ("unlikely words, but no nonsense", {"temperature": 1.2, "min_p": 0.06}),
}
_CHOOSING = (
    "temperature",
    "top_p",
    "min_p",
    "top_k",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
)


@final
class KeptSettings:
    """The settings of one conversation, or of a new one: the newest is what stays.

    `values` holds GenerateSettings' names where they differ from the defaults, and `new_seed`
    (draw another seed each time) and `shades` (keep every token's probability).
    """

    def __init__(
        self,
        store: ConversationStore,
        conversation: str | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.values: dict[str, Any] = dict(values or {})
        self._store, self._conversation = store, conversation
        # Two threads might write in another order than that of the changes.
        self._one_at_a_time = asyncio.Lock()

    async def keep(self, values: Mapping[str, Any]) -> None:
        """Change them, and keep what they are by then. Raises: NotFoundError, StorageError."""
        self.values = dict(values)
        async with self._one_at_a_time:
            if self._conversation is not None:
                await asyncio.to_thread(
                    self._store.change, self._conversation, settings=self.values
                )

    async def create(self, model: str | None, mode: Mode) -> Conversation:
        """A conversation with them; what is changed later is kept in it. Raises: StorageError."""
        async with self._one_at_a_time:
            made = await asyncio.to_thread(
                self._store.create, model=model, mode=mode, settings=self.values
            )
            self._conversation = made.id
        return made


@final
class SamplingPanel:
    """The controls over the settings of a conversation."""

    def __init__(self, settings: KeptSettings) -> None:
        self.values: dict[str, Any] = dict(settings.values)
        self._settings = settings
        self._client = ui.context.client
        self._buttons: dict[str, ui.button] = {}
        self._sliders: dict[Control, ui.slider] = {}
        self._body()
        self._mark_preset()

    def _body(self) -> None:
        with ui.column().classes("cllm-panel w-full"):
            self._presets()
            for control in CONTROLS:
                self._slider(control)
            self._seed()
            self._switch(
                "shades",
                "Shade by surprise",
                "Colours each token by how little the model expected it. Point at one to see "
                "what else might have come.",
                is_on=True,
            )
            with ui.expansion("More controls").classes("cllm-more w-full"):
                for control in MORE_CONTROLS:
                    self._slider(control)
                self._lines("stop", "Stop at", "One of these strings ends the text, one a line.")
                self._lines(
                    "logit_bias",
                    "Bias",
                    "TOKEN=NUMBER adds to a token's score, one a line; -inf forbids it.",
                )

    def _presets(self) -> None:
        with ui.row().classes("cllm-presets").props('role=group aria-label="Presets"'):
            for name, (told, settings) in PRESETS.items():
                button = ui.button(name, on_click=lambda _, s=settings: self._use(s))
                button.props("flat no-caps dense").classes("cllm-preset").tooltip(told)
                self._buttons[name] = button

    def _mark_preset(self) -> None:
        """Show which preset the settings are."""
        for name, (_, settings) in PRESETS.items():
            is_on = self._is_preset(settings)
            button = self._buttons[name].classes(
                add="is-on" if is_on else "", remove="" if is_on else "is-on"
            )
            button.props(f"aria-pressed={str(is_on).lower()}")

    def _is_preset(self, settings: Mapping[str, Any]) -> bool:
        return all(self._value(name) == self._of(settings, name) for name in _CHOOSING)

    def _of(self, settings: Mapping[str, Any], name: str) -> Any:
        return settings.get(name, GenerateSettings.model_fields[name].default)

    def _value(self, name: str) -> Any:
        return self._of(self.values, name)

    def _use(self, settings: Mapping[str, Any]) -> None:
        for name in _CHOOSING:
            self.values.pop(name, None)
        self.values |= settings
        # Set, not drawn anew: the focus and what is open stay.
        for control, slider in self._sliders.items():
            slider.set_value(self._shown_on(control))
        self._changed()

    def _shown_on(self, control: Control) -> float:
        value = self._value(control.name)
        return float(value if value is not None else control.off or 0.0)

    def _slider(self, control: Control) -> None:
        shown = self._shown_on(control)
        with ui.column().classes("cllm-control w-full"):
            with ui.row().classes("cllm-control-head w-full"):
                ui.label(control.label).classes("cllm-control-label")
                reading = ui.label(_reading(control, shown)).classes("cllm-control-value")
            slider = ui.slider(
                min=control.low, max=max(control.high, shown), step=control.step, value=shown
            )
            slider.props(f'aria-label="{control.label}"').classes("w-full")
            slider.on_value_change(lambda event: reading.set_text(_reading(control, event.value)))
            # What comes with the event: the slider's own value follows only some moments later.
            slider.on("change", lambda event: self._set(control, event.args))
            self._sliders[control] = slider
            ui.label(control.help).classes("cllm-help")

    def _set(self, control: Control, value: int | float) -> None:
        is_whole = control.name in ("max_tokens", "top_k")
        number = int(value) if is_whole else round(float(value), 4)
        self._put(control.name, None if number == control.off else number)
        self._changed()

    def _put(self, name: str, value: Any) -> None:
        if value == GenerateSettings.model_fields[name].default:
            self.values.pop(name, None)
        else:
            self.values[name] = value

    def _seed(self) -> None:
        with ui.column().classes("cllm-control w-full"):
            ui.label("Seed").classes("cllm-control-label")
            with ui.row().classes("cllm-seed w-full items-center no-wrap"):
                field = self._seed_field = ui.number(value=self._value("seed"), min=0, precision=0)
                field.props('dense outlined aria-label="Seed"').classes("grow")
                field.on("change", lambda: self._change_seed(field.value))
                dice = ui.button(icon="casino", on_click=self._roll)
                dice.props('flat dense aria-label="Draw a seed"').tooltip("Draw a seed")
            ui.label("The same seed, text and settings give the same words.").classes("cllm-help")
        self._new_seed = self._switch(
            "new_seed",
            "Another seed each time",
            "Each text is drawn anew. Off: what you ask for twice comes twice.",
            is_on=True,
        )
        # One that is drawn anew each time cannot be set.
        self._seed_field.bind_enabled_from(
            self._new_seed, "value", backward=lambda is_on: not is_on
        )

    def _change_seed(self, value: int | float | None) -> None:
        self._put("seed", int(value or 0))
        self.values["new_seed"] = False
        self._seed_field.set_value(self._value("seed"))
        self._new_seed.set_value(False)
        self._changed()

    def _roll(self) -> None:
        self._change_seed(random.randrange(1, 1_000_000))

    def _switch(self, name: str, label: str, told: str, *, is_on: bool) -> ui.switch:
        with ui.column().classes("cllm-control w-full"):
            switch = ui.switch(label, value=bool(self.values.get(name, is_on)))
            switch.props("dense").on_value_change(lambda event: self._toggle(name, event.value))
            ui.label(told).classes("cllm-help")
        return switch

    def _toggle(self, name: str, value: bool) -> None:
        if value == self.values.get(name):
            return
        self.values[name] = value
        self._changed()

    def _lines(self, name: str, label: str, told: str) -> None:
        with ui.column().classes("cllm-control w-full"):
            area = ui.textarea(label, value="\n".join(map(_shown, self._value(name))))
            area.props("dense outlined autogrow").classes("w-full")
            area.on("change", lambda: self._set_lines(name, area.value))
            ui.label(told).classes("cllm-help")

    def _set_lines(self, name: str, text: str) -> None:
        lines = [line.replace("\\n", "\n") for line in text.split("\n") if line]
        self._put(name, tuple(lines))
        self._changed()

    def _changed(self) -> None:
        self._mark_preset()
        background_tasks.create(self._keep(dict(self.values)))

    async def _keep(self, values: Mapping[str, Any]) -> None:
        # Another conversation may be shown by the time that this one is refused.
        with telling(self._client.content):
            await self._settings.keep(values)


def _shown(line: str) -> str:
    return line.replace("\n", "\\n")


def _reading(control: Control, value: int | float) -> str:
    if value == control.off:
        return "off"
    return f"{value:,.0f}" if control.step >= 1 else f"{value:g}"
