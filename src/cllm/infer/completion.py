"""One text, written while it is being read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter

from cllm.config import GenerateSettings
from cllm.infer.batch import Batch
from cllm.infer.constraints import Constraint
from cllm.infer.passage import NO_DRAFTING, Drafting, Finish, Passage, TokenScore
from cllm.infer.slots import Slots
from cllm.text.tokenizers import Tokenizer


class Completion:
    """The continuation of a prompt, piece by piece; iterate once, then read what it came to.

    Put together, the pieces are `text`; see `Passage` for what ends it and for the rest.
    Raises: SettingsError; while it is written, InputError where a constraint can't be met.
    """

    def __init__(
        self,
        slots: Slots,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        settings: GenerateSettings,
        *,
        sample: int = 0,
        constraint: Constraint | None = None,
        num_alternatives: int | None = None,
        drafting: Drafting = NO_DRAFTING,
    ) -> None:
        self.seconds_to_first_token: float | None = None
        self.seconds = 0.0
        self._batch = Batch(slots)
        self._passage = Passage(
            slots.decoder,
            tokenizer,
            prompt_ids,
            settings,
            sample=sample,
            constraint=constraint,
            num_alternatives=num_alternatives,
            drafting=drafting,
        )

    @property
    def text(self) -> str:
        """What is written so far, without the prompt."""
        return self._passage.text

    @property
    def ids(self) -> list[int]:
        """The tokens written so far."""
        return self._passage.ids

    @property
    def scores(self) -> list[TokenScore]:
        """Each token's log-probability, when alternatives were asked for."""
        return self._passage.scores

    @property
    def finish(self) -> Finish | None:
        """Why it ended; None while it has not."""
        return self._passage.finish

    @property
    def windowed(self) -> bool:
        """Whether the prompt is longer than the context, so that only its end was seen."""
        return self._passage.windowed

    @property
    def tokens_per_s(self) -> float:
        """Tokens written by the second, reading the prompt included."""
        return len(self.ids) / self.seconds if self.seconds else 0.0

    def cancel(self) -> None:
        """End it within a token; from any thread."""
        self._passage.is_cancelled = True
        self._batch.interrupt()

    def __iter__(self) -> Iterator[str]:
        start, passage = perf_counter(), self._passage
        assert passage.stream is None, "a text is written once"
        self._batch.add(passage, by_force=True)
        try:
            while passage.finish is None:
                pieces = self._batch.step()
                self.seconds = perf_counter() - start
                if self.seconds_to_first_token is None and self.ids:
                    self.seconds_to_first_token = self.seconds
                if passage.error is not None:
                    raise passage.error
                for _, piece in pieces:
                    if piece:
                        yield piece
            self.seconds = perf_counter() - start
        finally:
            self._batch.remove(passage)

    def run(self) -> Completion:
        """Write all of it; returns itself."""
        for _ in self:
            pass
        return self
