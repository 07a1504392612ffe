"""Which text has which slot of a decoder, and what the free ones still remember."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cllm.infer.decoder import Decoder


@runtime_checkable
class Holder(Protocol):
    """Whoever has a slot."""

    def held(self) -> list[int]:
        """The tokens that its slot was fed, from the first."""


@dataclass(slots=True)
class _Slot:
    holder: Holder | None = None
    # What a free slot was fed; empty where that is no beginning to go on from.
    known: list[int] = field(default_factory=list)
    last_used: int = 0

    def ids(self) -> list[int]:
        return self.known if self.holder is None else self.holder.held()


class Slots:
    """Gives each text a slot, so chosen that what is known of its beginning is not read again.

    `lock` is held by whoever calls the decoder: it does one thing at a time.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.lock = threading.RLock()
        self._slots = [_Slot() for _ in range(decoder.num_slots)]
        self._clock = itertools.count(1)

    def take(self, ids: Sequence[int], holder: Holder, *, by_force: bool = False) -> Place | None:
        """A slot for a text that begins with `ids`; None where all are taken.

        Of the free slots, the one that remembers the longest beginning; where a taken one
        remembers a longer one, it is copied into the free slot that was unused the longest.
        With `by_force` the holder that was idle the longest loses its slot instead.
        """
        with self.lock:
            if by_force and all(slot.holder for slot in self._slots):
                self._slots[self._oldest(range(len(self._slots)))].holder = None
            free = [number for number, slot in enumerate(self._slots) if slot.holder is None]
            if not free:
                return None
            # One token at least is fed, or there would be no logits to begin with.
            shared = [_num_shared(slot.ids(), ids[:-1]) for slot in self._slots]
            best = max(free, key=lambda number: (shared[number], -self._slots[number].last_used))
            source = max(range(len(shared)), key=lambda number: shared[number])
            if shared[source] > shared[best]:
                best = self._oldest(free)
                num_known = shared[source]
                is_kept = self.decoder.copy(source, best, num_known)
            else:
                num_known = shared[best]
                is_kept = self.decoder.truncate(best, num_known)
            slot = self._slots[best]
            slot.holder, slot.known = holder, []
            self.touch(best)
            return Place(best, num_known if is_kept else 0)

    def give_back(self, slot: int, holder: Holder) -> None:
        """Free a slot, which goes on remembering; nothing where another has it by now."""
        with self.lock:
            if self._slots[slot].holder is not holder:
                return
            held = holder.held()
            self._slots[slot].holder = None
            # A text beyond the context has lost what follows its first tokens.
            self._slots[slot].known = held if len(held) <= self.decoder.context else []

    def has(self, slot: int, holder: Holder) -> bool:
        """Whether a slot is still this holder's."""
        return self._slots[slot].holder is holder

    def touch(self, slot: int) -> None:
        """Note that a slot was used."""
        self._slots[slot].last_used = next(self._clock)

    def forget(self) -> None:
        """Free all slots and let none remember anything: after a failure in the middle."""
        with self.lock:
            for slot in self._slots:
                slot.holder, slot.known = None, []

    def _oldest(self, numbers: Sequence[int]) -> int:
        return min(numbers, key=lambda number: self._slots[number].last_used)


@dataclass(frozen=True, slots=True)
class Place:
    """A slot, and how many of the text's first tokens it remembers."""

    slot: int
    num_known: int


def _num_shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
