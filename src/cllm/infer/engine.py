"""The token loop: from the ids of a prompt to the ids that follow it.

It sees token ids only. A `Runner` turns ids into logits and keeps what it has computed;
the engine decides which token comes next and what stands in the window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from cllm.config import GenerateSettings
from cllm.infer import samplers


@runtime_checkable
class Runner(Protocol):
    """What computes logits; it remembers the tokens it was given since the last `prefill`."""

    @property
    def context(self) -> int:
        """Most tokens it can remember."""

    @property
    def vocab_size(self) -> int:
        """Number of logits."""

    def prefill(self, ids: Sequence[int]) -> Float64[np.ndarray, " V"]:
        """Forget all, read `ids` (1 to `context` of them); logits of the token after them."""

    def decode(self, token_id: int) -> Float64[np.ndarray, " V"]:
        """Read one more token; logits of the token after it."""


def window_of(ids: Sequence[int], context: int) -> list[int]:
    """The part of a prompt that the model sees: its last `context` tokens."""
    return list(ids[-context:])


def generate_tokens(
    runner: Runner,
    prompt_ids: Sequence[int],
    settings: GenerateSettings,
    *,
    eos_id: int | None,
    banned: Sequence[int] = (),
    sample: int = 0,
) -> Iterator[int]:
    """Yield at most `max_tokens` token ids that follow the prompt, ending before `eos_id`.

    Ids in `banned`, such as that of unknown words, are never chosen. Only the last `context`
    tokens of the prompt are seen. When the window is full, its last half is read anew and
    writing goes on. The same seed and `sample` give the same tokens.
    """
    rng = np.random.default_rng([settings.seed, sample])
    window = window_of(prompt_ids, runner.context)
    logits = runner.prefill(window)
    seen = np.bincount(np.asarray(prompt_ids, dtype=np.int64), minlength=runner.vocab_size)
    written = np.zeros(runner.vocab_size, dtype=np.int64)
    for count in range(1, settings.max_tokens + 1):
        logits = samplers.exclude(logits, banned)
        logits = samplers.penalise(logits, settings, seen=seen, written=written)
        if settings.temperature == 0.0:
            token_id = samplers.greedy(logits)
        else:
            token_id = samplers.draw(samplers.distribution(logits, settings), rng.random())
        if token_id == eos_id:
            return
        yield token_id
        if count == settings.max_tokens:
            return
        seen[token_id] += 1
        written[token_id] += 1
        window.append(token_id)
        if len(window) > runner.context:
            window = window[-max(1, runner.context // 2) :]
            logits = runner.prefill(window)
        else:
            logits = runner.decode(token_id)
