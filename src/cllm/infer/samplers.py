"""From the logits of the next token to one token: pure functions, each tested exactly.

They compose in this order (that of transformers): bias and mask, penalties, temperature, top-k,
top-p, min-p, typical, softmax, draw. A token that is ruled out has the logit −∞ and the
probability 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, Integer, UInt32

from cllm.native.stream import Choice


def greedy(logits: Float64[np.ndarray, " V"]) -> int:
    """The likeliest token; of equals, the one with the lowest id."""
    return int(np.argmax(logits))


def softmax(logits: Float64[np.ndarray, " V"]) -> Float64[np.ndarray, " V"]:
    """Probabilities, summing to 1; at least one logit must be finite."""
    weights = np.exp(logits - logits.max())
    probabilities: Float64[np.ndarray, " V"] = weights / weights.sum()
    return probabilities


def log_softmax(logits: Float64[np.ndarray, " V"]) -> Float64[np.ndarray, " V"]:
    """Log-probabilities; at least one logit must be finite."""
    centred = logits - logits.max()
    found: Float64[np.ndarray, " V"] = centred - np.log(np.exp(centred).sum())
    return found


def add_bias(
    logits: Float64[np.ndarray, " V"], bias: Mapping[int, float]
) -> Float64[np.ndarray, " V"]:
    """Add to the logits of some tokens; −∞ rules a token out."""
    if not bias:
        return logits
    biased = logits.copy()
    biased[list(bias)] += list(bias.values())
    return biased


def keep_masked(
    logits: Float64[np.ndarray, " V"], mask: UInt32[np.ndarray, " W"] | None
) -> Float64[np.ndarray, " V"]:
    """Keep the tokens whose bit is set: bit j mod 32 of word ⌊j / 32⌋ for token j."""
    if mask is None:
        return logits
    bits = np.unpackbits(mask.view(np.uint8), count=logits.size, bitorder="little")
    kept: Float64[np.ndarray, " V"] = np.where(bits.astype(bool), logits, -np.inf)
    return kept


def temperature(logits: Float64[np.ndarray, " V"], temperature: float) -> Float64[np.ndarray, " V"]:
    """Divide the logits by a temperature above 0: below 1 sharpens, above 1 flattens."""
    # Centred first: then the smallest temperature drives all but the likeliest to −∞.
    with np.errstate(over="ignore"):
        scaled: Float64[np.ndarray, " V"] = (logits - logits.max()) / temperature
    return scaled


def _by_likelihood(logits: Float64[np.ndarray, " V"]) -> Int64[np.ndarray, " V"]:
    """Token ids, likeliest first; of equals, the lowest id first."""
    return np.argsort(-logits, kind="stable").astype(np.int64)


def _keep(
    logits: Float64[np.ndarray, " V"], ids: Int64[np.ndarray, " N"]
) -> Float64[np.ndarray, " V"]:
    kept = np.full_like(logits, -np.inf)
    kept[ids] = logits[ids]
    return kept


def top_k(logits: Float64[np.ndarray, " V"], k: int) -> Float64[np.ndarray, " V"]:
    """Keep exactly the k likeliest tokens (all, when there are no more than k).

    Source: Fan, Lewis, Dauphin 2018, arXiv 1805.04833.
    """
    return logits if k >= logits.size else _keep(logits, _by_likelihood(logits)[:k])


def top_p(logits: Float64[np.ndarray, " V"], p: float) -> Float64[np.ndarray, " V"]:
    """Keep the smallest set of likeliest tokens whose probability reaches p.

    Source: Holtzman et al. 2019, arXiv 1904.09751.
    """
    if p >= 1.0:
        return logits
    order = _by_likelihood(logits)
    reached = np.cumsum(softmax(logits)[order])
    # A token stays while those before it have not reached p, so the first always stays.
    count = int(np.searchsorted(reached, p, side="left")) + 1
    return _keep(logits, order[:count])


def min_p(logits: Float64[np.ndarray, " V"], p: float) -> Float64[np.ndarray, " V"]:
    """Keep tokens at least p times as likely as the likeliest.

    Source: Nguyen et al. 2024, arXiv 2407.01082.
    """
    if p <= 0.0:
        return logits
    kept: Float64[np.ndarray, " V"] = np.where(np.exp(logits - logits.max()) >= p, logits, -np.inf)
    return kept


def typical(logits: Float64[np.ndarray, " V"], p: float) -> Float64[np.ndarray, " V"]:
    """Keep the smallest set of tokens, nearest to the entropy first, whose probability reaches p.

    How near: by | −log probability − entropy |; of equals, the lowest id first.
    Source: Meister et al. 2022, arXiv 2202.00666.
    """
    if p >= 1.0:
        return logits
    chances, surprise = softmax(logits), -log_softmax(logits)
    possible = chances > 0
    entropy = float((chances[possible] * surprise[possible]).sum())
    order = np.argsort(np.abs(surprise - entropy), kind="stable").astype(np.int64)
    reached = np.cumsum(chances[order])
    count = int(np.searchsorted(reached, p, side="left")) + 1
    return _keep(logits, order[:count])


def repetition_penalty(
    logits: Float64[np.ndarray, " V"], counts: Integer[np.ndarray, " V"], penalty: float
) -> Float64[np.ndarray, " V"]:
    """Divide positive and multiply negative logits of tokens that occurred by the penalty.

    `counts`: how often each token occurred in the prompt and in what was written.
    Source: Keskar et al. 2019 (CTRL), arXiv 1909.05858.
    """
    penalised = np.where(logits > 0, logits / penalty, logits * penalty)
    result: Float64[np.ndarray, " V"] = np.where(counts > 0, penalised, logits)
    return result


def frequency_penalty(
    logits: Float64[np.ndarray, " V"], counts: Integer[np.ndarray, " V"], penalty: float
) -> Float64[np.ndarray, " V"]:
    """Subtract the penalty for each time a token was written (the prompt doesn't count)."""
    lowered: Float64[np.ndarray, " V"] = logits - penalty * counts
    return lowered


def presence_penalty(
    logits: Float64[np.ndarray, " V"], counts: Integer[np.ndarray, " V"], penalty: float
) -> Float64[np.ndarray, " V"]:
    """Subtract the penalty once from each token that was written (the prompt doesn't count)."""
    lowered: Float64[np.ndarray, " V"] = logits - penalty * (counts > 0)
    return lowered


def penalise(
    logits: Float64[np.ndarray, " V"],
    choice: Choice,
    *,
    seen: Integer[np.ndarray, " V"],
    written: Integer[np.ndarray, " V"],
) -> Float64[np.ndarray, " V"]:
    """All three penalties; `seen` counts prompt and written tokens, `written` only the latter."""
    if choice.repetition_penalty != 1.0:
        logits = repetition_penalty(logits, seen, choice.repetition_penalty)
    if choice.frequency_penalty:
        logits = frequency_penalty(logits, written, choice.frequency_penalty)
    if choice.presence_penalty:
        logits = presence_penalty(logits, written, choice.presence_penalty)
    return logits


def distribution(logits: Float64[np.ndarray, " V"], choice: Choice) -> Float64[np.ndarray, " V"]:
    """The probabilities that a temperature above 0 and the truncations leave."""
    logits = temperature(logits, choice.temperature)
    if choice.top_k is not None:
        logits = top_k(logits, choice.top_k)
    if choice.top_p is not None:
        logits = top_p(logits, choice.top_p)
    if choice.min_p is not None:
        logits = min_p(logits, choice.min_p)
    if choice.typical_p is not None:
        logits = typical(logits, choice.typical_p)
    return softmax(logits)


def draw(probabilities: Float64[np.ndarray, " V"], uniform: float) -> int:
    """The token at which the running total of probabilities passes `uniform` ∈ [0, 1)."""
    total = np.cumsum(probabilities)
    # Rounding may leave the total just off 1: scale, so that no impossible token is drawn.
    return int(np.searchsorted(total, uniform * total[-1], side="right"))


def choose(
    logits: Float32[np.ndarray, " V"] | Float64[np.ndarray, " V"],
    choice: Choice,
    uniform: float,
    *,
    seen: Integer[np.ndarray, " V"],
    written: Integer[np.ndarray, " V"],
    mask: UInt32[np.ndarray, " W"] | None = None,
) -> int:
    """The next token; of a temperature of 0 the likeliest, whatever `uniform` ∈ [0, 1) is.

    None (−1) where bias and mask leave no token, or a logit is not a number.
    """
    exact = keep_masked(add_bias(logits.astype(np.float64), choice.bias), mask)
    if not np.isfinite(exact.max()):
        return -1
    exact = penalise(exact, choice, seen=seen, written=written)
    if choice.temperature == 0.0:
        return greedy(exact)
    return draw(distribution(exact, choice), uniform)


def likeliest(
    logits: Float32[np.ndarray, " V"] | Float64[np.ndarray, " V"], count: int
) -> tuple[Int32[np.ndarray, " A"], Float32[np.ndarray, " A"]]:
    """Ids and log-probabilities of the likeliest tokens, likeliest first."""
    scores = log_softmax(logits.astype(np.float64))
    ids = _by_likelihood(scores)[:count]
    return ids.astype(np.int32), scores[ids].astype(np.float32)
