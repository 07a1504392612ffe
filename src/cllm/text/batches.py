"""Batches of windows from a row of tokens, each a pure function of seed and number.

No state is kept between batches, so a run that is stopped anywhere goes on with exactly the
windows it would have had.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray


@runtime_checkable
class Tokens(Protocol):
    """A row of token ids that can be longer than memory."""

    def __len__(self) -> int: ...
    def read(self, start: int, length: int) -> NDArray[np.uint32]:
        """The ids from `start` on."""
        ...


class Batches:
    """Windows of `context` tokens and their successors, in random order.

    Each epoch shifts the windows by a new phase and visits every one once. `len(tokens)`
    must exceed `context`.
    """

    def __init__(self, tokens: Tokens, *, context: int, seed: int) -> None:
        assert len(tokens) > context, "the caller checks that the corpus fills a window"
        self._tokens, self._context, self._seed = tokens, context, seed
        self.windows_per_epoch = max(1, (len(tokens) - context) // context)
        self._epoch = -1
        self._starts: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def read(
        self, first: int, count: int
    ) -> tuple[Int32[np.ndarray, "B T"], Int32[np.ndarray, "B T"]]:
        """Inputs and targets of `count` windows from number `first` on, counted from 0."""
        rows = np.empty((count, self._context + 1), np.int32)
        for row in range(count):
            rows[row] = self._window(first + row)
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])

    def _window(self, index: int) -> NDArray[np.uint32]:
        epoch, position = divmod(index, self.windows_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        return self._tokens.read(int(self._starts[position]), self._context + 1)

    def _start_epoch(self, epoch: int) -> None:
        random = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        slack = len(self._tokens) - self.windows_per_epoch * self._context
        phase = random.integers(0, min(self._context, max(slack, 1)))
        order = random.permutation(self.windows_per_epoch).astype(np.int64)
        self._starts = phase + order * self._context
        self._epoch = epoch
