"""Two decoders of one vocabulary side by side: losses, and how far their predictions lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64, Int32

from cllm.infer.decoder import Decoder
from cllm.infer.slots import Slots
from cllm.native.stream import Feed

if TYPE_CHECKING:
    from cllm.text.tokenizers import Tokenizer

_SPEED_TOKENS, _SPEED_ROUNDS = 128, 3


@dataclass(frozen=True, slots=True)
class Difference:
    """Bits per byte of two models on one text, and the mean KL divergence in nats a token.

    The divergence is that of the second's next-token distribution from the first's.
    """

    bits_per_byte_before: float
    bits_per_byte_after: float
    kl_nats: float
    num_tokens: int


def compare(
    before: Decoder,
    after: Decoder,
    windows: Int32[np.ndarray, "B T"],
    tokenizer: Tokenizer,
) -> Difference:
    """Score the windows with both, each window alone and from its second token on.

    Tokens that end a text or spell nothing known are not scored. Memory: two windows' logits.
    """
    lengths = _byte_lengths(tokenizer, before.vocab_size)
    nats, divergence, num_bytes, count = np.zeros(2), 0.0, 0, 0
    for row in windows:
        targets = row[1:]
        is_scored = lengths[targets] > 0
        logs = [_log_probabilities(decoder, row[:-1])[is_scored] for decoder in (before, after)]
        targets = targets[is_scored]
        for number, table in enumerate(logs):
            nats[number] -= float(table[np.arange(len(targets)), targets].sum())
        divergence += float((np.exp(logs[0]) * (logs[0] - logs[1])).sum())
        num_bytes += int(lengths[targets].sum())
        count += len(targets)
    bits = nats / math.log(2) / max(num_bytes, 1)
    return Difference(float(bits[0]), float(bits[1]), divergence / max(count, 1), count)


def nats_per_token(decoder: Decoder, windows: Int32[np.ndarray, "B T"]) -> float:
    """Mean loss of the windows' tokens from the second on."""
    total = 0.0
    for row in windows:
        logs = _log_probabilities(decoder, row[:-1])
        total -= float(logs[np.arange(len(row) - 1), row[1:]].sum())
    return total / max(windows[:, 1:].size, 1)


def writing_speed(decoders: Sequence[Decoder], tokenizer: Tokenizer) -> list[float]:
    """Tokens a second of one text, each decoder's best of some interleaved rounds."""
    from cllm.config import GenerateSettings
    from cllm.infer.completion import Completion

    best = [0.0] * len(decoders)
    tokens = min(_SPEED_TOKENS, min(decoder.context for decoder in decoders) - 1)
    # An end of text would end the measurement.
    settings = GenerateSettings(
        max_tokens=tokens, temperature=1.0, logit_bias=(f"#{tokenizer.eos_id}=-inf",)
    )
    for sample in range(_SPEED_ROUNDS):
        for number, decoder in enumerate(decoders):
            decoder.truncate(0, 0)
            written = Completion(
                Slots(decoder), tokenizer, [tokenizer.eos_id], settings, sample=sample
            ).run()
            best[number] = max(best[number], written.tokens_per_s)
    return best


def _byte_lengths(tokenizer: Tokenizer, vocab_size: int) -> Int32[np.ndarray, " V"]:
    """Bytes that each token spells; 0 for those that are not scored."""
    lengths = np.zeros(vocab_size, np.int32)
    spelled = [len(spelling) for spelling in tokenizer.spellings[:vocab_size]]
    lengths[: len(spelled)] = spelled
    lengths[tokenizer.eos_id] = 0
    if tokenizer.unk_id is not None:
        lengths[tokenizer.unk_id] = 0
    return lengths


def _log_probabilities(
    decoder: Decoder, ids: Int32[np.ndarray, " T"]
) -> Float64[np.ndarray, "T V"]:
    decoder.truncate(0, 0)
    logits: Float32[np.ndarray, "T V"] = decoder.feed([Feed(0, ids.tolist())], every=True)
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    found: Float64[np.ndarray, "T V"] = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    return found
