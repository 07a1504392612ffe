"""Words in a model: what lies near them, and of which roots they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, final

from nicegui import ui

from cllm.errors import CllmError
from cllm.jobs.neighbours import Neighbours, nearest_tokens
from cllm.web.layout import Loading, section
from cllm.web.missing_model import model_error
from cllm.web.theme import chart, is_dark, palette
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.jobs.roots import Families, WordRoots

T = TypeVar("T")


@final
class NeighboursView:
    """A word, the tokens nearest to it, and a map of them."""

    def __init__(self, workspace: Workspace, model: str, word: str) -> None:
        self.word = word
        self._workspace, self._model = workspace, model

    def build(self) -> None:
        """Draw the field and the place of the answer."""
        self._place = _question("A word or token", self, self.look)

    async def look(self, _: object = None, *, piece: int = 0) -> None:
        """Find what lies near."""
        found = await _answer(
            self._place,
            lambda: nearest_tokens(self._workspace, self._model, self.word, piece=piece),
        )
        if found is not None:
            self._show(found)

    def _show(self, found: Neighbours) -> None:
        with self._place:
            if len(found.pieces) > 1:
                with ui.element("div").classes("cllm-flow"):
                    ui.label("It has several tokens:").classes("cllm-hint")
                    for number, name in enumerate(found.pieces):
                        button = ui.button(_visible(name)).props("outline no-caps dense")
                        button.on_click(lambda _, n=number: self.look(piece=n))
                        if number == found.chosen:
                            button.classes("is-on").props("aria-current=true")
            with ui.element("div").classes("cllm-two"):
                with section(f"Nearest to {_visible(found.pieces[found.chosen])}"):
                    rows = [(_visible(n.text), n.cosine, f"{n.cosine:.2f}") for n in found.nearest]
                    bars(rows[1:])
                with section("A map of them", f"It shows {found.shown_share:.0%} of their spread."):
                    self._map(found)

    def _map(self, found: Neighbours) -> None:
        look = palette(is_dark())
        points = [
            {
                "value": [n.x, n.y],
                "name": _visible(n.text),
                "itemStyle": {"color": look.loud if k == 0 else look.accent},
                "symbolSize": 12 if k == 0 else 8,
            }
            for k, n in enumerate(found.nearest)
        ]
        hidden = {"show": False, "scale": True}
        label = {"show": True, "position": "right", "formatter": "{b}", "fontSize": 13}
        series = {
            "type": "scatter",
            "data": points,
            "label": label,
            "labelLayout": {"hideOverlap": True},
        }
        label |= {"fontFamily": "Georgia, serif", "color": "inherit"}
        tooltip = {"trigger": "item", "formatter": "{b}"}
        options: dict[str, Any] = {
            "xAxis": hidden,
            "yAxis": hidden,
            "tooltip": tooltip,
            "aria": {"enabled": False},
            "grid": {"right": 80, "top": 12, "left": 12, "bottom": 12},
            "series": [series],
        }
        chart(options, label="Map of the nearest tokens", height="26rem")


@final
class RootsView:
    """A word's root, affixes, prime code and relatives, and the vocabulary's families.

    Where `word` is empty, it begins with one of the model's own.
    """

    def __init__(self, workspace: Workspace, model: str, word: str) -> None:
        self.word = word
        self._workspace, self._model = workspace, model
        self._first = ""
        self._has_families = False

    @property
    def asked(self) -> str:
        """The word that the person wrote, empty where it is still the first one."""
        return "" if self.word == self._first else self.word

    def build(self) -> None:
        """Draw the field and the places of the answer."""
        self._place = _question("A word", self, self.look)
        self._families = ui.element("div")

    async def look(self, _: object = None) -> None:
        """Take the word apart; the first one is the longest of the largest family."""
        from cllm.jobs.roots import largest_families, word_roots

        workspace, model = self._workspace, self._model
        if not self.word or not self._has_families:
            families = await _answer(
                self._families, lambda: largest_families(workspace, model, limit=12)
            )
            if families is None:
                return
            if families.families:
                self._first = max(families.families[0].words, key=len)
                self._show_families(families)
            self._has_families = True
            self.word = self.word or self._first
            if not self.word:
                return
        found = await _answer(self._place, lambda: word_roots(workspace, model, self.word))
        if found is not None:
            self._show(found)

    def _show(self, found: WordRoots) -> None:
        with self._place:
            with ui.element("div").classes("cllm-word"):
                for part in found.morphs:
                    is_root = part == found.root
                    ui.label(part).classes("cllm-morph" + (" is-root" if is_root else ""))
            product = " · ".join(f"{prime:,}" for prime in found.code)
            with ui.element("dl").classes("cllm-facts"):
                _fact("root", f"{found.root} = {found.root_prime:,}")
                pairs = zip(found.affixes, found.affix_primes, strict=True)
                told = ", ".join(f"{affix} = {prime:,}" for affix, prime in pairs)
                _fact("affixes", told or "none")
                _fact("prime code", product)
                _fact("relatives", f"{found.num_relatives:,}")
            kept = (
                "The model was trained with these roots."
                if found.is_stored
                else "Found in its vocabulary just now; the model was trained without roots."
            )
            ui.label(kept).classes("cllm-hint")
            if found.relatives:
                with section("Words that share its factors"):
                    most = max(relative.log_gcd for relative in found.relatives)
                    bars(
                        [
                            (word.word, word.log_gcd / most, " · ".join(word.shares))
                            for word in found.relatives
                        ]
                    )

    def _show_families(self, found: Families) -> None:
        counts = {"words": found.num_words, "roots": found.num_roots, "affixes": found.num_affixes}
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
        with (
            self._families,
            section("The largest families", told),
            ui.element("div").classes("cllm-cards"),
        ):
            for family in found.families:
                with ui.element("div").classes("cllm-card"):
                    ui.label(f"{family.root} = {family.prime:,}").classes("cllm-family")
                    ui.label(", ".join(family.words[:24])).classes("cllm-hint")


def bars(rows: list[tuple[str, float, str]]) -> None:
    """Names with a bar and a figure each; shares from 0 to 1."""
    with ui.element("ol").classes("cllm-bars"):
        for name, share, value in rows:
            with ui.element("li"):
                ui.label(name).classes("cllm-bars-name")
                with ui.element("span").classes("cllm-meter").props("aria-hidden=true"):
                    ui.element("span").style(f"--share:{min(max(share, 0.0), 1.0):.3f}")
                ui.label(value).classes("cllm-bars-value")


def _question(label: str, holder: object, ask: Callable[..., Any]) -> ui.element:
    with ui.element("div").classes("cllm-ask is-short"):
        field = ui.input(label).bind_value(holder, "word").props("outlined").classes("grow")
        field.on("keydown.enter", ask)
        ui.button("Look up", on_click=ask).props("unelevated no-caps")
    return ui.element("div").classes("cllm-stack")


async def _answer(place: ui.element, find: Callable[[], T]) -> T | None:
    """What `find` finds, in a thread; what is wrong is shown in the place.

    None, too, where the place was asked for something else meanwhile.
    """
    place.clear()
    with place:
        loading = Loading("Looking …")
    try:
        found = await asyncio.to_thread(find)
    except CllmError as error:
        if not loading.is_deleted:
            place.clear()
            with place:
                model_error(error)
        return None
    if loading.is_deleted:
        return None
    place.clear()
    return found


def _fact(name: str, value: str) -> None:
    with ui.element("div"):
        with ui.element("dt"):
            ui.label(name)
        with ui.element("dd"):
            ui.label(value)


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣")
