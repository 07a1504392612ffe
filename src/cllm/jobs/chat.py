"""Talk with a model, turn by turn.

A model of dialogue gets the conversation in the turn format of its training text and stops
where its own turn ends. Any other model goes on with the text that both have written.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cllm.config import GenerateSettings, resolve
from cllm.errors import ExistsError, InputError
from cllm.files import read_json, write_atomic, write_json
from cllm.infer.completion import Completion
from cllm.infer.passage import prompt_tokens
from cllm.jobs.generate import Notice, Writer
from cllm.jobs.model_folder import read_training
from cllm.jobs.opening import DEFAULT, Decoding
from cllm.text.chat_template import render_chat
from cllm.text.clean import clean_text
from cllm.text.dialogue import Dialogue
from cllm.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How a model wants a conversation written, and the strings that end its turn."""

    chat_template: str
    stop: tuple[str, ...]
    user: str
    assistant: str


def read_chat_format(folder: Path) -> ChatFormat | None:
    """The chat format of a model's folder, None when it has none. Raises: IntegrityError."""
    dialogue = read_training(folder).get("dialogue")
    if dialogue:
        known = Dialogue.from_json(dialogue)
        return ChatFormat(known.chat_template, known.stop, known.user, known.assistant)
    template = _read(folder / "tokenizer_config.json").get("chat_template")
    if not isinstance(template, str):
        return None
    stop = _read(folder / "generation_config.json").get("stop_strings") or ()
    return ChatFormat(template, tuple(stop), "user", "assistant")


def _read(path: Path) -> Mapping[str, Any]:
    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


class Chat:
    """A conversation with a model.

    `messages` holds what was said; `text` what both wrote when the model knows no dialogue.
    Raises: NotFoundError, IntegrityError.
    """

    def __init__(
        self,
        model: str,
        settings: GenerateSettings,
        *,
        workspace: Workspace,
        on_notice: Notice,
        decoding: Decoding = DEFAULT,
    ) -> None:
        folder = workspace.models.path(model)
        self.model, self.settings = model, settings
        self.format = read_chat_format(folder)
        self.messages: list[dict[str, str]] = []
        self.text = ""
        self._writer = Writer(folder, workspace.home, decoding)
        self._notice = on_notice
        if self._writer.notice is not None:
            on_notice(self._writer.notice)
        self._num_replies = 0
        self._has_told_full = False
        self._saved: set[Path] = set()

    def say(self, text: str) -> Generator[str]:
        """Take the person's turn; yield the model's, piece by piece.

        When the iteration is given up early, what was written so far stays in the
        conversation. Raises: InputError, SettingsError.
        """
        unknown = self._writer.unknown_pieces(text)
        if unknown:
            shown = ", ".join(map(repr, unknown[:8]))
            self._notice(f"The model has no token for {shown}.")
        if self.format is None:
            return self._continue(text)
        return self._reply(text, self.format)

    def reset(self) -> None:
        """Forget the conversation."""
        self.messages.clear()
        self.text = ""
        self._has_told_full = False

    def set(self, name: str, value: str) -> None:
        """Change a setting by its name. Raises: SettingsError."""
        given = self.settings.model_dump(exclude_unset=True)
        key = name.lstrip("-").replace("-", "_")
        is_list = key in ("stop", "logit_bias")
        parsed = None if value == "none" else (value,) if is_list else value
        given.pop(key, None)
        self.settings = resolve(GenerateSettings, given | {key: parsed})

    def transcript(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "model": self.model,
            "is_dialogue": self.format is not None,
            "user": self.format.user if self.format else None,
            "assistant": self.format.assistant if self.format else None,
            "messages": list(self.messages),
            "text": self.text if self.format is None else self._render(self.messages),
            "settings": self.settings.model_dump(mode="json"),
        }

    def save(self, path: Path) -> None:
        """Write the transcript: as JSON when the name ends so, else as text.

        Raises: ExistsError for a file that this conversation has not written, InputError,
        StorageError.
        """
        path = path.absolute()
        if path.is_dir():
            raise InputError("that is a folder", where=path, hint="Name a file.")
        if path.exists() and path not in self._saved:
            raise ExistsError("that file is there already", where=path, hint="Name another.")
        if path.suffix == ".json":
            write_json(path, self.transcript())
        else:
            write_atomic(path, self.transcript()["text"])
        self._saved.add(path)

    def _reply(self, text: str, form: ChatFormat) -> Generator[str]:
        self.messages.append({"role": "user", "content": clean_text(text)})
        prompt = self._fit(self.settings.max_tokens)
        stop = (*form.stop, *self.settings.stop)
        settings = self.settings.model_copy(update={"stop": stop})
        completion = self._complete(prompt, settings)
        if completion.windowed:
            self._tell_full("Only the end of what you said is seen")
        try:
            is_begun = False
            for piece in completion:
                # The blank after "Name:" belongs to the format, not to what is said.
                shown = piece if is_begun else piece.lstrip()
                is_begun = is_begun or bool(shown)
                if shown:
                    yield shown
        finally:
            self.messages.append({"role": "assistant", "content": completion.text.strip()})

    def _continue(self, text: str) -> Generator[str]:
        joint = "\n" if self.text and text and not self.text.endswith("\n") else ""
        self.text += joint + clean_text(text)
        if len(prompt_tokens(self._writer.tokenizer, self.text)) > self._writer.context:
            self._tell_full("Only the end of the text is seen")
        before = self.text
        completion = self._complete(before, self.settings)
        try:
            yield from completion
        finally:
            self.text = before + completion.text
            self.messages.append({"role": "user", "content": text})
            self.messages.append({"role": "assistant", "content": completion.text})

    def _complete(self, prompt: str, settings: GenerateSettings) -> Completion:
        # Each reply draws anew, so that the same question can be answered otherwise.
        self._num_replies += 1
        return self._writer.complete(
            prompt,
            settings,
            sample=self._num_replies - 1,
            is_rendered=self.format is not None,
        )

    def _fit(self, max_tokens: int) -> str:
        """The newest turns that leave room for a reply (at most half of the context)."""
        room = self._writer.context - min(max_tokens, self._writer.context // 2)
        for first in range(0, len(self.messages), 2):
            prompt = self._render(self.messages[first:], add_generation_prompt=True)
            ids = prompt_tokens(self._writer.tokenizer, prompt, is_rendered=True)
            if len(ids) <= room:
                break
        if first:
            self._tell_full("The oldest turns drop out")
        return prompt

    def _render(
        self, messages: list[dict[str, str]], *, add_generation_prompt: bool = False
    ) -> str:
        assert self.format is not None
        return render_chat(
            self.format.chat_template,
            messages,
            add_generation_prompt=add_generation_prompt,
            eos_token=self._writer.tokenizer.eos_token,
        )

    def _tell_full(self, what: str) -> None:
        if not self._has_told_full:
            self._has_told_full = True
            self._notice(f"{what}: the model sees {self._writer.context:,} tokens at once.")
