"""Two models side by side: their figures, and what each makes of the same beginning."""

from __future__ import annotations

from datetime import datetime

from nicegui import run, ui

from cllm.config import GenerateSettings
from cllm.errors import CllmError
from cllm.jobs.model_service import ModelCard
from cllm.quantities import count, short_count, size
from cllm.web.dialogs.asking import answered, opened
from cllm.web.layout import notify_error, text
from cllm.web.state import AppState

_TOKENS = 80


async def compare(state: AppState, name: str) -> None:
    """Compare a model with another that is chosen in the dialog."""
    cards = {card.name: card for card in state.glance.models}
    others = [other for other in cards if other != name]
    if not others:
        ui.notify("There is no second model to compare with.", position="bottom")
        return
    with opened(f"Compare {name} with another") as dialog:
        dialog.classes("cllm-compare")
        second = ui.select(others, value=others[0], label="The other model")
        second.props("outlined dense").classes("w-full")
        table = ui.element("div").classes("w-full")

        start = ui.input("The same beginning for both", value=cards[name].prompt or "")
        start.props("outlined").classes("w-full")
        with ui.element("div").classes("cllm-pair"):
            places = [text("div", "", "cllm-prose cllm-sample") for _ in range(2)]

        def draw() -> None:
            table.clear()
            with table:
                _table(cards[name], cards[second.value])
            # What another model wrote says nothing of this one.
            for model, place in zip((name, second.value), places, strict=True):
                place.set_content(f"What {model} writes stands here.")
                place.classes("cllm-soft")

        second.on_value_change(draw)
        draw()

        async def write() -> None:
            button.disable()
            second.disable()
            try:
                for model, place in zip((name, second.value), places, strict=True):
                    place.classes(remove="cllm-soft").set_content("…")
                    written = await run.io_bound(_continue, state, model, start.value or "")
                    place.set_content(written or "")
            except CllmError as error:
                notify_error(error)
            finally:
                button.enable()
                second.enable()

        with ui.element("div").classes("cllm-dialog-actions"):
            ui.button("Close", on_click=dialog.close).props("flat no-caps")
            button = ui.button("Let both write", on_click=write).props("unelevated no-caps")
    await answered(dialog)


def _continue(state: AppState, name: str, start: str) -> str:
    settings = GenerateSettings(max_tokens=_TOKENS, seed=1)
    # To the end: a model that was given back may be closed in the middle of its text.
    with state.writers.using(name) as writer:
        return start + "".join(writer.go_on(start, settings, shades=False))


def _table(one: ModelCard, other: ModelCard) -> None:
    rows = [
        ("Bits per byte", *(_bits(card) for card in (one, other))),
        ("Size", size(one.num_bytes), size(other.num_bytes)),
        ("Parameters", short_count(one.num_parameters), short_count(other.num_parameters)),
        ("Context", count(one.context), count(other.context)),
        ("Tokens", one.tokenizer or "–", other.tokenizer or "–"),
        ("Learned from", ", ".join(one.sources) or "–", ", ".join(other.sources) or "–"),
        ("Of text", size(one.train_bytes), size(other.train_bytes)),
        ("Chats", *("yes" if card.is_chat else "no" for card in (one, other))),
        ("Made", *(f"{datetime.fromtimestamp(c.modified):%-d %b %Y}" for c in (one, other))),
    ]
    with ui.element("table").classes("cllm-table cllm-compare-table"):
        with ui.element("thead"), ui.element("tr"):
            text("td", "")
            for card in (one, other):
                text("th", card.name).props("scope=col")
        with ui.element("tbody"):
            for label, first, second in rows:
                with ui.element("tr"):
                    text("th", label).props("scope=row")
                    text("td", first)
                    text("td", second)
    if None not in (one.bits_per_byte, other.bits_per_byte):
        ui.label(
            "Bits per byte compare where both were measured on the same text; lower is better."
        ).classes("cllm-hint q-mt-sm")


def _bits(card: ModelCard) -> str:
    return "–" if card.bits_per_byte is None else f"{card.bits_per_byte:.3f}"
