"""A `Decoder` over a `Transformer`, for what the compiled one lacks. The room's file with torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from cllm.infer import writing
from cllm.infer.decoder import EVERYTHING, Kept, Observation
from cllm.infer.torch_observation import observe
from cllm.model import KeyValueCache, Transformer, load_model
from cllm.native.stream import Feed, Stream

# Attention sinks: the first tokens stay when a window is full (Xiao 2023, arXiv:2309.17453).
_MOST_SINKS = 4


@contextmanager
def _one_thread() -> Iterator[None]:
    """One token is too little work to share: threads that wait for each other cost more.

    Measured on two busy cores, 64 to 512 wide: 1 thread 1.5–23 ms a token, 2 threads 40–170.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


class TorchDecoder:
    """Any model in memory, with any mechanism; a model in training is decoded as it stands.

    Slots are fed one after another. Beyond the context, tokens are fed one by one: the first
    four (in the smallest contexts the first half) stay, and the oldest other one gives way. Its
    place is closed up: keys turn back by one position, and whatever else a mechanism remembers
    of a token moves with it, so that lags and distances are those within the window; this
    holds for every mechanism. How many tokens are fed at once changes logits by rounding alone.
    """

    def __init__(self, model: Transformer, num_slots: int = 1) -> None:
        self.model = model
        self._device = next(model.parameters()).device
        self._caches: list[KeyValueCache | None] = [None] * num_slots
        self._lengths = [0] * num_slots
        self._num_sinks = min(_MOST_SINKS, model.spec.context // 2)

    @classmethod
    def load(cls, folder: Path, num_slots: int = 1) -> TorchDecoder:
        """Read the model in `folder`. Raises: IntegrityError."""
        return cls(load_model(folder), num_slots)

    @property
    def context(self) -> int:
        """Most tokens that a slot holds."""
        return self.model.spec.context

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.model.spec.vocab_size

    @property
    def num_slots(self) -> int:
        """How many texts it can remember at once."""
        return len(self._caches)

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0."""
        return self.model.score(ids, targets)

    def feed(self, feeds: Sequence[Feed], *, every: bool = False) -> Float32[np.ndarray, "R V"]:
        """Logits after the last token of each feed, or after every token of each, in order.

        Raises: ValueError.
        """
        if len({feed.slot for feed in feeds}) != len(feeds) or not all(f.ids for f in feeds):
            raise ValueError("a feed has at least one token, and a slot of its own")
        rows = [self._feed(feed.slot, list(feed.ids), every=every) for feed in feeds]
        return np.concatenate(rows) if rows else np.empty((0, self.vocab_size), np.float32)

    @torch.inference_mode()
    def _feed(self, slot: int, ids: list[int], *, every: bool) -> Float32[np.ndarray, "R V"]:
        cache, rows = self._cache(slot), []
        room = max(self.context - cache.length, 1)
        for part in (ids[:room], *([token_id] for token_id in ids[room:])):
            if cache.length == self.context:
                cache.drop(self._num_sinks, self._turned_back)
            logits = self._forward(part, cache)
            self._lengths[slot] += len(part)
            rows.append(logits if every else logits[-1:])
        return np.concatenate(rows) if every else rows[-1]

    def _forward(self, ids: list[int], cache: KeyValueCache) -> Float32[np.ndarray, "T V"]:
        row = torch.tensor([ids], dtype=torch.int64, device=self._device)
        if len(ids) == 1:
            with _one_thread():
                logits = self.model(row, cache)[0]
        else:
            logits = self.model(row, cache)[0]
        return np.asarray(logits.to("cpu", torch.float32).numpy())

    def _turned_back(self, keys: Tensor, positions: Tensor) -> Tensor:
        """Keys [..., S, D] turned back by some positions each."""
        rotary = self.model.rotary
        cos, sin = rotary.cos[positions].to(keys.dtype), rotary.sin[positions].to(keys.dtype)
        return torch.addcmul(keys * cos, keys.roll(keys.shape[-1] // 2, -1), sin, value=-1)

    def _cache(self, slot: int) -> KeyValueCache:
        cache = self._caches[slot]
        if cache is None:
            cache = self._caches[slot] = KeyValueCache(self.model.spec, device=self._device)
        return cache

    def length(self, slot: int) -> int:
        """How many tokens a slot was fed."""
        return self._lengths[slot]

    @torch.inference_mode()
    def truncate(self, slot: int, length: int) -> bool:
        """Forget a slot's tokens from `length` on; False (all forgotten) if it can't."""
        if not 0 <= length <= self._lengths[slot]:
            raise ValueError("a slot can't be cut to more than it was fed")
        cache, was = self._cache(slot), self._lengths[slot]
        if length == was:
            return True
        # What gave way can't come back.
        is_possible = length == 0 or was == cache.length
        self._lengths[slot] = length if is_possible else 0
        cache.truncate(self._lengths[slot])
        return is_possible

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> bool:
        """Let `target` remember the first `length` tokens of `source`; False if it can't."""
        if not 0 <= length <= self._lengths[source]:
            raise ValueError("a slot can't give more than it was fed")
        if source == target:
            return self.truncate(target, length)
        known, own = self._cache(source), self._cache(target)
        is_possible = length == self._lengths[source] or self._lengths[source] == known.length
        own.truncate(0)
        if is_possible:
            own.copy_from(known, min(length, known.length))
        self._lengths[target] = length if is_possible else 0
        return is_possible

    def write(
        self,
        streams: Sequence[Stream],
        *,
        max_seconds: float,
        cancelled: Int32[np.ndarray, " 1"] | None = None,
    ) -> int:
        """Choose token after token for all streams, until one ends or the time is over."""
        return writing.write(self, streams, max_seconds=max_seconds, cancelled=cancelled)

    def observe(
        self, ids: Int32[np.ndarray, " T"], *, keep: Collection[Kept] = EVERYTHING
    ) -> Observation:
        """What the model computes from a text that stands alone; T is at most the context."""
        return observe(self.model, ids, keep=keep)
