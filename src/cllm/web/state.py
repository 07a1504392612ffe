"""What all pages share: the workspace, the model in use, and what is running."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast, final, runtime_checkable

from nicegui import app

from cllm.errors import CllmError
from cllm.jobs.model_service import ModelCard, last_used_model, note_used, purge_trash
from cllm.jobs.training_service import active_training
from cllm.jobs.training_status import TrainingStatus
from cllm.jobs.uploads import purge_uploads
from cllm.web.card_shelf import CardShelf
from cllm.web.theme import Theme
from cllm.workspace.workspace import Workspace

Loading = Literal["none", "loading", "ready", "failed"]

_LOOK_S = 0.8
_THEME = "theme"


@runtime_checkable
class OpensModels(Protocol):
    """Where models are opened, for all that pages do with them."""

    def get(self, name: str) -> Any:
        """The model of that name, opened if need be; blocks. Raises: CllmError."""
        ...

    def using(self, name: str) -> AbstractContextManager[Any]:
        """The same, and it stays open for the block."""
        ...

    def is_open(self, name: str) -> bool:
        """Whether a model is open now."""
        ...


@dataclass(slots=True, eq=False)
class Activity:
    """Work other than training that every page tells of, while it runs.

    `progress` is 0..1, or None where it is not known; `path` leads to the page it belongs to.
    """

    label: str
    path: str
    progress: float | None = None
    began: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Glance:
    """What the header of every page says; `revision` grows with every change of the models."""

    models: tuple[ModelCard, ...]
    model: str | None
    loading: Loading
    problem: str | None
    training: TrainingStatus | None
    activities: tuple[Activity, ...]

    @property
    def card(self) -> ModelCard | None:
        """The model in use."""
        return next((card for card in self.models if card.name == self.model), None)


@final
class AppState:
    """One for the process. Every method but `glance` may block: call it in a thread."""

    def __init__(self, workspace: Workspace, writers: OpensModels) -> None:
        self.workspace = workspace
        self.writers = writers
        self._lock = threading.Lock()
        self._shelf = CardShelf(workspace)
        self._activities: list[Activity] = []
        self._model: str | None = None
        self._loading: Loading = "none"
        self._problem: str | None = None
        # What was loaded last: its name, and when it was made; None before the app has begun.
        self._loaded: tuple[str, float] | None = None
        self._looked_at = 0.0
        self._glance = Glance((), None, "none", None, None, ())

    @property
    def model(self) -> str | None:
        """The model in use, be it still being loaded."""
        return self._model

    @property
    def glance(self) -> Glance:
        """What was known at the last look; never blocks."""
        return self._glance

    def look(self, *, now: bool = False) -> Glance:
        """Look again; asked by many pages, it looks about once a second, or `now`."""
        with self._lock:
            if not now and time.monotonic() - self._looked_at < _LOOK_S:
                return self._glance
            self._looked_at = time.monotonic()
        models = self._shelf.cards()
        names = [card.name for card in models]
        if self._model not in names:
            self._model = None if not names else last_used_model(self.workspace)
            self._loading = "none"
        self._look_at_model(models)
        self._glance = Glance(
            models=models,
            model=self._model,
            loading=self._loading,
            problem=self._problem,
            training=active_training(self.workspace),
            activities=tuple(self._activities),
        )
        return self._glance

    def _look_at_model(self, models: tuple[ModelCard, ...]) -> None:
        """Whether the model in use is open; one that is another by now is loaded."""
        name, was = self._model, self._loading
        if name is None or was == "loading":
            return
        if self.writers.is_open(name):
            self._loading, self._problem = "ready", None
            return
        if was == "ready":
            # Its memory was needed, or it has changed on the disk.
            self._loading = "none"
        made = next((card.modified for card in models if card.name == name), None)
        if self._loaded is not None and made is not None and self._loaded != (name, made):
            self._loading = "loading"
            threading.Thread(target=self._load, args=(name,), daemon=True).start()

    def _load(self, name: str) -> None:
        with contextlib.suppress(CllmError):
            self.use(name)

    def use(self, name: str) -> None:
        """Use a model from now on: it is loaded, and remembered as the last used.

        Raises: NotFoundError, IntegrityError.
        """
        note_used(self.workspace, name)
        self._model, self._loading, self._problem = name, "loading", None
        glance = self.look(now=True)
        self._loaded = (name, 0.0 if glance.card is None else glance.card.modified)
        try:
            self.writers.get(name)
        except CllmError as error:
            self._problem = str(error)
            self._loading = "failed"
            raise
        else:
            if self._model == name:
                self._loading = "ready"
        finally:
            self.look(now=True)

    def begin(self) -> None:
        """Load the model that was used last, and clear away what was deleted long ago.

        What is wrong with the model is in `glance`.
        """
        name = last_used_model(self.workspace)
        if name is not None:
            with contextlib.suppress(CllmError):
                self.use(name)
        self._loaded = self._loaded or ("", 0.0)
        self.look(now=True)
        with contextlib.suppress(CllmError):
            purge_trash(self.workspace)
            purge_uploads(self.workspace)

    @contextlib.contextmanager
    def working(self, label: str, path: str) -> Iterator[Activity]:
        """Tell every page of some work while the block runs."""
        activity = Activity(label, path)
        self._activities.append(activity)
        try:
            yield activity
        finally:
            self._activities.remove(activity)

    def read_theme(self) -> Theme:
        """The theme that was chosen."""
        chosen = self.workspace.preferences.get(_THEME)
        return chosen if chosen in ("light", "dark") else "system"

    def write_theme(self, theme: Theme) -> None:
        """Remember the theme."""
        self.workspace.preferences.set(_THEME, theme)


def set_state(state: AppState) -> None:
    """Make `state` the one that pages find."""
    app.state.cllm = state


def app_state() -> AppState:
    """The state of the running app."""
    return cast("AppState", app.state.cllm)
