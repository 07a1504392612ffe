"""A text that is being written: tokens become characters, stop strings end it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Literal

from cllm.config import GenerateSettings
from cllm.infer.engine import Runner, generate_tokens
from cllm.infer.stop_strings import StopStrings
from cllm.text.tokenizers import Tokenizer

Finish = Literal["length", "end of text", "stop string"]


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of a prompt; an empty one begins after the end-of-text token."""
    return [int(token) for token in tokenizer.encode(prompt)] or [tokenizer.eos_id]


class Completion:
    """The continuation of a prompt, piece by piece; iterate once, then read what it came to.

    Put together, the pieces are `text`: whole characters only, without the prompt and
    without the stop string that may have ended it. `windowed` says that the prompt is longer
    than the context, so that only its end was seen. Raises: SettingsError.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        settings: GenerateSettings,
        *,
        sample: int = 0,
    ) -> None:
        self.text = ""
        self.ids: list[int] = []
        self.finish: Finish = "length"
        self.windowed = len(prompt_ids) > runner.context
        self.seconds_to_first_token: float | None = None
        self.seconds = 0.0
        self._stop = StopStrings(settings.stop)
        self._stream = tokenizer.stream()
        self._max_tokens = settings.max_tokens
        self._tokens = generate_tokens(
            runner,
            prompt_ids,
            settings,
            eos_id=tokenizer.eos_id,
            banned=() if tokenizer.unk_id is None else (tokenizer.unk_id,),
            sample=sample,
        )

    @property
    def tokens_per_s(self) -> float:
        """Tokens written by the second, reading the prompt included."""
        return len(self.ids) / self.seconds if self.seconds else 0.0

    def __iter__(self) -> Iterator[str]:
        start = perf_counter()
        for piece in self._pieces(start):
            self.seconds = perf_counter() - start
            if piece:
                self.text += piece
                yield piece
        self.seconds = perf_counter() - start

    def _pieces(self, start: float) -> Iterator[str]:
        for token_id in self._tokens:
            if self.seconds_to_first_token is None:
                self.seconds_to_first_token = perf_counter() - start
            self.ids.append(token_id)
            yield self._stop.push(self._stream.push(token_id))
            if self._stop.found is not None:
                self.finish = "stop string"
                return
        if len(self.ids) < self._max_tokens:
            self.finish = "end of text"
        yield self._stop.push(self._stream.finish())
        if self._stop.found is not None:
            self.finish = "stop string"
        yield self._stop.finish()

    def run(self) -> Completion:
        """Write all of it; returns itself."""
        for _ in self:
            pass
        return self
