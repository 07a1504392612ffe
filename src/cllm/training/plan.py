"""From what a person asked for to every number that decides the run.

Each rule is one function; docs/log.md has the runs that it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil

from cllm.config import EngineKind, ModelSettings, Precision, Settings, TrainSettings
from cllm.errors import InputError, SettingsError
from cllm.model.folding import kept
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.catalogue import measured_gain
from cllm.model.mechanisms.choose import choose, items_of, with_mechanisms
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.spec import ModelSpec, spec_from_settings
from cllm.training.compiled_parts import require_compiled
from cllm.training.events import Plan
from cllm.training.scaling import block_parameters, scaling_law, tokens_per_s

# Widths to choose from, with the layers and heads that go with each.
_SHAPES = (
    (48, 2, 3),
    (64, 2, 4),
    (80, 3, 3),
    (96, 3, 3),
    (128, 4, 4),
    (160, 4, 5),
    (192, 5, 6),
    (256, 6, 8),
    (320, 6, 10),
    (384, 6, 6),
    (512, 8, 8),
    (640, 10, 10),
)
_DEFAULT_TRAIN_S = 240.0
_USUAL_TOKENS_PER_STEP = 2048
_LEAST_CONTEXT = 8
_WITHOUT_WORDS = ("bytes", "characters")
# Larger models learn a text by heart sooner than they learn from it; the law does not know.
_MOST_PARAMETERS_PER_BYTE = 2.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan depends on: the corpus, the machine, and the seconds there are for training.

    `train_s` is None for a run of a number of steps.
    """

    vocab_size: int
    train_tokens: int
    train_bytes: int
    engine: EngineKind
    precision: Precision
    flops_per_s: float
    train_s: float | None
    eos_id: int = 0
    lexicon: Lexicon | None = None

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text that a token stands for."""
        return self.train_bytes / max(self.train_tokens, 1)


def check_request(settings: Settings) -> None:
    """Refuse what can't be before any text is read. Raises: SettingsError, NativeError."""
    spec_from_settings(settings.model, 1, "small")
    chosen = choose(settings.model.mechanisms)
    check_words(chosen, settings.text.tokenizer)
    if settings.train.engine == "compiled":
        require_compiled(chosen)
    # Neither width nor vocabulary decides the size of tables with rows.
    sizes = spec_from_settings(settings.model, 2, "small")
    _check_memory(replace(sizes, mechanisms=tuple(p for p in chosen if p.table_rate > 0)))
    threads, cores = settings.train.threads, psutil.cpu_count() or 1
    if threads is not None and threads > cores:
        raise SettingsError(
            f"{threads} threads are more than the {cores} processors here",
            where="train.threads",
            hint="They would wait for each other. Leave the setting out: one a core is chosen.",
        )


def check_words(chosen: Sequence[Mechanism], tokenizer: str) -> None:
    """Raises: SettingsError naming a mechanism that needs words where tokens are none."""
    for part in chosen:
        if "roots" in part.needs and tokenizer in _WITHOUT_WORDS:
            raise SettingsError(
                f"{part.name} needs words with roots, and {tokenizer} are none",
                where="--with",
                hint="Use --tokenizer words, unigram or bpe, or leave it out.",
            )


def _check_memory(spec: ModelSpec) -> None:
    """Refuse tables that this machine can't hold. Raises: SettingsError."""
    # Twice while they are read or saved, and one sum a row.
    needed, there_is = 12 * spec.num_row_parameters, psutil.virtual_memory().available
    if needed > there_is:
        raise SettingsError(
            f"its tables need {needed / 1e9:.1f} GB of memory, and {there_is / 1e9:.1f} are free",
            where="--with ngram",
            hint="Choose fewer ngram.rows, ngram.heads or a smaller ngram.row_width.",
        )


def decide(settings: Settings, facts: Facts) -> tuple[Settings, ModelSpec]:
    """Fill every setting that was left open.

    Raises: SettingsError where settings do not fit each other or the corpus; InputError when
    there is too little text.
    """
    train, spec = settings.train, replace(_shape(settings.model, facts), eos_id=facts.eos_id)
    mechanisms = choose(settings.model.mechanisms)
    spec = with_mechanisms(spec, mechanisms, facts.lexicon)
    _check_memory(spec)
    seen = _seen_tokens(spec, facts)
    # A run by steps must not depend on how fast the machine was found to be.
    tokens = _USUAL_TOKENS_PER_STEP if facts.train_s is None else _tokens_per_step(seen)
    wanted = max(default_threads(), round(tokens / spec.context))
    batch_size = train.batch_size or wanted
    steps = float(train.steps or seen / (batch_size * train.accumulate * spec.context))
    read = _read_tokens(train, batch_size * train.accumulate * spec.context, facts)
    chosen = {
        "batch_size": batch_size,
        "learning_rate": train.learning_rate or _learning_rate(train, spec.width),
        "matrix_rate": train.matrix_rate or _matrix_rate(steps),
        "momentum": _momentum(steps) if train.momentum is None else train.momentum,
        "dropout": _dropout(read, facts) if train.dropout is None else train.dropout,
        "engine": facts.engine,
        "precision": facts.precision,
        "threads": train.threads or default_threads(),
    }
    shape = {name: getattr(spec, name) for name in _SHAPE}
    shape["mechanisms"] = items_of(mechanisms)
    decided = settings.model_copy(
        update={
            "train": train.model_copy(update=chosen),
            "model": settings.model.model_copy(update=shape),
        }
    )
    return decided, spec


_SHAPE = ("width", "layers", "heads", "kv_heads", "head_width", "mlp_width", "context")


def _shape(model: ModelSettings, facts: Facts) -> ModelSpec:
    """The shape as asked for; what is open as the law finds best for the time."""
    is_open = model.preset is None and model.width is None
    if is_open and facts.train_s is not None:
        specs = _fitting(model, facts)
        most = max(_MOST_PARAMETERS_PER_BYTE * facts.train_bytes, block_parameters(specs[0]))
        fitting = [spec for spec in specs if block_parameters(spec) <= most]
        # Judged in one context for all times: more time must not make a smaller model.
        context = model.context or 256
        spec = min(
            fitting, key=lambda s: expected_bits_per_byte(replace(s, context=context), facts)
        )
    elif is_open:
        spec = _spec(model, (128, 4, 4), facts)
    else:
        spec = spec_from_settings(model, facts.vocab_size, "small")
    if model.context is None:
        return replace(spec, context=_context_for(spec.context, facts.train_tokens))
    if spec.context + 1 > facts.train_tokens:
        raise SettingsError(
            f"the context of {spec.context:,} tokens is longer than the training text"
            f" ({facts.train_tokens:,} tokens)",
            where="--context",
            hint=f"Add text, or choose a context below {max(facts.train_tokens - 1, 1):,}.",
        )
    return spec


def _fitting(model: ModelSettings, facts: Facts) -> list[ModelSpec]:
    """The shapes that go together with what a person gave. Raises: SettingsError if none do."""
    specs, problem = [], None
    for shape in _SHAPES:
        try:
            specs.append(_spec(model, shape, facts))
        except SettingsError as error:
            problem = error
    if not specs and problem is not None:
        raise problem
    return specs


def _spec(model: ModelSettings, shape: tuple[int, int, int], facts: Facts) -> ModelSpec:
    width, layers, heads = shape
    head_width = model.head_width or width // heads
    filled = model.model_copy(
        update={
            "width": width,
            "layers": model.layers or layers,
            "heads": model.heads or width // head_width,
            "head_width": head_width,
            "context": model.context or _usual_context(facts.train_s),
        }
    )
    return spec_from_settings(filled, facts.vocab_size, "small")


def _usual_context(train_s: float | None) -> int:
    """Longer windows say more about each token, and cost more."""
    if train_s is None:
        return 256
    return 128 if train_s < 120 else 256


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


def _seen_tokens(spec: ModelSpec, facts: Facts) -> float:
    """Tokens that a run goes through in its time."""
    seconds = _DEFAULT_TRAIN_S if facts.train_s is None else facts.train_s
    return seconds * tokens_per_s(spec, facts.flops_per_s)


def expected_bits_per_byte(spec: ModelSpec, facts: Facts) -> float:
    """What the scaling law says of a run of this shape."""
    seen_bytes = _seen_tokens(spec, facts) * facts.bytes_per_token
    return scaling_law().bits_per_byte(
        float(block_parameters(spec)), max(seen_bytes, 1.0), float(facts.train_bytes)
    )


def _tokens_per_step(seen_tokens: float) -> float:
    """Small steps at first: a run of a few seconds needs many of them."""
    return min(max(1024.0, 1024.0 * math.pow(seen_tokens / 5e5, 0.4)), 16384.0)


def _learning_rate(train: TrainSettings, width: int) -> float:
    """AdamW's rate: beside Muon, for tables and gains, level up to width 128, then as 1/width."""
    if train.optimizer == "adamw":
        return 3e-3 * math.sqrt(128 / width)
    return 1e-2 * 128 / max(width, 128)


def _matrix_rate(steps: float) -> float:
    """Muon's rate: the same at every width from 64 to 256."""
    return 1.2e-2 if steps <= 500 else 1e-2


def _momentum(steps: float) -> float:
    """Muon's: a short run can't wait for a long mean."""
    return min(0.9, max(0.8, 0.8 + 0.05 * math.log2(max(steps, 1.0) / 400)))


def expected_readings(
    settings: Settings, spec: ModelSpec, facts: Facts, train_s: float | None
) -> float:
    """How often the run reads its text, in steps or `train_s`; `settings` are decided."""
    train = settings.train
    assert train.batch_size is not None
    if train_s is None:
        assert train.steps is not None
        tokens = float(train.steps * train.batch_size * train.accumulate * spec.context)
    else:
        tokens = train_s * tokens_per_s(spec, facts.flops_per_s)
    return tokens / max(facts.train_tokens, 1)


def _read_tokens(train: TrainSettings, tokens_per_step: int, facts: Facts) -> float:
    """Tokens that are read; not of the chosen shape, so that it falls with the text alone."""
    if train.steps is not None:
        return float(train.steps * tokens_per_step)
    usual = spec_from_settings(ModelSettings(preset="small"), facts.vocab_size, "small")
    return _seen_tokens(usual, facts)


def _dropout(read_tokens: float, facts: Facts) -> float:
    """None while the text is new, then a little; more was never better."""
    readings = read_tokens / max(facts.train_tokens, 1)
    if readings < 5:
        return 0.0
    return 0.05 if readings < 40 else 0.1


def default_threads() -> int:
    """One a core."""
    return psutil.cpu_count(logical=False) or 1


def describe(settings: Settings, spec: ModelSpec, facts: Facts) -> Plan:
    """What to show before training starts; `settings` are decided."""
    train = settings.train
    assert train.batch_size and train.learning_rate and train.threads
    tokens_per_step = train.batch_size * train.accumulate * spec.context
    rate = tokens_per_s(spec, facts.flops_per_s)
    expected = None
    if facts.train_s is not None:
        expected = expected_bits_per_byte(spec, facts)
    return Plan(
        num_parameters=spec.num_parameters,
        vocab_size=spec.vocab_size,
        train_tokens=facts.train_tokens,
        width=spec.width,
        layers=spec.layers,
        heads=spec.heads,
        context=spec.context,
        batch_size=train.batch_size,
        tokens_per_step=tokens_per_step,
        learning_rate=train.learning_rate,
        precision=train.precision,
        threads=train.threads,
        total_steps=train.steps,
        minutes=None if train.steps is not None else train.minutes,
        engine=train.engine,
        optimizer=train.optimizer,
        dropout=train.dropout or 0.0,
        tokens_per_s=rate,
        expected_bits_per_byte=expected,
        expected_spread=scaling_law().spread,
        expected_memory_bytes=_memory_bytes(spec, tokens_per_step, train.threads),
        mechanisms=tuple(part.name for part in spec.mechanisms),
        opens_elsewhere=not kept(spec),
        measured_gain=measured_gain(spec.mechanisms),
        table_bytes=4 * spec.num_row_parameters,
    )


def _memory_bytes(spec: ModelSpec, tokens_per_step: int, threads: int) -> int:
    """Resident memory of the run: the program, weights and moments, and a step's tape."""
    tables = 4 * spec.num_row_parameters
    dense = spec.num_parameters - spec.num_row_parameters
    # A second copy of the tables while they are saved.
    program, weights = 170 << 20, dense * (4 * (4 + 2 * threads) + 8) + 2 * tables
    row = (
        2
        * spec.layers
        * (
            8 * spec.heads * spec.head_width
            + 4 * spec.mlp_width
            + 2 * spec.width
            + spec.heads * spec.context
        )
    )
    return int(program + weights + min(tokens_per_step * row, 200 << 20))
