"""The token loop for decoders that have none of their own: feed, choose, append, again."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
from jaxtyping import Float32, Int32

from cllm.infer import samplers
from cllm.infer.decoder import Decoder
from cllm.native.stream import Feed, Stream


def write(
    decoder: Decoder,
    streams: Sequence[Stream],
    *,
    max_seconds: float,
    cancelled: Int32[np.ndarray, " 1"] | None = None,
) -> int:
    """What `Decoder.write` promises, by its `feed`; nothing is guessed ahead."""
    start, num_steps = perf_counter(), 0
    going = [stream for stream in streams if stream.finish is None]
    while going:
        logits = decoder.feed([Feed(stream.slot, stream.pending) for stream in going])
        for stream, row in zip(going, logits, strict=True):
            append(stream, row)
        num_steps += 1
        if any(stream.finish for stream in going) or perf_counter() - start >= max_seconds:
            break
        if cancelled is not None and cancelled[0]:
            break
    return num_steps


def append(stream: Stream, logits: Float32[np.ndarray, " V"]) -> None:
    """Choose the token after the pending ones, which have been fed, and append it."""
    place = len(stream.ids)
    token_id = samplers.choose(
        logits,
        stream.choice,
        float(stream.uniforms[place]),
        seen=stream.seen,
        written=stream.written,
        mask=stream.mask,
    )
    if token_id >= 0 and stream.num_alternatives is not None:
        scores = samplers.log_softmax(logits.astype(np.float64))
        stream.logprobs.append(float(scores[token_id]))
        stream.alternatives.append(samplers.likeliest(logits, stream.num_alternatives))
    if token_id < 0 or token_id == stream.eos_id:
        stream.pending, stream.finish = [], "eos" if token_id >= 0 else "stuck"
        return
    stream.pending = [token_id]
    stream.ids.append(token_id)
    stream.seen[token_id] += 1
    stream.written[token_id] += 1
    if len(stream.ids) == stream.max_tokens:
        stream.finish = "length"
