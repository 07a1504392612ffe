"""How much of the wall time that a person gave is left for training."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cllm.model.spec import ModelSpec
from cllm.training.held_out import HeldOut
from cllm.training.scoring import Scorer

# The final measurement may take this share of the time; beyond it, windows are sampled.
_SCORING_SHARE = 0.1
# Preparation counts against the time while it needs less than this share.
_PREPARATION_SHARE = 1 / 3
# However long all else takes, training keeps this share.
_LEAST_TRAINING_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds of training, and the held-out tokens the final measurement scores (None: all)."""

    train_s: float
    scored_tokens: int | None


def plan_budget(
    asked_s: float, spent_s: float, held_out: HeldOut | None, model: Scorer, spec: ModelSpec
) -> Budget:
    """Leave room for measuring and saving, by timing one batch of the measurement."""
    scored_tokens, scoring_s = None, 0.0
    if held_out is not None:
        probe_tokens = 2048
        start = time.perf_counter()
        measured, _ = held_out.score(model, max_tokens=probe_tokens)
        per_token_s = (time.perf_counter() - start) / max(measured.num_tokens, 1)
        scoring_s = per_token_s * held_out.info.num_tokens
        if scoring_s > _SCORING_SHARE * asked_s:
            scoring_s = _SCORING_SHARE * asked_s
            scored_tokens = max(probe_tokens, int(scoring_s / per_token_s))
    # Weights and moments, 12 bytes each, at the speed of a slow disk.
    saving_s = 0.3 + spec.num_parameters * 12 / 200e6
    available_s = asked_s - min(spent_s, asked_s * _PREPARATION_SHARE)
    train_s = max(available_s - scoring_s - saving_s, _LEAST_TRAINING_SHARE * asked_s)
    return Budget(train_s, scored_tokens)
