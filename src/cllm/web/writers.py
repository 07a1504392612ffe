"""The models that pages let write: opened on demand, one scheduler each."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cllm.config import GenerateSettings
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.infer.scheduler import Answer, Scheduler
    from cllm.jobs.chat import ChatFormat
    from cllm.text.tokenizers import Tokenizer

# Texts that a model writes at once for the pages.
_NUM_SLOTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class OpenWriter:
    """A model that writes for pages; `chat` is None for one that knows no dialogue."""

    name: str
    context: int
    tokenizer: Tokenizer
    chat: ChatFormat | None
    notice: str | None
    scheduler: Scheduler

    def go_on(self, text: str, settings: GenerateSettings, *, sample: int, shades: bool) -> Answer:
        """Continue a text. Raises: SettingsError, BusyError."""
        ids = self.prompt_ids(text)
        return self._submit(ids, settings, sample, shades=shades)

    def reply(
        self,
        messages: Sequence[Mapping[str, str]],
        settings: GenerateSettings,
        *,
        sample: int,
        shades: bool,
    ) -> tuple[Answer, int]:
        """The model's turn after these messages, and how many of the oldest did not fit.

        At least half of the context is for what was said. Raises: SettingsError, BusyError,
        InputError where the template refuses the messages.
        """
        assert self.chat is not None, "the page asks first"
        room = self.context - min(settings.max_tokens, self.context // 2)
        first, ids = 0, self._rendered(messages)
        while len(ids) > room and first + 1 < len(messages):
            first += 1
            # A conversation begins with what the person said.
            if messages[first]["role"] != "assistant":
                ids = self._rendered(messages[first:])
        stop = (*self.chat.stop, *settings.stop)
        asked = settings.model_copy(update={"stop": stop})
        return self._submit(ids, asked, sample, shades=shades), first

    def prompt_ids(self, text: str) -> list[int]:
        """The tokens of a prompt, as the model reads it."""
        from cllm.infer.passage import prompt_tokens
        from cllm.text.clean import clean_text

        return prompt_tokens(self.tokenizer, clean_text(text))

    def _rendered(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        from cllm.infer.passage import prompt_tokens
        from cllm.text.chat_template import render_chat

        assert self.chat is not None
        prompt = render_chat(self.chat.chat_template, messages, add_generation_prompt=True)
        return prompt_tokens(self.tokenizer, prompt, is_rendered=True)

    def _submit(
        self, ids: list[int], settings: GenerateSettings, sample: int, *, shades: bool
    ) -> Answer:
        return self.scheduler.submit(
            ids, settings, sample=sample, num_alternatives=5 if shades else None
        )


class Writers:
    """The open models by name; each is opened once, by the first who asks."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._open: dict[str, tuple[float, OpenWriter]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> OpenWriter:
        """The model of that name, opened if need be: blocks while it is read.

        Raises: NotFoundError, IntegrityError.
        """
        from cllm.infer.scheduler import Scheduler
        from cllm.jobs.chat import read_chat_format
        from cllm.jobs.opening import open_model

        folder = self._workspace.models.path(name)
        changed = (folder / "config.json").stat().st_mtime
        with self._lock:
            found = self._open.get(name)
            if found is not None and found[0] == changed:
                return found[1]
            opened = open_model(folder, self._workspace.home, num_slots=_NUM_SLOTS)
            writer = OpenWriter(
                name=name,
                context=opened.decoder.context,
                tokenizer=opened.tokenizer,
                chat=read_chat_format(folder),
                notice=opened.notice,
                scheduler=Scheduler(opened.slots, opened.tokenizer),
            )
            self._open[name] = (changed, writer)
            return writer

    def close(self) -> None:
        """End all texts."""
        with self._lock:
            for _, writer in self._open.values():
                writer.scheduler.close()
            self._open.clear()


def settings_of(values: Mapping[str, Any]) -> GenerateSettings:
    """Settings of a conversation, those it does not name as they are by default.

    Raises: SettingsError.
    """
    from cllm.config import resolve

    names = GenerateSettings.model_fields
    return resolve(GenerateSettings, {key: values[key] for key in names if key in values})
