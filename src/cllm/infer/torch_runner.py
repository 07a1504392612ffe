"""Runs a `Transformer` for the engine, keys and values cached. The one room's file with torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int32

from cllm.model import KeyValueCache, Transformer, load_model


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


class TorchRunner:
    """A `Runner` over a model in memory; a model in training can be sampled as it stands."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self._device = next(model.parameters()).device
        self._cache = KeyValueCache(model.spec, device=self._device)

    @classmethod
    def load(cls, folder: Path) -> TorchRunner:
        """Read the model in `folder`. Raises: IntegrityError."""
        return cls(load_model(folder))

    @property
    def context(self) -> int:
        """Most tokens the model sees at once."""
        return self.model.spec.context

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return self.model.spec.vocab_size

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0."""
        return self.model.score(ids, targets)

    def prefill(self, ids: Sequence[int]) -> Float64[np.ndarray, " V"]:
        """Forget all, read `ids` at once; logits of the token after them."""
        self._cache.truncate(0)
        return self._forward(ids)

    def decode(self, token_id: int) -> Float64[np.ndarray, " V"]:
        """Read one more token; logits of the token after it."""
        with _one_thread():
            return self._forward([token_id])

    @torch.inference_mode()
    def _forward(self, ids: Sequence[int]) -> Float64[np.ndarray, " V"]:
        rows = torch.tensor([list(ids)], dtype=torch.int64, device=self._device)
        logits = self.model(rows, self._cache)[0, -1]
        return np.asarray(logits.to("cpu", torch.float64).numpy())
