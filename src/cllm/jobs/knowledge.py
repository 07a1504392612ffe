"""The vocabulary on a spiral, each token coloured by what a model knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from cllm.jobs.inspect import Inspection

Spiral = Literal["ulam", "golden"]
Colour = Literal["expected", "surprise"]
# More points than this are too small to point at.
MOST_POINTS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class KnownSpiral:
    """N tokens on a spiral, the n-th by `ranks` on its n-th place.

    `bits` [N] is what a token costs, on the average over the text (expected), or where it occurs
    (surprise; NaN elsewhere). `is_prime` [N] says whether its number is prime.
    """

    places: Float64[np.ndarray, "N 2"]
    token_ids: Int64[np.ndarray, " N"]
    names: list[str]
    bits: Float64[np.ndarray, " N"]
    is_prime: Bool[np.ndarray, " N"]
    is_by_frequency: bool


def known_spiral(
    workspace: Workspace, found: Inspection, *, spiral: Spiral, colour: Colour
) -> KnownSpiral:
    """The spiral of a model that has read a text.

    Numbers are frequency ranks where the model keeps them, else the order of its vocabulary,
    which for the tokenisers of CLLM begins with the most useful pieces.
    """
    from cllm.numbers.spirals import golden_points, prime_mask, ulam_points

    ranks = _ranks(workspace, found)
    count = min(len(ranks), MOST_POINTS)
    order = np.argsort(ranks, kind="stable")[:count].astype(np.int64)
    if spiral == "ulam":
        places = ulam_points(np.arange(1, count + 1, dtype=np.int64)).astype(np.float64)
    else:
        places = golden_points(count)
    bits = expected_bits(found) if colour == "expected" else surprise_bits(found)
    return KnownSpiral(
        places=places,
        token_ids=order,
        names=[found.spelled(int(token)) for token in order],
        bits=bits[order],
        is_prime=prime_mask(count),
        is_by_frequency=_has_ranks(workspace, found.model),
    )


def expected_bits(found: Inspection) -> Float64[np.ndarray, " V"]:
    """−log₂ of each token's mean probability over the window that is laid open."""
    logits = found.window.logits.astype(np.float64)[:, : len(found.spellings)]
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    mean = np.maximum(shares.mean(axis=0), 2.0**-64)
    bits: Float64[np.ndarray, " V"] = -np.log2(mean)
    return bits


def surprise_bits(found: Inspection) -> Float64[np.ndarray, " V"]:
    """The mean surprise of each token where the text has it; NaN for the others."""
    size = len(found.spellings)
    is_known = np.isfinite(found.bits)
    ids, bits = found.ids[is_known], found.bits[is_known]
    counts = np.bincount(ids, minlength=size)[:size]
    sums = np.bincount(ids, weights=bits, minlength=size)[:size]
    means: Float64[np.ndarray, " V"] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _has_ranks(workspace: Workspace, model: str) -> bool:
    from cllm.model.lexicon import LEXICON

    return (workspace.models.path(model) / LEXICON).is_file()


def _ranks(workspace: Workspace, found: Inspection) -> Int64[np.ndarray, " V"]:
    size = len(found.spellings)
    if not _has_ranks(workspace, found.model):
        return np.arange(1, size + 1, dtype=np.int64)
    from cllm.model.lexicon import Lexicon

    ranks = Lexicon.load(workspace.models.path(found.model), size).ranks
    return ranks.astype(np.int64)
