"""What `cllm bench` found, as values that are shown, kept and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cllm.jobs.bench_models import Format
from cllm.jobs.bench_timing import Rates

# Where other programs take more than this share of the machine, figures say more about them.
BUSY = 0.15


@dataclass(frozen=True, slots=True)
class FormatFigures:
    """One format of one model: rates in tokens/s, the first token in seconds, in each round.

    `process_bytes` is the memory of a process that writes with it, Python and all; `peak_bytes`,
    measured beside other programs only, the most that one held from reading the file on.
    """

    format: Format
    weight_bytes: int
    process_bytes: int | None
    prefill: Rates
    decode: Rates
    batches: Mapping[int, Rates]
    first_token_s: Rates
    peak_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values: median, least and greatest of each."""
        return {
            "format": self.format,
            "weight_bytes": self.weight_bytes,
            "process_bytes": self.process_bytes,
            "peak_bytes": self.peak_bytes,
            "prefill_tokens_per_s": self.prefill.to_json(),
            "decode_tokens_per_s": self.decode.to_json(),
            **{
                f"batch_{size}_tokens_per_s": rates.to_json()
                for size, rates in self.batches.items()
            },
            "first_token_s": self.first_token_s.to_json(),
        }


@dataclass(frozen=True, slots=True)
class PeerFigures:
    """Another program on the same weights, in `format`; `against` is what it is compared with.

    `rates`, `ratios` and `threads` go by the work: prefill, decode, training. A ratio says how
    many times as many tokens ours took in the same round. `problem`: why it has no figures.
    """

    program: str
    format: str
    against: Format
    rates: Mapping[str, Rates]
    ratios: Mapping[str, Rates]
    threads: Mapping[str, int]
    peak_bytes: int | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values: median, least and greatest of each."""
        return {
            "program": self.program,
            "format": self.format,
            "against": self.against,
            "peak_bytes": self.peak_bytes,
            "problem": self.problem,
            "threads": dict(self.threads),
            **{f"{work}_tokens_per_s": rates.to_json() for work, rates in self.rates.items()},
            **{f"{work}_times": ratios.to_json() for work, ratios in self.ratios.items()},
        }


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model: each format, and training (None where it can't be trained on).

    `trainer` says what trains it; `notice` why it writes the slower way, where it does;
    `peers_notice` why no other program runs it, where none does.
    """

    name: str
    parameters: int
    threads: int
    prompt_tokens: int
    formats: list[FormatFigures]
    training: Rates | None
    trainer: str
    notice: str | None
    peers: list[PeerFigures] = field(default_factory=list)
    peers_notice: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "parameters": self.parameters,
            "threads": self.threads,
            "prompt_tokens": self.prompt_tokens,
            "formats": [figures.to_json() for figures in self.formats],
            "training_tokens_per_s": None if self.training is None else self.training.to_json(),
            "trainer": self.trainer,
            "notice": self.notice,
            "peers": [figures.to_json() for figures in self.peers],
            "peers_notice": self.peers_notice,
        }


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All models, and how busy other programs kept the machine before and after (0 to 1).

    `programs` are those that could be compared with, installed or not; None where nobody asked.
    """

    models: list[ModelFigures]
    busy_before: float
    busy_after: float
    programs: list[dict[str, Any]] | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs were at work, too."""
        return max(self.busy_before, self.busy_after) > BUSY

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "benchmark": "bench",
            "models": [figures.to_json() for figures in self.models],
            "programs": self.programs,
            "busy_before": self.busy_before,
            "busy_after": self.busy_after,
            "is_disturbed": self.is_disturbed,
        }
