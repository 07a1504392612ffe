"""Models: every one on this machine as a card, and what can be done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, final

from nicegui import run, ui

from cllm.errors import CllmError, StorageError
from cllm.jobs.model_service import (
    ModelCard,
    delete_model,
    duplicate_model,
    list_trash,
    remove_model,
    restore,
)
from cllm.quantities import short_count, size
from cllm.web.dialogs import models as dialogs
from cllm.web.dialogs.asking import ask
from cllm.web.dialogs.compare import compare
from cllm.web.dialogs.trash import show_trash
from cllm.web.header import use
from cllm.web.layout import empty, heading, notify_error, page, sentence, text
from cllm.web.missing_model import DAMAGED, UNOPENED
from cllm.web.proposal import in_page_words
from cllm.web.shared_menu import SharedMenu
from cllm.web.state import AppState, Glance, app_state
from cllm.web.undo import offer_undo

# Drawn at once; the rest by a button, so that hundreds stay quick.
_FIRST, _MORE = 24, 48
_LOOK_S = 1.0
_SAMPLE_CHARACTERS = 260


@page("Models", "/models")
async def models_page() -> None:
    """All models."""
    state = app_state()
    with ui.element("div").classes("cllm-top"):
        heading("Models", "All that you made or took in, on this machine.")
        with ui.element("div").classes("cllm-flow"):
            folder = ui.button("Open a model", icon="folder_open").props("outline no-caps")
            folder.on_click(lambda: dialogs.open_model_folder(state))
            new = ui.button("New model", icon="add").props("unelevated no-caps")
            new.on_click(lambda: ui.navigate.to("/training"))
    cards = _Cards(state)
    cards.draw()
    await cards.look_at_deleted()


@final
class _Cards:
    """The cards, drawn anew when something about the models has changed."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._shown: Any = None
        self._limit = _FIRST
        self._search = ""
        self._drawn: dict[str, tuple[Any, ui.element]] = {}

    def draw(self) -> None:
        self.search = ui.input(placeholder="Search by name or text")
        self.search.props('outlined dense clearable debounce=200 aria-label="Search models"')
        self.search.classes("cllm-search-models").on_value_change(self._find)
        self.note = ui.element("div")
        self.grid = ui.element("div").classes("cllm-cards")
        self._menu = SharedMenu()
        self.more = ui.button(on_click=self._more).props("flat no-caps").classes("q-mt-md")
        self.deleted = ui.button(icon="delete_outline").props("flat no-caps").classes("q-mt-md")
        self.deleted.on_click(lambda: self._then(lambda: show_trash(self._state.workspace)))
        self.deleted.set_visibility(False)
        self._show(self._state.glance)
        ui.timer(_LOOK_S, lambda: self._show(self._state.glance))

    def _find(self) -> None:
        self._search, self._limit = (self.search.value or "").lower(), _FIRST
        self._show(self._state.glance)

    def _show(self, glance: Glance) -> None:
        now = (glance.models, glance.model, glance.loading, self._search, self._limit)
        if now == self._shown:
            return
        self._shown = now
        self.search.set_visibility(len(glance.models) > 6)
        found = [card for card in glance.models if self._search in _words(card)]
        self.note.clear()
        with self.note:
            if not glance.models:
                self._nothing()
            elif not found:
                empty("Nothing was found", "No model has that in its name or text.", icon="search")
        self._place_cards(found[: self._limit], glance)
        self.more.set_visibility(len(found) > self._limit)
        self.more.set_text(f"Show more ({len(found) - self._limit:,})")

    def _place_cards(self, cards: Sequence[ModelCard], glance: Glance) -> None:
        """Draw those that are new or have changed; the others stay, with their open menus."""
        names = [card.name for card in cards]
        for name in [name for name in self._drawn if name not in names]:
            self._drawn.pop(name)[1].delete()
        for index, card in enumerate(cards):
            is_used = card.name == glance.model
            key = (card, is_used, glance.loading if is_used else glance.loading == "loading")
            known, place = self._drawn.get(card.name, (None, None))
            if place is None:
                with self.grid:
                    place = ui.element("article")
            if known != key:
                place.clear()
                place.classes(replace="cllm-card cllm-model" + (" is-used" if is_used else ""))
                with place:
                    self._card(card, glance)
                self._drawn[card.name] = (key, place)
            if self.grid.default_slot.children[index] is not place:
                place.move(target_index=index)

    def _more(self) -> None:
        self._limit += _MORE
        self._show(self._state.glance)

    def _nothing(self) -> None:
        note = "Train one on text of yours, or open a model folder."
        with empty("No models yet", note, icon="inventory_2"):
            go = ui.button("Create your first model").props("unelevated no-caps")
            go.on_click(lambda: ui.navigate.to("/"))

    def _card(self, card: ModelCard, glance: Glance) -> None:
        is_used = card.name == glance.model
        with ui.element("div").classes("cllm-model-head"):
            text("h2", card.name, "grow")
            self._more_for(card)
        with ui.element("div").classes("cllm-flow"):
            self._chips(card, is_used, glance)
        if card.sample and not card.problem:
            self._sample(card)
        elif not card.problem:
            ui.label("It has written no sample yet.").classes("cllm-hint cllm-model-sample")
        self._facts(card)
        with ui.element("div").classes("cllm-flow"):
            if card.problem or (is_used and glance.loading == "failed"):
                self._instead(card)
            elif is_used and glance.loading == "ready":
                go = ui.button("Chat" if card.is_chat else "Write").props("outline no-caps")
                path = "/chat" if card.is_chat else "/write"
                go.on_click(lambda: ui.navigate.to(path))
                _named(go, card)
            else:
                go = _named(ui.button("Use it", on_click=lambda: use(card.name)), card)
                go.props("unelevated no-caps").set_enabled(glance.loading != "loading")

    def _instead(self, card: ModelCard) -> None:
        """What is left to do with a model that can't be opened."""
        again = ui.button("Train again", on_click=lambda: ui.navigate.to("/training?new=true"))
        _named(again, card).props("outline no-caps")
        away = ui.button("Delete", on_click=lambda: self._then(lambda: self._delete(card.name)))
        _named(away, card).props("flat no-caps color=negative")
        if not card.problem:
            # It may have been for want of memory.
            retry = ui.button("Try to open it", on_click=lambda: use(card.name))
            _named(retry, card).props("flat no-caps")

    def _chips(self, card: ModelCard, is_used: bool, glance: Glance) -> None:
        if is_used:
            words = {"loading": "loading …", "failed": "could not be loaded"}
            bad = " is-bad" if glance.loading == "failed" else ""
            ui.label(words.get(glance.loading, "in use")).classes("cllm-chip is-on" + bad)
        ui.label("chats" if card.is_chat else "continues text").classes("cllm-chip")
        if card.is_quantised:
            ui.label("squeezed").classes("cllm-chip")
        if card.problem:
            ui.label("damaged").classes("cllm-chip is-bad")
            _trouble(DAMAGED, card.problem)
        elif is_used and glance.loading == "failed":
            _trouble(UNOPENED, glance.problem)

    def _sample(self, card: ModelCard) -> None:
        sample = card.sample or ""
        cut = sample[:_SAMPLE_CHARACTERS].rstrip()
        with ui.element("p").classes("cllm-prose cllm-model-sample"):
            text("span", (card.prompt or "").lstrip(), "cllm-soft")
            text("span", cut + (" …" if len(cut) < len(sample) else ""))

    def _facts(self, card: ModelCard) -> None:
        learned = ", ".join(card.sources[:2]) or "–"
        if len(card.sources) > 2:
            learned += f" and {len(card.sources) - 2} more"
        bits = "–" if card.bits_per_byte is None else f"{card.bits_per_byte:.3f}"
        when = datetime.fromtimestamp(card.modified)
        facts = [
            ("Size", size(card.num_bytes)),
            ("Parameters", short_count(card.num_parameters)),
            ("Bits per byte", bits),
            ("Made", f"{when:%-d %b %Y}"),
            ("Learned from", learned if card.train_bytes is None else _of(learned, card)),
        ]
        with ui.element("dl").classes("cllm-model-facts"):
            for name, value in facts:
                with ui.element("div"):
                    text("dt", name)
                    text("dd", value)

    def _more_for(self, card: ModelCard) -> None:
        name, state = card.name, self._state
        works: tuple[tuple[str, Callable[[], Awaitable[Any]]], ...] = (
            ("Rename", lambda: dialogs.rename(state, name)),
            ("Save as", lambda: dialogs.copy_as(state, name)),
            ("Duplicate", lambda: self._tried(duplicate_model, name)),
            ("Compare with another", lambda: compare(state, name)),
            ("Squeeze", lambda: dialogs.squeeze(state, name)),
            ("Export", lambda: dialogs.export(state, name)),
            ("Delete", lambda: self._delete(name)),
        )
        entries = [(label, lambda work=work: self._then(work)) for label, work in works]
        more = ui.button(icon="more_horiz").props("flat round dense aria-haspopup=menu")
        more.props["aria-label"] = f"More for {name}"
        more.on_click(
            lambda: self._menu.open(f"#{more.html_id}", [*entries[:-1], None, entries[-1]])
        )

    async def _then(self, work: Callable[[], Awaitable[Any]]) -> None:
        # The menu's card may be drawn anew meanwhile: dialogs and notes must outlive that.
        with ui.context.client.content:
            await work()
            await self._look()

    async def _look(self) -> None:
        glance = await run.io_bound(self._state.look, now=True)
        if glance is not None:
            self._show(glance)
        await self.look_at_deleted()

    async def look_at_deleted(self) -> None:
        """Offer the deleted models, where there are some."""
        entries = await run.io_bound(list_trash, self._state.workspace)
        self.deleted.set_visibility(bool(entries))
        self.deleted.set_text(f"Deleted models ({len(entries or ()):,})")

    async def _delete(self, name: str) -> None:
        try:
            entry = await self._worked(delete_model, name)
        except StorageError:
            note = "The disk is too full to keep it in the trash. This can't be undone."
            if await ask(f"Remove {name} for good?", note, yes="Remove", loses=True):
                await self._tried(remove_model, name)
            return
        except CllmError as error:
            notify_error(in_page_words(error))
            return

        async def bring_back() -> None:
            await self._tried(restore, entry.id)

        offer_undo(ui.context.client, f"{name} was deleted.", bring_back)

    async def _tried(self, work: Callable[..., Any], name: str) -> Any:
        try:
            return await self._worked(work, name)
        except CllmError as error:
            notify_error(in_page_words(error))
            return None

    async def _worked(self, work: Callable[..., Any], name: str) -> Any:
        made = await run.io_bound(work, self._state.workspace, name)
        await self._look()
        return made


def _named(button: ui.button, card: ModelCard) -> ui.button:
    """Say to those who don't see the card whose button it is."""
    button.props["aria-label"] = f"{button.text}: {card.name}"
    return button


def _trouble(words: str, details: str | None) -> None:
    """What is wrong with a model in words for people; the rest is folded away."""
    ui.label(words).classes("w-full")
    if details:
        with ui.expansion("Details").classes("w-full cllm-details"):
            ui.label(sentence(details)).classes("cllm-hint")


def _words(card: ModelCard) -> str:
    return " ".join((card.name, *card.sources)).lower()


def _of(learned: str, card: ModelCard) -> str:
    return f"{learned} ({size(card.train_bytes)})"
