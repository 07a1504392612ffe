"""What a model thinks of a text that is there already: scores of its tokens, its mean state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from cllm.errors import InputError
from cllm.infer.decoder import Kept, Observation
from cllm.infer.passage import TokenScore
from cllm.infer.samplers import likeliest, log_softmax
from cllm.server.pool import ServedModel


def score_prompt(
    model: ServedModel, ids: Sequence[int], num_alternatives: int
) -> list[TokenScore | None]:
    """Each token's log-probability after those before it; the first has none.

    Raises: InputError for a text longer than the context.
    """
    logits = _observe(model, ids, "logits", where="prompt").logits
    scores: list[TokenScore | None] = [None]
    for token, row in zip(ids[1:], logits[:-1], strict=True):
        others, values = likeliest(row, num_alternatives)
        alternatives = tuple(
            (int(other), _text(model, int(other)), float(value))
            for other, value in zip(others, values, strict=True)
        )
        # Rounded as the others are, or the likeliest would differ from itself among them.
        value = float(np.float32(log_softmax(row.astype(np.float64))[token]))
        scores.append(TokenScore(int(token), _text(model, int(token)), value, alternatives))
    return scores


def mean_state(model: ServedModel, ids: Sequence[int]) -> Float32[np.ndarray, " C"]:
    """The mean over all tokens of the residual stream after the last block.

    Raises: InputError for a text longer than the context.
    """
    seen = _observe(model, ids, "hidden", where="input")
    last: Float32[np.ndarray, "T C"] = seen.hidden[-1]
    mean: Float32[np.ndarray, " C"] = last.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _observe(model: ServedModel, ids: Sequence[int], wanted: Kept, *, where: str) -> Observation:
    if len(ids) > model.context:
        message = f"{len(ids):,} tokens: the model sees {model.context:,} at once"
        raise InputError(message, where=where, hint="Give a shorter text.")
    with model.slots.lock:
        return model.slots.decoder.observe(np.asarray(ids, np.int32), keep={wanted})


def _text(model: ServedModel, token: int) -> str:
    # A model may have more rows than its tokeniser has tokens.
    known = token < model.tokenizer.vocab_size
    return model.tokenizer.decode([token]) if known else ""
