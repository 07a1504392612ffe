"""What happens in a run, as it is told to whoever watches: the terminal, a log, a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cllm.text.corpus import Corpus


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be trained; `total_steps` or `minutes` says when it ends.

    `expected_bits_per_byte` comes with its relative `expected_spread`.
    """

    num_parameters: int
    vocab_size: int
    train_tokens: int
    width: int
    layers: int
    heads: int
    context: int
    batch_size: int
    tokens_per_step: int
    learning_rate: float
    precision: str
    threads: int
    total_steps: int | None
    minutes: float | None
    engine: str
    optimizer: str
    dropout: float
    tokens_per_s: float
    expected_bits_per_byte: float | None
    expected_spread: float
    expected_memory_bytes: int
    # What stands in the model besides the plain parts, and the memory of its row tables.
    mechanisms: tuple[str, ...] = ()
    opens_elsewhere: bool = True
    table_bytes: int = 0
    measured_gain: str | None = None


@dataclass(frozen=True, slots=True)
class Preparing:
    """Text is being read or turned into tokens; `stage` is that of `text.progress`."""

    stage: str
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The text is read, split and turned into tokens."""

    corpus: Corpus


@dataclass(frozen=True, slots=True)
class Planned:
    """The shape and the schedule are decided."""

    plan: Plan
    run: str
    model: str
    resumed_step: int | None = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """One optimiser step is done; `progress` runs from 0 to 1."""

    step: int
    total_steps: int | None
    progress: float
    elapsed_s: float
    remaining_s: float
    train_nats: float
    train_bpb: float
    tokens_per_s: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Validated:
    """The held-out part is scored."""

    step: int
    nats_per_token: float
    bits_per_byte: float
    is_best: bool


@dataclass(frozen=True, slots=True)
class Sampled:
    """The model has continued the prompt."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is safely on disk."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Paused:
    """The run stands still after this step, with everything saved."""

    step: int


@dataclass(frozen=True, slots=True)
class Continued:
    """The run goes on after a pause."""

    step: int


@dataclass(frozen=True, slots=True)
class Advised:
    """Something the person may want to change."""

    message: str


@dataclass(frozen=True, slots=True)
class Profiled:
    """Where the time of the loop went: seconds by kind of work, the largest first.

    `peak_share` is the work of the steps over what products alone would do in their time.
    """

    seconds: dict[str, float]
    peak_share: float | None
    peak_flops_per_s: float | None
    trace: Path


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended; `history` holds (step, train bits per byte, held-out bits per byte)."""

    model: str
    run: str
    steps: int
    tokens: int
    tokens_per_s: float
    num_parameters: int
    vocab_size: int
    val_bits_per_byte: float | None
    val_nats_per_token: float | None
    val_tokens: int
    val_bytes: int
    seconds_total: float
    seconds_to_first_step: float | None
    seconds_training: float
    peak_rss_bytes: int
    state: str
    best_step: int | None
    prompt: str
    first_sample: str
    last_sample: str
    copying: dict[str, Any] | None = None
    plot: str | None = None
    advice: list[str] = field(default_factory=list)
    history: list[tuple[int, float | None, float | None]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Everything but the curve, for the last line of `--json`."""
        figures = asdict(self)
        del figures["history"]
        return figures


@dataclass(frozen=True, slots=True)
class Finished:
    """The model is saved."""

    result: TrainResult


Event = (
    Preparing
    | Prepared
    | Planned
    | Stepped
    | Validated
    | Sampled
    | Saved
    | Paused
    | Continued
    | Advised
    | Profiled
    | Finished
)
Observe = Callable[[Event], None]
