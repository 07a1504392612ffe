"""From the logits of the next token to one token: pure functions, each tested exactly.

They compose in this order (that of transformers): penalties, temperature, top-k, top-p,
min-p, softmax, draw. A token that is ruled out has the logit −∞ and the probability 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from cllm.config import GenerateSettings


def greedy(logits: Float64[np.ndarray, " V"]) -> int:
    """The likeliest token; of equals, the one with the lowest id."""
    return int(np.argmax(logits))


def softmax(logits: Float64[np.ndarray, " V"]) -> Float64[np.ndarray, " V"]:
    """Probabilities, summing to 1; at least one logit must be finite."""
    weights = np.exp(logits - logits.max())
    probabilities: Float64[np.ndarray, " V"] = weights / weights.sum()
    return probabilities


def exclude(logits: Float64[np.ndarray, " V"], ids: Sequence[int]) -> Float64[np.ndarray, " V"]:
    """Rule out some tokens."""
    if not ids:
        return logits
    kept = logits.copy()
    kept[list(ids)] = -np.inf
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


def repetition_penalty(
    logits: Float64[np.ndarray, " V"], counts: Int64[np.ndarray, " V"], penalty: float
) -> Float64[np.ndarray, " V"]:
    """Divide positive and multiply negative logits of tokens that occurred by the penalty.

    `counts`: how often each token occurred in the prompt and in what was written.
    Source: Keskar et al. 2019 (CTRL), arXiv 1909.05858.
    """
    penalised = np.where(logits > 0, logits / penalty, logits * penalty)
    result: Float64[np.ndarray, " V"] = np.where(counts > 0, penalised, logits)
    return result


def frequency_penalty(
    logits: Float64[np.ndarray, " V"], counts: Int64[np.ndarray, " V"], penalty: float
) -> Float64[np.ndarray, " V"]:
    """Subtract the penalty for each time a token was written (the prompt doesn't count)."""
    lowered: Float64[np.ndarray, " V"] = logits - penalty * counts
    return lowered


def presence_penalty(
    logits: Float64[np.ndarray, " V"], counts: Int64[np.ndarray, " V"], penalty: float
) -> Float64[np.ndarray, " V"]:
    """Subtract the penalty once from each token that was written (the prompt doesn't count)."""
    lowered: Float64[np.ndarray, " V"] = logits - penalty * (counts > 0)
    return lowered


def penalise(
    logits: Float64[np.ndarray, " V"],
    settings: GenerateSettings,
    *,
    seen: Int64[np.ndarray, " V"],
    written: Int64[np.ndarray, " V"],
) -> Float64[np.ndarray, " V"]:
    """All three penalties; `seen` counts prompt and written tokens, `written` only the latter."""
    if settings.repetition_penalty != 1.0:
        logits = repetition_penalty(logits, seen, settings.repetition_penalty)
    if settings.frequency_penalty:
        logits = frequency_penalty(logits, written, settings.frequency_penalty)
    if settings.presence_penalty:
        logits = presence_penalty(logits, written, settings.presence_penalty)
    return logits


def distribution(
    logits: Float64[np.ndarray, " V"], settings: GenerateSettings
) -> Float64[np.ndarray, " V"]:
    """The probabilities that a temperature above 0 and the truncations leave."""
    logits = temperature(logits, settings.temperature)
    if settings.top_k is not None:
        logits = top_k(logits, settings.top_k)
    if settings.top_p is not None:
        logits = top_p(logits, settings.top_p)
    if settings.min_p is not None:
        logits = min_p(logits, settings.min_p)
    return softmax(logits)


def draw(probabilities: Float64[np.ndarray, " V"], uniform: float) -> int:
    """The token at which the running total of probabilities passes `uniform` ∈ [0, 1)."""
    total = np.cumsum(probabilities)
    # Rounding may leave the total just off 1: scale, so that no impossible token is drawn.
    return int(np.searchsorted(total, uniform * total[-1], side="right"))
