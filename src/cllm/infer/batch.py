"""Several texts written at once: they join and leave between tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32

from cllm.infer.passage import Passage
from cllm.infer.slots import Slots

# Between two looks at what was written: short enough to seem immediate.
PIECE_SECONDS = 0.02
# A look costs some microseconds for each text: where others are written too, the first token of
# a new one waits until a look is worth it.
_FIRST_SECONDS = 0.0002


class Batch:
    """The texts that are being written in the slots of a decoder."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.going: list[Passage] = []
        # Whether it would take long until others may join.
        self.is_long = False
        self._interrupt: Int32[np.ndarray, " 1"] = np.zeros(1, np.int32)

    def add(self, passage: Passage, *, by_force: bool = False) -> bool:
        """Give a text a slot; False where none is free (see `Slots.take`)."""
        place = self.slots.take(passage.beginning(), passage, by_force=by_force)
        if place is None:
            return False
        passage.put(place)
        self.going.append(passage)
        return True

    def remove(self, passage: Passage) -> None:
        """Let a text go; its slot remembers what it can."""
        if passage in self.going:
            self.going.remove(passage)
            assert passage.stream is not None
            self.slots.give_back(passage.stream.slot, passage)

    def interrupt(self) -> None:
        """From another thread: let the step that is going on end within a token."""
        self._interrupt[0] = 1

    def step(self, max_seconds: float = PIECE_SECONDS) -> list[tuple[Passage, str]]:
        """Write for a while; returns the new text of each passage, and removes those that ended.

        Less long where one has none yet, and only a token each where one must be looked at after
        each token. What goes wrong with one passage ends that one (its `error`); a failure of
        the decoder ends all.
        """
        with self.slots.lock:
            pieces = self._prepare()
            ready = [passage for passage in self.going if passage.finish is None]
            if ready:
                if any(passage.goes_step_by_step for passage in ready):
                    max_seconds = 0.0
                elif any(not passage.ids for passage in ready):
                    max_seconds = min(max_seconds, _FIRST_SECONDS * (len(ready) - 1))
                else:
                    self.is_long = True
                streams = [passage.stream for passage in ready if passage.stream is not None]
                try:
                    self.slots.decoder.write(
                        streams, max_seconds=max_seconds, cancelled=self._interrupt
                    )
                except BaseException:
                    # What the slots hold by now is not known.
                    self.slots.forget()
                    self.going.clear()
                    raise
                finally:
                    self.is_long = False
                    # Whoever interrupts has changed first what is looked at from here on.
                    self._interrupt[0] = 0
            for passage in ready:
                pieces.append((passage, _collect(passage)))
            for passage, _ in pieces:
                if passage.finish is not None:
                    self.remove(passage)
        return pieces

    def _prepare(self) -> list[tuple[Passage, str]]:
        """Make every passage ready; returns those that ended by it."""
        ended = []
        for passage in self.going:
            assert passage.stream is not None
            if passage.is_cancelled:
                ended.append((passage, _collect(passage)))
                continue
            if not self.slots.has(passage.stream.slot, passage):
                place = self.slots.take(passage.beginning(), passage, by_force=True)
                assert place is not None
                passage.put(place)
            self.slots.touch(passage.stream.slot)
            try:
                passage.prepare()
            except Exception as error:
                passage.fail(error)
                ended.append((passage, ""))
        return ended


def _collect(passage: Passage) -> str:
    try:
        return passage.collect()
    except Exception as error:
        passage.fail(error)
        return ""


def write_all(slots: Slots, passages: Sequence[Passage]) -> Iterator[tuple[int, str]]:
    """Write all passages, as many at once as there are slots.

    Yields the number of a passage and its next piece of text. Raises: what one of them raised.
    """
    batch = Batch(slots)
    numbers = {id(passage): number for number, passage in enumerate(passages)}
    waiting = deque(passages)
    try:
        while waiting or batch.going:
            while waiting and batch.add(waiting[0], by_force=not batch.going):
                waiting.popleft()
            for passage, piece in batch.step():
                if passage.error is not None:
                    raise passage.error
                if piece:
                    yield numbers[id(passage)], piece
    finally:
        for passage in list(batch.going):
            batch.remove(passage)
