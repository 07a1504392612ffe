"""Texts for many who ask at once: one thread owns the decoder and serves them together."""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from cllm.config import GenerateSettings
from cllm.errors import CllmError
from cllm.infer.batch import Batch
from cllm.infer.constraints import Constraint
from cllm.infer.passage import NO_DRAFTING, Drafting, Passage
from cllm.infer.slots import Slots
from cllm.text.tokenizers import Tokenizer

# One slot of so many is never given to somebody who has all the rest.
_LEFT_TO_OTHERS = 8


class BusyError(CllmError):
    """More texts are waiting than there is room for; later there may be."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a text is written: characters, scores of tokens, and whether that is all."""

    num_characters: int
    num_scores: int
    is_over: bool


@final
class Answer:
    """A text that was asked for: iterate over its pieces as they come; `passage` has the rest.

    Iterating raises what ended the text, if something went wrong. Who would rather look than
    wait is called (`on_news`, from the scheduler's thread; whether it has ended) and finds how
    far the text is whole in `progress`: the passage itself may be ahead of it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        passage: Passage,
        on_news: Callable[[bool], None] | None,
        owner: object,
    ) -> None:
        self.passage = passage
        self.owner = self if owner is None else owner
        self.progress = Progress(0, 0, is_over=False)
        self._scheduler, self._on_news = scheduler, on_news
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
        self._scheduler.give_up(self)

    def deliver(self, piece: str) -> None:
        """Pass on new text, and that it has ended."""
        passage = self.passage
        is_over = passage.finish is not None
        self.progress = Progress(len(passage.text), len(passage.scores), is_over)
        if piece:
            self._pieces.put(piece)
        if is_over:
            self._pieces.put(None)
        if self._on_news is not None and (piece or is_over):
            self._on_news(is_over)


@final
class Scheduler:
    """Serves at most `num_slots` texts at once and lets `most_waiting` others wait in turn.

    Its thread begins with the first text and sleeps while there is none. Texts join and leave
    between tokens, and none depends on what else is written. Who asks for many at once leaves
    some slots to others, and those who have the fewest texts going come first. To be closed, or
    used in `with`.
    """

    def __init__(self, slots: Slots, tokenizer: Tokenizer, *, most_waiting: int = 64) -> None:
        self._slots, self._tokenizer, self._most_waiting = slots, tokenizer, most_waiting
        self._batch = Batch(slots)
        self._waiting: deque[Answer] = deque()
        self._going: dict[int, Answer] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        num_slots = slots.decoder.num_slots
        self._most_of_one = num_slots - num_slots // _LEFT_TO_OTHERS
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
        on_news: Callable[[bool], None] | None = None,
        owner: object = None,
    ) -> Answer:
        """Ask for a text; returns at once (see `Answer`).

        Texts with the same `owner` share their turns. Raises: SettingsError, BusyError.
        """
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
        answer = Answer(self, passage, on_news, owner)
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
            # Where all slots are taken there is no use in looking before one is free.
            if self._batch.is_long and len(self._going) < self._slots.decoder.num_slots:
                self._batch.interrupt()
            self._changed.notify()
        return answer

    def give_up(self, answer: Answer) -> None:
        """Let a text go that was cancelled: at once if it waits, else within a token."""
        with self._changed:
            if answer in self._waiting:
                self._waiting.remove(answer)
                answer.passage.finish = "cancelled"
                answer.deliver("")
            elif id(answer.passage) in self._going:
                self._batch.interrupt()

    def counts(self) -> tuple[int, int]:
        """How many texts are being written, and how many wait."""
        with self._changed:
            return len(self._going), len(self._waiting)

    def close(self) -> None:
        """End all texts as cancelled, and the thread."""
        with self._changed:
            self._is_closed = True
            for answer in (*self._waiting, *self._going.values()):
                answer.passage.is_cancelled = True
                self.give_up(answer)
            self._changed.notify()
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
        """Let those join whose turn it is."""
        while True:
            with self._changed:
                answer = self._next()
            if answer is None:
                return
            # Without the lock: slots may be in use elsewhere, and nobody who asks waits for that.
            if not self._batch.add(answer.passage):
                return
            with self._changed:
                is_wanted = answer.passage.finish is None
                if is_wanted:
                    self._waiting.remove(answer)
                    self._going[id(answer.passage)] = answer
            if not is_wanted:
                self._batch.remove(answer.passage)

    def _next(self) -> Answer | None:
        """Whose owner has the fewest texts going, of several the one who waited longest."""
        nums = Counter(id(answer.owner) for answer in self._going.values())
        first = min(self._waiting, key=lambda answer: nums[id(answer.owner)], default=None)
        if first is None or nums[id(first.owner)] >= self._most_of_one:
            return None
        return first

    def _step(self) -> None:
        try:
            pieces = self._batch.step()
        except Exception as error:
            # The decoder itself failed: those who were being served are told, others go on.
            with self._changed:
                failed = list(self._going.values())
                self._going.clear()
            for answer in failed:
                answer.passage.fail(error)
                answer.deliver("")
            return
        for passage, piece in pieces:
            answer = self._going[id(passage)]
            if passage.finish is not None:
                with self._changed:
                    del self._going[id(passage)]
            answer.deliver(piece)
