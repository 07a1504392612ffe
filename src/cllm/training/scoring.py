"""How well a model predicts a text: nats per token and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from cllm.text.batches import Tokens


@runtime_checkable
class Scorer(Protocol):
    """What can say how likely tokens are: a `Transformer`, a `Learner`, an `Engine`."""

    @property
    def context(self) -> int:
        """Most tokens it sees at once."""
        ...

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """Summed loss over the scored tokens."""

    nats: float
    num_tokens: int

    @property
    def nats_per_token(self) -> float:
        """Mean loss of a scored token."""
        return self.nats / self.num_tokens if self.num_tokens else math.nan


def bits_per_byte(score: Score, *, num_scored: int, num_bytes: int, charged_bytes: int) -> float:
    """Bits to write one byte of the text down.

    `num_scored` is the number of scorable tokens in the whole text (the score may come from
    a part of it); each of the `charged_bytes` the tokens can't spell costs 8 bits.
    """
    if num_bytes == 0:
        return math.nan
    nats = score.nats_per_token * num_scored if num_scored else 0.0
    return (nats / math.log(2) + 8.0 * charged_bytes) / num_bytes


class ArrayTokens:
    """Ids in memory, as `Tokens`."""

    def __init__(self, ids: NDArray[np.uint32]) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def read(self, start: int, length: int) -> NDArray[np.uint32]:
        """The ids from `start` on."""
        return self._ids[start : start + length]


def count_scored(tokens: Tokens, *, unscored: tuple[int, ...]) -> int:
    """Number of tokens that are none of `unscored` (end of text, unknown)."""
    total = 0
    for start in range(0, len(tokens), 1 << 22):
        part = tokens.read(start, min(1 << 22, len(tokens) - start))
        total += int(len(part) - np.isin(part, unscored).sum())
    return total


def score_tokens(
    model: Scorer,
    tokens: Tokens,
    *,
    eos_id: int,
    unk_id: int | None,
    stride: int | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = 8192,
) -> Score:
    """Score every token exactly once, the text starting after the end-of-text token.

    Windows of the context move by `stride` (the context unless given: no overlap); each
    scores only what no earlier one has. Targets that are end-of-text or unknown are left
    out. With `max_tokens`, evenly spaced windows of about that many tokens stand for all.
    """
    context = model.context
    stride = min(stride or context, context)
    unscored = (eos_id,) if unk_id is None else (eos_id, unk_id)
    nats, num_tokens = 0.0, 0
    rows = max(1, batch_tokens // context)
    for windows in _batched(_windows(len(tokens), context, stride, max_tokens), rows):
        inputs = np.full((len(windows), context), eos_id, np.int32)
        targets = np.full((len(windows), context), -1, np.int32)
        for row, (start, first, end) in enumerate(windows):
            ids = tokens.read(max(start - 1, 0), end - max(start - 1, 0)).astype(np.int32)
            if start == 0:
                ids = np.concatenate((np.array([eos_id], np.int32), ids))
            inputs[row, : end - start] = ids[:-1]
            scored = np.where(np.isin(ids[1:], unscored), -1, ids[1:])[first - start :]
            targets[row, first - start : end - start] = scored
        nats += model.score(inputs, targets)
        num_tokens += int((targets >= 0).sum())
    return Score(nats, num_tokens)


def _windows(
    length: int, context: int, stride: int, max_tokens: int | None
) -> Iterator[tuple[int, int, int]]:
    """(start of the window, first target scored, end) over targets 0 … length − 1."""
    starts = range(0, max(length - context, 0) + stride, stride)
    keep = 1
    if max_tokens is not None and len(starts) * stride > max_tokens:
        keep = math.ceil(len(starts) * stride / max_tokens)
    scored = 0
    for index, start in enumerate(starts):
        end = min(start + context, length)
        if end <= scored:
            break
        if index % keep == 0:
            yield start, max(scored, start), end
        scored = end


def _batched(
    windows: Iterator[tuple[int, int, int]], size: int
) -> Iterator[list[tuple[int, int, int]]]:
    batch: list[tuple[int, int, int]] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
