"""What computes logits and remembers: the compiled decoder, or torch where that lacks something."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32

from cllm.native.observation import EVERYTHING as EVERYTHING
from cllm.native.observation import Kept as Kept
from cllm.native.observation import Observation as Observation
from cllm.native.stream import Feed, Stream


@runtime_checkable
class Feeds(Protocol):
    """A model with `num_slots` slots, each of which remembers the tokens that it was fed.

    A slot holds `context` tokens; beyond, the first ones (attention sinks) and the latest.
    A logit does not depend on what is computed together with it, to the last bit.
    """

    @property
    def context(self) -> int:
        """Most tokens that a slot holds."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def num_slots(self) -> int:
        """How many texts it can remember at once."""

    def feed(self, feeds: Sequence[Feed], *, every: bool = False) -> Float32[np.ndarray, "R V"]:
        """Logits after the last token of each feed, or after every token of each, in order.

        Feeds have at least one token each, and different slots. Raises: ValueError.
        """

    def length(self, slot: int) -> int:
        """How many tokens a slot was fed."""

    def truncate(self, slot: int, length: int) -> bool:
        """Forget a slot's tokens from `length` on; False (all forgotten) if it can't go back."""

    def copy(self, source: int, target: int, length: int) -> bool:
        """Let `target` remember the first `length` tokens of `source`; False if it can't."""


@runtime_checkable
class Decoder(Feeds, Protocol):
    """One that also writes, and that one can look into."""

    def write(
        self,
        streams: Sequence[Stream],
        *,
        max_seconds: float,
        cancelled: Int32[np.ndarray, " 1"] | None = None,
    ) -> int:
        """Choose token after token for all streams, until one ends or the time is over.

        Each step feeds what is pending and appends a token to each stream whose pending tokens
        have all been fed; at least one step is done. A non-zero number in `cancelled`, which
        another thread may write, ends it within a token. Returns the number of steps.
        """

    def observe(
        self, ids: Int32[np.ndarray, " T"], *, keep: Collection[Kept] = EVERYTHING
    ) -> Observation:
        """What the model computes from a text that stands alone; T is at most the context.

        Only what is to be kept takes memory.
        """
