"""The models that are open: read when first asked for, the longest unused closed first."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from cllm.config import GenerateSettings, resolve
from cllm.errors import NotFoundError, SettingsError, StorageError
from cllm.files import read_json
from cllm.infer.passage import Drafting
from cllm.infer.scheduler import BusyError, Scheduler
from cllm.infer.slots import Slots
from cllm.jobs.chat import ChatFormat, read_chat_format
from cllm.jobs.model_service import last_used_model, note_used, read_defaults
from cllm.jobs.opening import Decoding, drafting_of, open_model
from cllm.server.limits import Limits
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

# The name of whichever model is the default.
ALIAS = "cllm"
_FLOAT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(slots=True, eq=False)
class ServedModel:
    """A model that is open; `chat` is None for one that knows no dialogue."""

    name: str
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
    stamp: tuple[object, ...]
    num_users: int = field(default=0)
    last_used: int = field(default=0)


@final
class Pool:
    """Opens models on demand within a limit of memory; one scheduler each.

    `is_training` says whether a training wants the processor: then models are opened for one
    thread, and idle ones opened again so.
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
        self._clock = itertools.count(1)
        self._is_closed = False

    def default_name(self) -> str:
        """The model that is meant where none is named. Raises: NotFoundError."""
        name = self._default or last_used_model(self.workspace)
        if name is None:
            raise NotFoundError("there is no model yet", where="model", hint="Train one first.")
        return name

    def resolve(self, name: str | None) -> str:
        """The name of an existing model, from a name, an alias or nothing.

        Raises: NotFoundError, InvalidNameError.
        """
        if not name or (name == ALIAS and not self.workspace.models.exists(ALIAS)):
            name = self.default_name()
        self.workspace.models.path(name)
        return name

    async def take(self, name: str | None) -> ServedModel:
        """An open model, which stays open until it is given back.

        Raises: NotFoundError, InvalidNameError, IntegrityError, BusyError, SettingsError.
        """
        real = self.resolve(name)
        stamp = self._stamp(real)
        found = self._take_open(real, stamp)
        if found is not None:
            return found
        # One at a time: each may need what another's closing frees.
        async with self._opening:
            found = self._take_open(real, stamp)
            if found is not None:
                return found
            return await asyncio.to_thread(self._read, real, stamp)

    def give_back(self, model: ServedModel) -> None:
        """A text is done with a model."""
        with self._lock:
            model.num_users -= 1
            model.last_used = next(self._clock)
            is_idle = model.num_users == 0 and model in self._retired
            if is_idle:
                self._retired.remove(model)
        if is_idle:
            threading.Thread(target=model.scheduler.close, daemon=True).start()

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
        for model in models:
            model.scheduler.close()

    def _take_open(self, name: str, stamp: tuple[object, ...]) -> ServedModel | None:
        with self._lock:
            found = self._open.get(name)
            if found is None:
                return None
            # What differs in threads alone is good enough while it is in use.
            if found.stamp != stamp and (found.stamp[:-1] != stamp[:-1] or not found.num_users):
                return None
            found.num_users += 1
            found.last_used = next(self._clock)
            return found

    def _stamp(self, name: str) -> tuple[object, ...]:
        """Changes when the model's files do; last, for how many threads it is to be opened."""
        folder = self.workspace.models.path(name)
        files = ("config.json", "model.safetensors", "manifest.json")
        times = tuple(
            (folder / file).stat().st_mtime_ns if (folder / file).is_file() else 0 for file in files
        )
        threads = 1 if self._is_training() else self._decoding.threads
        return (folder, times, threads)

    def _read(self, name: str, stamp: tuple[object, ...]) -> ServedModel:
        folder = self.workspace.models.path(name)
        weight_bytes, slot_bytes = _sizes(folder, self._decoding)
        num_slots = self._num_slots(name, weight_bytes, slot_bytes)
        num_bytes = weight_bytes + (num_slots + 1) * slot_bytes
        self._make_room(name, num_bytes)
        threads = stamp[-1]
        assert threads is None or isinstance(threads, int)
        opened = open_model(
            folder,
            self.workspace.home,
            threads=threads,
            cache=self._decoding.cache,
            num_slots=num_slots,
        )
        model = ServedModel(
            name=name,
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
            defaults=resolve(GenerateSettings, read_defaults(self.workspace, name)),
            num_bytes=num_bytes,
            stamp=stamp,
            num_users=1,
            last_used=next(self._clock),
        )
        with self._lock:
            if self._is_closed:
                raise BusyError("the server is stopping")
            self._open[name] = model
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
            model.scheduler.close()
        if held + num_bytes > self._limits.memory_bytes:
            raise BusyError("other models are in use, and there is no memory for one more")


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
