"""The models that pages let write: those of the server's pool, so that none is open twice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from cllm.config import GenerateSettings
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.infer.scheduler import Answer
    from cllm.jobs.beam import BeamResult, BeamSettings
    from cllm.jobs.chat import ChatFormat
    from cllm.jobs.inspect import Inspection
    from cllm.server.pool import Pool, ServedModel

_NUM_ALTERNATIVES = 5
# The app's loop is there once it serves; what is loaded first may ask before.
_LOOP_WAIT_S = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class OpenWriter:
    """A model that writes for pages; `chat` is None for one that knows no dialogue."""

    name: str
    context: int
    chat: ChatFormat | None
    notice: str | None
    served: ServedModel

    def go_on(self, text: str, settings: GenerateSettings, *, shades: bool) -> Answer:
        """Continue a text. Raises: SettingsError, BusyError."""
        from cllm.server.texts import ids_of

        return self._submit(ids_of(self.served, text), settings, shades=shades)

    def reply(
        self, messages: Sequence[Mapping[str, str]], settings: GenerateSettings, *, shades: bool
    ) -> tuple[Answer, int]:
        """The model's turn after these messages, and how many of the oldest did not fit.

        Raises: SettingsError, BusyError, InputError where the template refuses the messages.
        """
        from cllm.server.conversation import prompt_of

        prompt = prompt_of(self.served, messages, max_tokens=settings.max_tokens)
        asked = settings.model_copy(update={"stop": (*prompt.stops, *settings.stop)})
        return self._submit(prompt.ids, asked, shades=shades), prompt.num_dropped

    def inspect(self, text: str, *, window: int = 1) -> Inspection:
        """What it makes of a text. Raises: InputError, SettingsError, IntegrityError."""
        from cllm.jobs.inspect import inspect_open

        folder = self.served.stamp[0]
        return inspect_open(self.name, self.served.opened, folder, text, window=window)

    def find_beams(
        self, text: str, settings: GenerateSettings, beams: BeamSettings, *, home: Path
    ) -> BeamResult:
        """The likeliest ways on from a text. Raises: SettingsError, BusyError, IntegrityError."""
        from cllm.jobs.beam import find_beams_open

        served = self.served
        return find_beams_open(
            self.name, served.opened, text, settings, beams, folder=served.stamp[0], home=home
        )

    def _submit(self, ids: list[int], settings: GenerateSettings, *, shades: bool) -> Answer:
        return self.served.scheduler.submit(
            ids,
            settings,
            num_alternatives=_NUM_ALTERNATIVES if shades else None,
            drafting=self.served.drafting,
        )


@final
class Writers:
    """The open models by name, for threads; the pool itself lives in an event loop.

    `pool` is the server's; without one it is a pool of its own.
    """

    def __init__(self, workspace: Workspace, pool: Pool | None = None) -> None:
        self._is_own = pool is None
        self._pool = pool or own_pool(workspace)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def get(self, name: str) -> OpenWriter:
        """The model of that name, opened if need be: blocks while it is read.

        It may be closed again when others need its memory. Raises: NotFoundError,
        IntegrityError, BusyError, SettingsError.
        """
        writer = self.take(name)
        self.give_back(writer)
        return writer

    def take(self, name: str) -> OpenWriter:
        """The same, but it stays open until it is given back. Raises: as `get`."""
        taken = asyncio.run_coroutine_threadsafe(self._pool.take(name), self._running_loop())
        served = taken.result()
        return OpenWriter(served.name, served.context, served.chat, served.notice, served)

    def give_back(self, writer: OpenWriter) -> None:
        """A text is done with a model."""
        self._pool.give_back(writer.served)

    @contextlib.contextmanager
    def using(self, name: str) -> Iterator[OpenWriter]:
        """The same for the block. Raises: as `get`."""
        writer = self.take(name)
        try:
            yield writer
        finally:
            self.give_back(writer)

    def is_open(self, name: str) -> bool:
        """Whether a model is open now."""
        return any(model.name == name for model in self._pool.loaded())

    def close(self) -> None:
        """End all texts of a pool of its own; the server closes its own."""
        if self._is_own:
            self._pool.close()
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = _own_loop() if self._is_own else _app_loop()
            return self._loop


def own_pool(workspace: Workspace) -> Pool:
    """A pool with the limits that a server has by default."""
    from cllm.jobs.training_service import is_training
    from cllm.server.limits import default_limits
    from cllm.server.pool import Pool

    return Pool(workspace, default_limits(), is_training=lambda: is_training(workspace))


def _own_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cllm-writers", daemon=True).start()
    return loop


def _app_loop() -> asyncio.AbstractEventLoop:
    """The loop that serves the pages, and with them the API."""
    from nicegui import core

    end = time.monotonic() + _LOOP_WAIT_S
    while core.loop is None and time.monotonic() < end:
        time.sleep(0.02)
    assert core.loop is not None, "pages are shown by a running app"
    return core.loop


def settings_of(values: Mapping[str, Any]) -> GenerateSettings:
    """Settings of a conversation, those it does not name as they are by default.

    Raises: SettingsError.
    """
    from cllm.config import resolve

    names = GenerateSettings.model_fields
    return resolve(GenerateSettings, {key: values[key] for key in names if key in values})
