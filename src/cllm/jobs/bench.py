"""Measure how fast this machine writes and learns, for models of some sizes or a given one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil

from cllm.config import TrainSettings
from cllm.errors import SettingsError
from cllm.jobs.bench_memory import process_bytes
from cllm.jobs.bench_models import SIZES, Format, Subject, folder_subject, num_bytes, size_subject
from cllm.jobs.bench_timing import BATCHES, Rates, Work, in_rounds, writing_works
from cllm.jobs.opening import decoding_threads, open_decoder
from cllm.workspace.workspace import Workspace

# (what is measured now, how many are done, of how many)
OnProgress = Callable[[str, int, int], None]

_TRAINED_WINDOWS = 4
LEAST_SECONDS, MOST_SECONDS = 1.0, 3600.0
# Where other programs take more than this share of the machine, figures say more about them.
BUSY = 0.15


@dataclass(frozen=True, slots=True)
class FormatFigures:
    """One format of one model: rates in tokens/s, the first token in seconds, in each round.

    `process_bytes` is the memory of a process that writes with it, Python and all.
    """

    format: Format
    weight_bytes: int
    process_bytes: int | None
    prefill: Rates
    decode: Rates
    batches: Mapping[int, Rates]
    first_token_s: Rates

    def to_json(self) -> dict[str, Any]:
        """Plain values: median, least and greatest of each."""
        return {
            "format": self.format,
            "weight_bytes": self.weight_bytes,
            "process_bytes": self.process_bytes,
            "prefill_tokens_per_s": self.prefill.to_json(),
            "decode_tokens_per_s": self.decode.to_json(),
            **{
                f"batch_{size}_tokens_per_s": rates.to_json()
                for size, rates in self.batches.items()
            },
            "first_token_s": self.first_token_s.to_json(),
        }


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model: each format, and training (None where it can't be trained on).

    `trainer` says what trains it; `notice` why it writes the slower way, where it does.
    """

    name: str
    parameters: int
    threads: int
    prompt_tokens: int
    formats: list[FormatFigures]
    training: Rates | None
    trainer: str
    notice: str | None

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
        }


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All models, and how busy other programs kept the machine before and after (0 to 1)."""

    models: list[ModelFigures]
    busy_before: float
    busy_after: float

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs were at work, too."""
        return max(self.busy_before, self.busy_after) > BUSY

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "benchmark": "bench",
            "models": [figures.to_json() for figures in self.models],
            "busy_before": self.busy_before,
            "busy_after": self.busy_after,
        }


def bench(
    model: str | None = None,
    *,
    workspace: Workspace,
    presets: Sequence[str] = (),
    seconds: float = 60.0,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> BenchResult:
    """Measure a model, or the presets (all of them unless named) with random weights.

    About `seconds` are spent on all together. Every figure is the median of rounds in which
    everything is measured in turn. What is compiled stays in the workspace's home.
    Raises: NotFoundError, IntegrityError, SettingsError.
    """
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        message = f"{seconds:g} is not between {LEAST_SECONDS:g} and {MOST_SECONDS:g}"
        raise SettingsError(message, where="--seconds")
    if threads is not None and threads < 1:
        raise SettingsError(f"{threads} threads can't do anything", where="--threads")
    if model is not None and presets:
        raise SettingsError("give a model or presets, not both", where="--preset")
    if model is None:
        subjects = [size_subject(name) for name in presets or SIZES]
    else:
        subjects = [folder_subject(model, workspace.models.path(model))]
    busy, found = _busy_share(), []
    for number, subject in enumerate(subjects):
        if on_progress is not None:
            on_progress(subject.name, number, len(subjects))
        found.append(_measure(subject, workspace.home, seconds / len(subjects), threads))
    return BenchResult(found, busy, _busy_share())


def _measure(subject: Subject, home: Path, seconds: float, threads: int | None) -> ModelFigures:
    start, spec = perf_counter(), subject.spec
    threads_used = threads or decoding_threads(spec)
    works: dict[str, Work] = {}
    sizes: dict[Format, tuple[int, int | None]] = {}
    notice = None
    for format_ in subject.formats:
        weights = subject.weights(format_)
        decoder, notice = open_decoder(
            spec,
            weights,
            home,
            lexicon=subject.lexicon(),
            threads=threads,
            num_slots=max(BATCHES),
        )
        sizes[format_] = (
            num_bytes(weights),
            process_bytes(subject, format_, home, threads_used),
        )
        works |= {f"{format_} {name}": work for name, work in writing_works(decoder).items()}
        if notice is not None:
            # Torch computes in float32, whatever the format.
            break
    training, trainer = _training(subject, home, threads)
    if training is not None:
        works["training"] = training
    found = in_rounds(works, max(seconds - (perf_counter() - start), 0.0))
    return ModelFigures(
        name=subject.name,
        parameters=spec.num_parameters,
        threads=threads_used,
        prompt_tokens=spec.context,
        formats=[_format_figures(format_, *sizes[format_], found) for format_ in sizes],
        training=found.get("training"),
        trainer=trainer,
        notice=notice,
    )


def _format_figures(
    format_: Format, weight_bytes: int, process: int | None, found: Mapping[str, Rates]
) -> FormatFigures:
    return FormatFigures(
        format=format_,
        weight_bytes=weight_bytes,
        process_bytes=process,
        prefill=found[f"{format_} prefill"],
        decode=found[f"{format_} decode"],
        batches={size: found[f"{format_} batch {size}"] for size in BATCHES},
        first_token_s=found[f"{format_} first token"],
    )


def _training(subject: Subject, home: Path, threads: int | None) -> tuple[Work | None, str]:
    """Steps of a training run of that model, and what computes them."""
    from cllm.jobs.compute import choose_compute
    from cllm.training.learner import Rates as LearningRates
    from cllm.training.plan import default_threads

    if subject.formats == ("as stored",):
        return None, ""
    spec = subject.spec
    settings = TrainSettings(threads=threads or default_threads())
    compute, _ = choose_compute(home, settings, spec.mechanisms, subject.lexicon())
    decided = settings.model_copy(update={"precision": compute.precision, "dropout": 0.0})
    weights = {
        name: value
        for name, value in subject.weights("float32").items()
        if isinstance(value, np.ndarray)
    }
    learner = compute.learner(spec, weights, decided)
    shape = (_TRAINED_WINDOWS, spec.context)
    ids = np.random.default_rng(0).integers(0, spec.vocab_size, shape).astype(np.int32)
    batch, rates = (ids, np.roll(ids, -1, axis=1)), LearningRates(1e-4, 1e-4, 0.9)

    def work(seconds: float) -> tuple[float, float]:
        start, steps = perf_counter(), 0
        while not steps or perf_counter() - start < seconds:
            learner.step([batch], rates)
            steps += 1
        return float(steps * ids.size), perf_counter() - start

    return work, f"{compute.kind}, {compute.precision}"


def _busy_share() -> float:
    """The share of the processors that is at work while this process does nothing."""
    return float(psutil.cpu_percent(interval=0.3)) / 100.0
