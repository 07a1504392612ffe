"""Texts for many who ask at once: one thread owns the decoder and serves them together."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import final

from cllm.config import GenerateSettings
from cllm.errors import CllmError
from cllm.infer.batch import Batch
from cllm.infer.constraints import Constraint
from cllm.infer.passage import NO_DRAFTING, Drafting, Passage
from cllm.infer.slots import Slots
from cllm.text.tokenizers import Tokenizer


class BusyError(CllmError):
    """More texts are waiting than there is room for; later there may be."""


@final
class Answer:
    """A text that was asked for: iterate over its pieces as they come; `passage` has the rest.

    Iterating raises what ended the text, if something went wrong.
    """

    def __init__(self, scheduler: Scheduler, passage: Passage) -> None:
        self.passage = passage
        self._scheduler = scheduler
        # None is behind the last piece.
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[str]:
        while (piece := self._pieces.get()) is not None:
            yield piece
        if self.passage.error is not None:
            raise self.passage.error

    def text(self) -> str:
        """Wait for the end; the whole text."""
        for _ in self:
            pass
        return self.passage.text

    def cancel(self) -> None:
        """End it within a token, or before it has begun; from any thread."""
        self.passage.is_cancelled = True
        self._scheduler.wake()

    def deliver(self, piece: str) -> None:
        """Pass on new text, and that it has ended."""
        if piece:
            self._pieces.put(piece)
        if self.passage.finish is not None:
            self._pieces.put(None)


@final
class Scheduler:
    """Serves at most `num_slots` texts at once and lets `most_waiting` others wait in turn.

    Its thread begins with the first text and sleeps while there is none. Texts join and leave
    between tokens, and none depends on what else is written. To be closed, or used in `with`.
    """

    def __init__(self, slots: Slots, tokenizer: Tokenizer, *, most_waiting: int = 64) -> None:
        self._slots, self._tokenizer, self._most_waiting = slots, tokenizer, most_waiting
        self._batch = Batch(slots)
        self._waiting: deque[Answer] = deque()
        self._going: dict[int, Answer] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(
        self,
        prompt_ids: Sequence[int],
        settings: GenerateSettings,
        *,
        sample: int = 0,
        constraint: Constraint | None = None,
        num_alternatives: int | None = None,
        drafting: Drafting = NO_DRAFTING,
    ) -> Answer:
        """Ask for a text; returns at once. Raises: SettingsError, BusyError."""
        passage = Passage(
            self._slots.decoder,
            self._tokenizer,
            prompt_ids,
            settings,
            sample=sample,
            constraint=constraint,
            num_alternatives=num_alternatives,
            drafting=drafting,
        )
        answer = Answer(self, passage)
        with self._changed:
            if self._is_closed:
                raise BusyError("no more texts are written here")
            if len(self._waiting) >= self._most_waiting:
                hint = "Ask again in a while."
                raise BusyError(f"{self._most_waiting} texts are waiting already", hint=hint)
            self._waiting.append(answer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cllm-decoder", daemon=True)
                self._thread.start()
        self.wake()
        return answer

    def wake(self) -> None:
        """Let the thread look at what has changed, within a token."""
        with self._changed:
            self._batch.interrupt()
            self._changed.notify()

    def close(self) -> None:
        """End all texts as cancelled, and the thread."""
        with self._changed:
            self._is_closed = True
            for answer in (*self._waiting, *self._going.values()):
                answer.passage.is_cancelled = True
        self.wake()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._going or self._is_closed):
                    self._changed.wait()
                if self._is_closed and not (self._waiting or self._going):
                    return
                self._admit()
            self._step()

    def _admit(self) -> None:
        """Let those join who waited longest; drop those who gave up. The lock is held."""
        kept: deque[Answer] = deque()
        while self._waiting:
            answer = self._waiting.popleft()
            passage = answer.passage
            if passage.is_cancelled:
                passage.finish = "cancelled"
                answer.deliver("")
            elif not kept and self._batch.add(passage):
                self._going[id(passage)] = answer
            else:
                kept.append(answer)
        self._waiting = kept

    def _step(self) -> None:
        try:
            pieces = self._batch.step()
        except Exception as error:
            # The decoder itself failed: those who were being served are told, others go on.
            for answer in self._going.values():
                answer.passage.fail(error)
                answer.deliver("")
            self._going.clear()
            return
        for passage, piece in pieces:
            answer = self._going[id(passage)]
            if passage.finish is not None:
                with self._changed:
                    del self._going[id(passage)]
            answer.deliver(piece)
