"""The models that are open: read when first asked for, let go when gone or unused the longest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from cllm.config import GenerateSettings, resolve
from cllm.errors import (
    CllmError,
    InvalidNameError,
    NotFoundError,
    SettingsError,
    StorageError,
)
from cllm.files import read_json
from cllm.infer.passage import Drafting
from cllm.infer.scheduler import BusyError, Scheduler
from cllm.infer.slots import Slots
from cllm.jobs.chat import ChatFormat, read_chat_format
from cllm.jobs.model_service import last_used_model, note_used, read_defaults
from cllm.jobs.opening import Decoding, OpenModel, drafting_of, open_model
from cllm.server.limits import Limits
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

# The name of whichever model is the default.
ALIAS = "cllm"
_FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
# Between two looks at the disk and at what is being trained.
_LOOK_S = 0.5
_FILES = ("config.json", "model.safetensors", "manifest.json")
_MOST_LISTED = 20
_MOMENT_S = 0.005

# The folder, and of each file when it was written, its size and its number on the disk.
Stamp = tuple[Path, tuple[tuple[int, int, int] | None, ...]]


@dataclass(slots=True, eq=False)
class ServedModel:
    """A model that is open; `chat` is None for one that knows no dialogue."""

    name: str
    opened: OpenModel
    context: int
    vocab_size: int
    tokenizer: Tokenizer
    slots: Slots
    scheduler: Scheduler
    drafting: Drafting
    chat: ChatFormat | None
    notice: str | None
    defaults: GenerateSettings
    num_bytes: int
    stamp: Stamp
    is_calm: bool = field(default=False)
    seen_at: float = field(default=0.0)
    num_users: int = field(default=0)
    last_used: int = field(default=0)


@final
class Pool:
    """Opens models on demand within a limit of memory; one scheduler each.

    About twice a second a thread looks around: a model that was removed, renamed or replaced on
    the disk is closed, at once or when its last text ends; and while `is_training` says that a
    training wants the processor, all compute on one thread.
    """

    def __init__(
        self,
        workspace: Workspace,
        limits: Limits,
        *,
        default: str | None = None,
        decoding: Decoding | None = None,
        is_training: Callable[[], bool] = lambda: False,
    ) -> None:
        self.workspace, self._limits = workspace, limits
        self._decoding = Decoding() if decoding is None else decoding
        self._is_training = is_training
        self._default = default
        self._open: dict[str, ServedModel] = {}
        # Replaced on disk while texts were being written with them.
        self._retired: list[ServedModel] = []
        self._lock, self._opening = threading.Lock(), asyncio.Lock()
        self._reading_defaults = threading.Lock()
        # Those of the loop may all be waiting for a model.
        self._opener = ThreadPoolExecutor(1, "cllm-opener")
        self._clock = itertools.count(1)
        self._is_closed, self._is_calm = False, False
        self._watcher: threading.Thread | None = None
        self._ended = threading.Event()

    def default_name(self) -> str:
        """The model that is meant where none is named. Raises: NotFoundError."""
        name = self._default or last_used_model(self.workspace)
        if name is None:
            raise NotFoundError("there is no model yet", where="model", hint="Train one first.")
        return name

    def resolve(self, name: str | None) -> str:
        """The name of an existing model, from a name, an alias or nothing.

        Raises: NotFoundError.
        """
        if not name or (name == ALIAS and not self.workspace.models.exists(ALIAS)):
            name = self.default_name()
        try:
            self.workspace.models.path(name)
        except (NotFoundError, InvalidNameError) as error:
            names = self.workspace.models.names()
            more = ", …" if len(names) > _MOST_LISTED else ""
            listed = f"There are: {', '.join(names[:_MOST_LISTED])}{more}."
            hint = listed if names else error.hint
            message = f"there is no model named {name!r}"
            raise NotFoundError(message, where="model", hint=hint) from None
        return name

    async def take(self, name: str | None) -> ServedModel:
        """An open model, which stays open until it is given back.

        Raises: NotFoundError, IntegrityError, BusyError, SettingsError.
        """
        if name and (found := self._take_seen(name)) is not None:
            return found
        real = self.resolve(name)
        found = self._take_open(real, self._stamp(real))
        if found is not None:
            return found
        # One at a time: each may need what another's closing frees.
        async with self._opening:
            found = self._take_open(real, self._stamp(real))
            if found is not None:
                return found
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._opener, self._open_anew, real)

    def give_back(self, model: ServedModel) -> None:
        """A text is done with a model."""
        with self._lock:
            model.num_users -= 1
            model.last_used = next(self._clock)
            is_idle = model.num_users == 0 and model in self._retired
            if is_idle:
                self._retired.remove(model)
        if is_idle:
            threading.Thread(target=_close, args=(model,), daemon=True).start()

    def look(self) -> None:
        """Let go of models that are no more what they were; one thread while a training runs."""
        is_calm = self._wants_calm()
        with self._lock:
            models = [*self._open.values(), *self._retired]
        for model in models:
            if model.is_calm != is_calm:
                model.is_calm = is_calm
                with contextlib.suppress(ValueError):  # closed meanwhile
                    model.opened.use_one_thread(is_calm)
        for model in models:
            if self._stamp(model.name) != model.stamp:
                self._let_go(model)

    def read_defaults(self, name: str) -> None:
        """Other settings were chosen for a model: they hold from its next text on."""
        with self._reading_defaults:
            with self._lock:
                found = self._open.get(name)
            if found is not None:
                found.defaults = _defaults(self.workspace, name)

    def loaded(self) -> list[ServedModel]:
        """The open models, the last used first."""
        with self._lock:
            return sorted(self._open.values(), key=lambda model: -model.last_used)

    def close(self) -> None:
        """End all texts and close all models."""
        with self._lock:
            self._is_closed = True
            models = [*self._open.values(), *self._retired]
            self._open.clear()
            self._retired.clear()
        self._ended.set()
        self._opener.shutdown(wait=False)
        for model in models:
            _close(model)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.look()

    def _wants_calm(self) -> bool:
        # A database that can't be read for a moment changes nothing.
        with contextlib.suppress(CllmError, OSError):
            self._is_calm = self._is_training()
        return self._is_calm

    def _take_seen(self, name: str) -> ServedModel | None:
        """A model whose files were looked at a moment ago: many ask in the same moment."""
        with self._lock:
            found = self._open.get(name)
            if found is None or time.monotonic() - found.seen_at > _MOMENT_S:
                return None
            found.num_users += 1
            found.last_used = next(self._clock)
            return found

    def _take_open(self, name: str, stamp: Stamp | None) -> ServedModel | None:
        with self._lock:
            found = self._open.get(name)
            if found is None or found.stamp != stamp:
                return None
            found.seen_at = time.monotonic()
            found.num_users += 1
            found.last_used = next(self._clock)
            return found

    def _let_go(self, model: ServedModel) -> None:
        """Close an open model, or see to it that its last text does."""
        with self._lock:
            if self._open.get(model.name) is not model:
                return
            del self._open[model.name]
            if model.num_users:
                self._retired.append(model)
                return
        _close(model)

    def _stamp(self, name: str) -> Stamp | None:
        """Changes when the model's files do; None where there is none of that name."""
        try:
            folder = self.workspace.models.path(name)
        except CllmError:
            return None
        return folder, tuple(_file_stamp(folder / file) for file in _FILES)

    def _open_anew(self, name: str) -> ServedModel:
        stamp = self._stamp(name)
        try:
            if stamp is None:
                raise NotFoundError("it has gone")
            return self._read(name, stamp)
        except (CllmError, OSError):
            # Who was removed while it was read is told of as one that never was.
            self.resolve(name)
            raise

    def _read(self, name: str, stamp: Stamp) -> ServedModel:
        folder = stamp[0]
        weight_bytes, slot_bytes = _sizes(folder, self._decoding)
        num_slots = self._num_slots(name, weight_bytes, slot_bytes)
        num_bytes = weight_bytes + (num_slots + 1) * slot_bytes
        self._make_room(name, num_bytes)
        is_calm = self._wants_calm()
        opened = open_model(
            folder,
            self.workspace.home,
            threads=self._decoding.threads,
            cache=self._decoding.cache,
            num_slots=num_slots,
            uses_one_thread=is_calm,
        )
        model = ServedModel(
            name=name,
            opened=opened,
            context=opened.decoder.context,
            vocab_size=opened.decoder.vocab_size,
            tokenizer=opened.tokenizer,
            slots=opened.slots,
            scheduler=Scheduler(
                opened.slots, opened.tokenizer, most_waiting=self._limits.most_waiting
            ),
            drafting=drafting_of(opened, self._decoding.speculate),
            chat=read_chat_format(folder),
            notice=opened.notice,
            defaults=_defaults(self.workspace, name),
            num_bytes=num_bytes,
            stamp=stamp,
            is_calm=is_calm,
            num_users=1,
            last_used=next(self._clock),
        )
        with self._lock:
            if self._is_closed:
                raise BusyError("the server is stopping")
            self._open[name] = model
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="cllm-pool", daemon=True)
                self._watcher.start()
        # A home that can't be written to is no reason not to write a text.
        with contextlib.suppress(StorageError, OSError):
            note_used(self.workspace, name)
        return model

    def _num_slots(self, name: str, weight_bytes: int, slot_bytes: int) -> int:
        """As many texts at once as fit in half of what the weights leave.

        Raises: SettingsError where not even one does.
        """
        room = self._limits.memory_bytes - weight_bytes
        # One more slot is the decoder's own, to observe with.
        num_slots = min(self._limits.most_slots, room // 2 // slot_bytes - 1)
        if room < 2 * slot_bytes:
            needed = weight_bytes + 2 * slot_bytes
            message = f"{name} needs {needed:,} bytes; {self._limits.memory_bytes:,} are allowed"
            raise SettingsError(message, where="--memory", hint="Allow more memory.")
        return max(num_slots, 1)

    def _make_room(self, name: str, num_bytes: int) -> None:
        """Close idle models, the longest unused first. Raises: BusyError."""
        closing: list[ServedModel] = []
        with self._lock:
            stale = self._open.pop(name, None)
            if stale is not None:
                (self._retired if stale.num_users else closing).append(stale)
            held = sum(model.num_bytes for model in (*self._open.values(), *self._retired))
            idle = sorted(
                (model for model in self._open.values() if not model.num_users),
                key=lambda model: model.last_used,
            )
            while held + num_bytes > self._limits.memory_bytes and idle:
                model = idle.pop(0)
                closing.append(self._open.pop(model.name))
                held -= model.num_bytes
        for model in closing:
            _close(model)
        if held + num_bytes > self._limits.memory_bytes:
            raise BusyError("other models are in use, and there is no memory for one more")


def _defaults(workspace: Workspace, name: str) -> GenerateSettings:
    return resolve(GenerateSettings, read_defaults(workspace, name))


def _close(model: ServedModel) -> None:
    """End its thread and free its memory, whoever still holds on to it."""
    model.scheduler.close()
    model.opened.close()


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _sizes(folder: Path, decoding: Decoding) -> tuple[int, int]:
    """Bytes of the weights, and of what a slot remembers, by the folder's small files."""
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    config = read_json(folder / "config.json")
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_width = int(config.get("head_dim") or width // heads)
    layers, context = int(config["num_hidden_layers"]), int(config["max_position_embeddings"])
    slot = 2 * layers * kv_heads * head_width * context * _FLOAT_BYTES[decoding.cache]
    return weights, max(slot, 1)
