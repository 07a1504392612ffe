"""The way to a new training: text, budget, the planner's proposal, go."""

from __future__ import annotations

import asyncio
from typing import Any, final

from nicegui import run, ui

from cllm.errors import CllmError
from cllm.jobs.training_service import TrainingRequest, plan_training, start_training
from cllm.web.dialogs import ask_overwrite
from cllm.web.layout import Loading, error_card, notify_error, text
from cllm.web.proposal import Budget, Details, show_plan
from cllm.web.state import AppState
from cllm.web.text_source import TextSource


@final
class TrainingForm:
    """A card that makes a model; with a model in use it asks whether to go on with that."""

    def __init__(self, state: AppState, *, asks_how: bool) -> None:
        self._state = state
        self._asks_how = asks_how and state.glance.card is not None

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
                self.name = ui.input("Name", placeholder="Made from the text's name")
                self.name.props("outlined dense stack-label").classes("w-full")
                self.details = Details()
                self.details.draw()
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
        self.how = ui.radio(options, value="new").props('aria-label="New or continue"')
        self._from = card.name

    async def _request(self, *, overwrite: bool = False) -> TrainingRequest:
        goes_on = self.how is not None and self.how.value == "on"
        settings = {"train.minutes": float(self.budget.minutes)}
        chosen = self.details.settings(is_new=not goes_on)
        if "train.steps" in chosen:
            settings.clear()
        source = await self.source.chosen()
        return TrainingRequest(
            name=(self.name.value or "").strip() or None,
            settings={**settings, **chosen},
            from_model=self._from if goes_on else None,
            overwrite=overwrite,
            **source,
        )

    async def _plan(self) -> None:
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
            with self.answer:
                error_card(error)
            return
        finally:
            waiting.delete()
            self._busy(False)
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
        workspace, name = self._state.workspace, (self.name.value or "").strip()
        self._busy(True)
        try:
            is_taken = bool(name) and workspace.models.exists(name)
            if is_taken and not await ask_overwrite(workspace, name):
                return
            request = await self._request(overwrite=is_taken)
            status = await run.io_bound(start_training, workspace, request)
        except CllmError as error:
            self.answer.clear()
            with self.answer:
                error_card(error)
            notify_error(error)
            return
        finally:
            self._busy(False)
        if status is not None:
            ui.navigate.to(f"/training?run={status.id}")

    def _busy(self, is_busy: bool) -> None:
        for button in (self.ask, self.go):
            button.set_enabled(not is_busy)
