"""How much of the wall time that a person gave is left for training."""

from __future__ import annotations

from dataclasses import dataclass

from cllm.model.spec import ModelSpec
from cllm.training.scaling import step_flops_per_token

# The final measurement may take this share of the time; beyond it, windows are sampled.
_SCORING_SHARE = 0.1
_LEAST_SCORED_TOKENS = 4096
# Scoring is a third of a step's work, in float32, which has half of bfloat16's speed or less.
_SCORING_COST = 1.0
# Preparation counts against the time while it needs less than this share.
_PREPARATION_SHARE = 1 / 3
# Seconds a token, on one core.
_COUNTING_S = 5e-7
# However long all else takes, training keeps this share.
_LEAST_TRAINING_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds of training, and the held-out tokens the final measurement scores (None: all)."""

    train_s: float
    scored_tokens: int | None


def plan_budget(
    asked_s: float,
    spent_s: float,
    *,
    val_tokens: int,
    counted_tokens: int,
    spec: ModelSpec,
    flops_per_s: float,
) -> Budget:
    """Leave room for measuring, for counting tokens (of drafts) and for saving."""
    per_token_s = _SCORING_COST * step_flops_per_token(spec) / flops_per_s
    scored_tokens, scoring_s = None, per_token_s * val_tokens
    if scoring_s > _SCORING_SHARE * asked_s:
        scored_tokens = max(_LEAST_SCORED_TOKENS, int(_SCORING_SHARE * asked_s / per_token_s))
        scoring_s = per_token_s * scored_tokens
    after_s = scoring_s + _COUNTING_S * counted_tokens + _saving_s(spec)
    train_s = available_s(asked_s, spent_s) - after_s
    return Budget(max(train_s, _LEAST_TRAINING_SHARE * asked_s), scored_tokens)


def available_s(asked_s: float, spent_s: float) -> float:
    """What preparation has left."""
    return asked_s - min(spent_s, asked_s * _PREPARATION_SHARE)


def _saving_s(spec: ModelSpec) -> float:
    # The report takes most of it; weights and moments, 12 bytes each, at a slow disk's speed.
    # Tables with rows have no moments, but are saved twice: in the checkpoint and in the model.
    tables = spec.num_row_parameters
    return 0.9 + ((spec.num_parameters - tables) * 12 + tables * 8) / 200e6
