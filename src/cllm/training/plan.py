"""From what a person asked for to every number that decides the run."""

from __future__ import annotations

import math
from dataclasses import replace

import psutil

from cllm.config import EngineKind, Precision, Settings
from cllm.errors import InputError, SettingsError
from cllm.model.spec import ModelSpec, spec_from_settings
from cllm.training.events import Plan

# Tokens in one step and peak rates: see "The first recipe" in docs/log.md.
_TOKENS_PER_STEP = 2048
_RATE_AT_WIDTH_128 = 2e-3
_LEAST_CONTEXT = 8


def choose_preset(minutes: float | None) -> str:
    """The size that a CPU can train well in the given time."""
    if minutes is None or minutes < 20:
        return "small"
    return "base" if minutes < 180 else "mid"


def check_shape(settings: Settings, *, vocab_size: int = 1) -> ModelSpec:
    """The shape that the settings ask for. Raises: SettingsError where its parts do not fit."""
    return spec_from_settings(settings.model, vocab_size, choose_preset(settings.train.minutes))


def decide(
    settings: Settings,
    *,
    vocab_size: int,
    train_tokens: int,
    engine: EngineKind,
    precision: Precision,
) -> tuple[Settings, ModelSpec]:
    """Fill every setting that was left open; `engine` and `precision` are the machine's best.

    Raises: SettingsError where settings do not fit each other or the corpus; InputError when
    there is too little text.
    """
    train = settings.train
    spec = check_shape(settings, vocab_size=vocab_size)
    if settings.model.context is None:
        spec = replace(spec, context=_context_for(spec.context, train_tokens))
    elif spec.context + 1 > train_tokens:
        raise SettingsError(
            f"the context of {spec.context:,} tokens is longer than the training text"
            f" ({train_tokens:,} tokens)",
            where="--context",
            hint=f"Add text, or choose a context below {max(train_tokens - 1, 1):,}.",
        )
    batch_size = train.batch_size or max(1, _TOKENS_PER_STEP // spec.context)
    chosen = {
        "batch_size": batch_size,
        "learning_rate": train.learning_rate or _learning_rate(spec.width),
        "matrix_rate": train.matrix_rate or _matrix_rate(spec.width),
        "dropout": train.dropout or 0.0,
        "engine": engine,
        "precision": precision,
        "threads": train.threads or default_threads(),
    }
    shape = {name: getattr(spec, name) for name in _SHAPE}
    decided = settings.model_copy(
        update={
            "train": train.model_copy(update=chosen),
            "model": settings.model.model_copy(update=shape),
        }
    )
    return decided, spec


def _context_for(usual: int, train_tokens: int) -> int:
    """The usual context, or for a very short text one that fits into it several times.

    Raises: InputError when the text is too short for any.
    """
    context = usual
    while context > _LEAST_CONTEXT and context * 4 > train_tokens:
        context //= 2
    if context + 1 > train_tokens:
        raise InputError(
            f"too little text to learn from: {train_tokens:,} tokens",
            hint="Give at least some hundred words; from 100,000 bytes a model learns to write.",
        )
    return context


_SHAPE = ("width", "layers", "heads", "kv_heads", "head_width", "mlp_width", "context")


def _learning_rate(width: int) -> float:
    # Adam's best rate falls about as 1/√width to 1/width; the root is the cautious end.
    return _RATE_AT_WIDTH_128 * math.sqrt(128 / width)


def _matrix_rate(width: int) -> float:
    return 1e-2 * math.sqrt(128 / width)


def default_threads() -> int:
    """One a core."""
    return psutil.cpu_count(logical=False) or 1


def describe(settings: Settings, spec: ModelSpec, *, train_tokens: int) -> Plan:
    """What to show before training starts; `settings` are decided."""
    train = settings.train
    assert train.batch_size and train.learning_rate and train.threads
    return Plan(
        num_parameters=spec.num_parameters,
        vocab_size=spec.vocab_size,
        train_tokens=train_tokens,
        width=spec.width,
        layers=spec.layers,
        heads=spec.heads,
        context=spec.context,
        batch_size=train.batch_size,
        tokens_per_step=train.batch_size * train.accumulate * spec.context,
        learning_rate=train.learning_rate,
        precision=train.precision,
        threads=train.threads,
        total_steps=train.steps,
        minutes=None if train.steps is not None else train.minutes,
    )
