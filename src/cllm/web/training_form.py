"""The way to a new training: text, budget, the planner's proposal, go."""

from __future__ import annotations

import asyncio
from typing import Any, final

from nicegui import run, ui

from cllm.errors import CllmError
from cllm.jobs.training_service import TrainingRequest, plan_training, start_training
from cllm.web.dialogs import ask_overwrite
from cllm.web.dialogs.asking import free_or_named
from cllm.web.layout import Loading, error_card, text
from cllm.web.proposal import Budget, Details, in_page_words, show_plan
from cllm.web.state import AppState
from cllm.web.text_source import TextSource

_NAMED = "Made from the text's name"
# In the middle: neither the header nor the foot of a narrow window lies over it.
_SHOW = """requestAnimationFrame(() => {
  const card = document.getElementById("c%d");
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "center" });
})"""


@final
class TrainingForm:
    """A card that makes a model; with a model in use it asks whether to go on with that."""

    def __init__(self, state: AppState, *, asks_how: bool) -> None:
        self._state = state
        card = state.glance.card
        is_sound = card is not None and not card.problem and state.glance.loading != "failed"
        self._asks_how = asks_how and is_sound

    async def draw(self) -> None:
        """Draw it and offer what is there."""
        with ui.element("div").classes("cllm-form"):
            with ui.element("div").classes("cllm-stack cllm-form-main"):
                text("h2", "What should it learn from?")
                self.source = TextSource(self._state.workspace)
                self.source.draw()
            with ui.element("div").classes("cllm-stack cllm-form-side"):
                text("h2", "How?")
                self._how()
                self.budget = Budget()
                self.name = ui.input("Name", placeholder=_NAMED, validation=free_or_named)
                self.name.props("outlined dense stack-label hide-bottom-space").classes("w-full")
                self.details = Details()
                self.details.draw()
                steps = self.details.fields["train.steps"]
                steps.on_value_change(lambda event: self.budget.give_way(event.value))
                with ui.element("div").classes("cllm-flow"):
                    self.ask = ui.button("See the proposal", on_click=self._plan)
                    self.ask.props("outline no-caps")
                    self.go = ui.button("Start training", on_click=self._go)
                    self.go.props("unelevated no-caps")
        self.answer = ui.element("div").classes("cllm-answer").props("aria-live=polite")
        await ui.context.client.connected()
        await self.source.load()

    def _how(self) -> None:
        self.how: Any = None
        card = self._state.glance.card
        if not self._asks_how or card is None:
            return
        options = {"new": "Start a new model", "on": f"Continue {card.name}"}
        self.how = ui.radio(options, value="new", on_change=self._turn)
        self.how.props('aria-label="New or continue"')
        self._from = card.name

    @property
    def _goes_on(self) -> bool:
        return self.how is not None and self.how.value == "on"

    def _turn(self) -> None:
        """Show what is left to choose, and what the model will be called."""
        self.details.go_on_with(self._from if self._goes_on else None)
        self.name.props["placeholder"] = self._free_name() or _NAMED
        self.name.update()

    def _free_name(self) -> str | None:
        """The name of what goes on with a model, which itself stays; a new one has none yet."""
        return self._state.workspace.models.free_name(self._from) if self._goes_on else None

    async def _request(self, *, overwrite: bool = False) -> TrainingRequest:
        goes_on = self._goes_on
        settings = {"train.minutes": float(self.budget.minutes)}
        chosen = self.details.settings(is_new=not goes_on)
        if "train.steps" in chosen:
            settings.clear()
        source = await self.source.chosen()
        return TrainingRequest(
            name=(self.name.value or "").strip() or self._free_name(),
            settings={**settings, **chosen},
            from_model=self._from if goes_on else None,
            overwrite=overwrite,
            **source,
        )

    def _is_well_named(self) -> bool:
        """Whether the name may be used; else the field says why, and has the focus."""
        is_well = self.name.validate()
        if not is_well:
            self.answer.clear()
            self.name.run_method("focus")
        return is_well

    def _refuse(self, error: CllmError) -> None:
        """Say what is wrong, where it is seen."""
        self.answer.clear()
        with self.answer:
            card = error_card(in_page_words(error)).props("tabindex=-1")
            ui.run_javascript(_SHOW % card.id)

    async def _plan(self) -> None:
        if not self._is_well_named():
            return
        self.answer.clear()
        with self.answer:
            waiting = Loading("Reading the text …")
        loop = asyncio.get_running_loop()

        def on_stage(words: str) -> None:
            loop.call_soon_threadsafe(waiting.say, words)

        self._busy(True)
        try:
            with self._state.working("Planning a training", "/training"):
                told = await run.io_bound(
                    plan_training, self._state.workspace, await self._request(), on_stage=on_stage
                )
        except CllmError as error:
            self._refuse(error)
            return
        finally:
            self._busy(False)
        self.answer.clear()
        if told is None:
            return
        with self.answer, ui.element("section").classes("cllm-card cllm-stack"):
            with ui.element("div").classes("cllm-flow"):
                text("h2", f"Proposal for {told['name']}", "grow")
                if told["replaces"]:
                    ui.label("replaces a model").classes("cllm-chip is-bad")
            show_plan(told)
            ui.label("Change anything above and ask again, or start.").classes("cllm-hint")

    async def _go(self) -> None:
        if not self._is_well_named():
            return
        workspace, name = self._state.workspace, (self.name.value or "").strip()
        self._busy(True)
        try:
            is_taken = bool(name) and workspace.models.exists(name)
            if is_taken and not await ask_overwrite(workspace, name):
                return
            self.answer.clear()
            with self.answer:
                Loading("Starting …")
            request = await self._request(overwrite=is_taken)
            status = await run.io_bound(start_training, workspace, request)
        except CllmError as error:
            self._refuse(error)
            return
        finally:
            self._busy(False)
        if status is not None:
            ui.navigate.to(f"/training?run={status.id}")

    def _busy(self, is_busy: bool) -> None:
        for button in (self.ask, self.go):
            button.set_enabled(not is_busy)
