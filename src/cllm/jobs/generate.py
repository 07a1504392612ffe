"""Let a model continue a prompt."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cllm.config import GenerateSettings
from cllm.files import check_manifest
from cllm.infer.completion import Completion, prompt_tokens
from cllm.text.clean import clean_text
from cllm.text.tokenizers import Tokenizer
from cllm.workspace.workspace import Workspace

OnText = Callable[[int, str], None]
Notice = Callable[[str], None]

_MOST_UNKNOWN_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation; `finish` says why it ended."""

    text: str
    tokens: int
    finish: str


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """What was written and how fast; the first sample stands for itself.

    `tokens` counts all samples; `seconds_to_first_token` begins when the model is loaded.
    `windowed`: the prompt is longer than the context, and only its end was seen. `unknown`:
    pieces of the prompt that the model has no word for.
    """

    model: str
    text: str
    tokens: int
    tokens_per_s: float
    seconds_to_first_token: float | None
    seconds_to_load: float
    finish: str
    prompt_tokens: int
    windowed: bool
    unknown: list[str]
    seed: int
    samples: list[Sample]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `samples` only when there are several."""
        value = asdict(self)
        if len(self.samples) == 1:
            del value["samples"]
        return value


class Writer:
    """A model opened for writing.

    Raises: IntegrityError naming the file that is damaged.
    """

    def __init__(self, folder: Path) -> None:
        from cllm.infer.torch_runner import TorchRunner

        check_manifest(folder)
        self.tokenizer = Tokenizer.load(folder)
        self.runner = TorchRunner.load(folder)

    @property
    def context(self) -> int:
        """Tokens the model sees at once."""
        return self.runner.context

    def complete(self, prompt: str, settings: GenerateSettings, *, sample: int = 0) -> Completion:
        """The continuation of a prompt, to be iterated. Raises: SettingsError, InputError."""
        ids = prompt_tokens(self.tokenizer, clean_text(prompt))
        return Completion(self.runner, self.tokenizer, ids, settings, sample=sample)

    def unknown_pieces(self, prompt: str) -> list[str]:
        """Words (or characters) of a prompt that the vocabulary lacks, each once."""
        tokenizer, prompt = self.tokenizer, clean_text(prompt)
        if not tokenizer.unknown_bytes(prompt):
            return []
        pieces = list(prompt) if tokenizer.kind == "characters" else _PIECE.findall(prompt)
        return [piece for piece in dict.fromkeys(pieces) if tokenizer.unknown_bytes(piece)]


_PIECE = re.compile(r"\w+|\n|[^\S\n]+|[^\w\s]")


def generate(
    model: str,
    prompt: str,
    settings: GenerateSettings,
    *,
    workspace: Workspace,
    num_samples: int = 1,
    on_text: OnText | None = None,
    on_notice: Notice | None = None,
) -> GenerateResult:
    """Write `num_samples` continuations, each with a seed of its own made from `settings.seed`.

    `on_text` gets the number of the sample and each piece of text as it comes.
    Raises: NotFoundError, IntegrityError, SettingsError, InputError.
    """
    began = time.perf_counter()
    folder = workspace.models.path(model)
    writer = Writer(folder)
    loaded = time.perf_counter()
    unknown = writer.unknown_pieces(prompt)
    completions = [
        writer.complete(prompt, settings, sample=number) for number in range(num_samples)
    ]
    num_prompt_tokens = len(prompt_tokens(writer.tokenizer, clean_text(prompt)))
    if on_notice is not None:
        for notice in _notices(unknown, num_prompt_tokens, writer.context):
            on_notice(notice)
    for number, completion in enumerate(completions):
        for piece in completion:
            if on_text is not None:
                on_text(number, piece)
    samples = [Sample(done.text, len(done.ids), done.finish) for done in completions]
    num_tokens = sum(sample.tokens for sample in samples)
    return GenerateResult(
        model=model,
        text=samples[0].text,
        tokens=num_tokens,
        tokens_per_s=num_tokens / max(sum(done.seconds for done in completions), 1e-9),
        seconds_to_first_token=completions[0].seconds_to_first_token,
        seconds_to_load=loaded - began,
        finish=samples[0].finish,
        prompt_tokens=num_prompt_tokens,
        windowed=completions[0].windowed,
        unknown=unknown,
        seed=settings.seed,
        samples=samples,
    )


def _notices(unknown: list[str], num_prompt_tokens: int, context: int) -> list[str]:
    notices = []
    if unknown:
        shown = ", ".join(repr(piece) for piece in unknown[:_MOST_UNKNOWN_SHOWN])
        more = len(unknown) - _MOST_UNKNOWN_SHOWN
        more_shown = f" and {more} more" if more > 0 else ""
        notices.append(f"The model has no token for {shown}{more_shown} of the prompt.")
    if num_prompt_tokens > context:
        notices.append(
            f"The prompt has {num_prompt_tokens:,} tokens, the model sees {context:,} at once: "
            "only its end counts."
        )
    return notices
