"""The logit lens: what a model would say if each layer were its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from cllm.infer.decoder import Decoder, Observation
from cllm.model.mechanisms.mechanism import (
    ChangesTable,
    MapsLogits,
    ReordersVocabulary,
    ReplacesHead,
)
from cllm.model.spec import ModelSpec

# [T, C] of the residual stream to logits [T, V].
Head = Callable[[Float32[np.ndarray, "T C"]], Float32[np.ndarray, "T V"]]
_LN2 = np.log(2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What logits say of the next token, at each of R places.

    `bits` [R] is the surprise of the token that came (NaN where none is known), `entropy` [R]
    in bits, `ranks` [R] its place among all (0 where none is known; 1 is the likeliest);
    `ids` and `probabilities` [R, A] of the likeliest.
    """

    bits: Float64[np.ndarray, " R"]
    entropy: Float64[np.ndarray, " R"]
    ranks: Int64[np.ndarray, " R"]
    ids: Int64[np.ndarray, "R A"]
    probabilities: Float64[np.ndarray, "R A"]


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """What each layer would predict: before the first block, and after each of them.

    `ids`, `probabilities` [L + 1, T, A] of the likeliest tokens; `bits`, `ranks` [L + 1, T] of
    the token that comes. The last layer's are the model's own.
    Source: nostalgebraist 2020, "Interpreting GPT: the logit lens".
    """

    bits: Float64[np.ndarray, "L1 T"]
    ranks: Int64[np.ndarray, "L1 T"]
    ids: Int64[np.ndarray, "L1 T A"]
    probabilities: Float64[np.ndarray, "L1 T A"]


def summarise(
    logits: Float32[np.ndarray, "R V"], targets: Int32[np.ndarray, " R"], num_alternatives: int
) -> Expected:
    """Surprise, entropy, rank and the likeliest tokens; a target of −1 is not known.

    Of equal logits the lower id comes first. Cost: some arrays of 8·R·V bytes.
    """
    rows = np.arange(len(logits))
    nats = logits.astype(np.float64)
    nats -= nats.max(axis=1, keepdims=True)
    nats -= np.log(np.exp(nats).sum(axis=1, keepdims=True))
    shares = np.exp(nats)
    # 0 · −∞ counts as nothing.
    entropy = -(shares * np.maximum(nats, -745.0)).sum(axis=1) / _LN2
    is_known = targets >= 0
    wanted = np.where(is_known, targets, 0)
    of_wanted = logits[rows, wanted][:, None]
    is_before = np.arange(logits.shape[1]) < wanted[:, None]
    ahead = (logits > of_wanted) | ((logits == of_wanted) & is_before)
    count = min(num_alternatives, logits.shape[1])
    likeliest = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    return Expected(
        bits=np.where(is_known, -nats[rows, wanted] / _LN2, np.nan),
        entropy=entropy,
        ranks=np.where(is_known, 1 + ahead.sum(axis=1), 0),
        ids=likeliest,
        probabilities=np.take_along_axis(shares, likeliest, axis=1),
    )


def look_through(
    head: Head, seen: Observation, targets: Int32[np.ndarray, " T"], num_alternatives: int
) -> Lens:
    """The lens of a text: the head's product for each layer. Cost: L times the head's."""
    found = [summarise(head(hidden), targets, num_alternatives) for hidden in seen.hidden[:-1]]
    found.append(summarise(seen.logits, targets, num_alternatives))
    return Lens(
        bits=np.stack([layer.bits for layer in found]),
        ranks=np.stack([layer.ranks for layer in found]),
        ids=np.stack([layer.ids for layer in found]),
        probabilities=np.stack([layer.probabilities for layer in found]),
    )


def open_head(folder: Path, spec: ModelSpec, decoder: Decoder | None = None) -> Head:
    """The last norm and the head of the model in `folder`.

    Where mechanisms change what comes after the last norm, the `decoder` that is open is torch's
    and has it; without one the model is loaded. Else one matrix is read: the compiled decoder has
    it only in an order of its own. Raises: IntegrityError.
    """
    changes = (ChangesTable, MapsLogits, ReordersVocabulary, ReplacesHead)
    if any(isinstance(part, changes) for part in spec.mechanisms):
        return _torch_head(folder, decoder)
    from cllm.model.files import load_float_weights

    last = "embedding.weight" if spec.tied else "head.weight"
    _, weights = load_float_weights(folder, {last, "norm.weight"})
    table, gain, epsilon = weights[last], weights["norm.weight"], spec.norm_epsilon

    def head(hidden: Float32[np.ndarray, "T C"]) -> Float32[np.ndarray, "T V"]:
        scale = 1.0 / np.sqrt(np.square(hidden).mean(axis=1, keepdims=True) + epsilon)
        logits: Float32[np.ndarray, "T V"] = (hidden * scale.astype(np.float32) * gain) @ table.T
        return logits

    return head


def _torch_head(folder: Path, decoder: Decoder | None) -> Head:
    import torch
    import torch.nn.functional as F

    from cllm.infer.torch_decoder import TorchDecoder
    from cllm.model import load_model

    model = decoder.model if isinstance(decoder, TorchDecoder) else load_model(folder)
    parts = model.mechanisms

    @torch.inference_mode()
    def head(hidden: Float32[np.ndarray, "T C"]) -> Float32[np.ndarray, "T V"]:
        table = parts.table(None if model.embedding is None else model.embedding.weight)
        weight = table if model.head is None else model.head.weight
        normed = model.norm(torch.from_numpy(np.ascontiguousarray(hidden))[None])
        logits, order = parts.logits(normed, lambda h: F.linear(h, weight)), parts.order()
        ordered = logits if order is None else logits.index_select(-1, order)
        return np.asarray(ordered[0].float().numpy())

    return head
