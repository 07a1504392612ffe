"""Measure how fast this machine writes and learns, for models of some sizes or a given one."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from cllm.config import TrainSettings
from cllm.errors import SettingsError
from cllm.jobs.bench_figures import BenchResult, FormatFigures, ModelFigures
from cllm.jobs.bench_match import Match, open_match
from cllm.jobs.bench_memory import process_memory
from cllm.jobs.bench_models import SIZES, Format, Subject, folder_subject, num_bytes, size_subject
from cllm.jobs.bench_peers import PeerProgram, describe_peers, installed_peers
from cllm.jobs.bench_timing import (
    BATCHES,
    TRAINED_WINDOWS,
    Rates,
    Work,
    in_rounds,
    writing_works,
)
from cllm.jobs.opening import decoding_threads, open_decoder
from cllm.jobs.stopping import listen_for_stop
from cllm.workspace.workspace import Workspace

# (what is measured now, how many are done, of how many, the share of all that is done)
OnProgress = Callable[[str, int, int, float], None]

LEAST_SECONDS, MOST_SECONDS = 1.0, 3600.0
# Of the time with other programs, about so much goes into warming them up.
_WARMING_SHARE = 0.4


def bench(
    model: str | None = None,
    *,
    workspace: Workspace,
    presets: Sequence[str] = (),
    seconds: float | None = None,
    threads: int | None = None,
    peers: bool = False,
    on_progress: OnProgress | None = None,
) -> BenchResult:
    """Measure a model, or the presets (all of them unless named) with random weights.

    About `seconds` (a minute; with `peers` three) are spent on all together. Every figure is the
    median of rounds in which everything is measured in turn; with `peers`, the other programs
    that are installed, too. What is compiled stays in the workspace's home.
    Raises: NotFoundError, IntegrityError, SettingsError, StorageError.
    """
    seconds = usual_seconds(peers=peers) if seconds is None else seconds
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
    programs = installed_peers() if peers else []
    if programs:
        # A signal in the middle of its loading would end the process as a crash.
        importlib.import_module("onnx")
    busy, found = _busy_share(), []

    def tell(name: str, number: int, share: float) -> None:
        if on_progress is not None:
            on_progress(name, number, len(subjects), (number + share) / len(subjects))

    # Children and files of other programs go, however this ends.
    with listen_for_stop():
        for number, subject in enumerate(subjects):
            tell(subject.name, number, 0.0)
            bench_one = _Bench(subject, workspace.home, threads, programs)
            on_share = partial(tell, subject.name, number)
            found.append(bench_one.measure(seconds / len(subjects), on_share))
    return BenchResult(found, busy, _busy_share(), describe_peers() if peers else None)


def usual_seconds(*, peers: bool) -> float:
    """How long to measure unless told otherwise; beside other programs there is more to do."""
    return 180.0 if peers else 60.0


@dataclass(frozen=True, slots=True)
class _OwnWorks:
    """What is timed of ours, and what is known before."""

    works: dict[str, Work]
    # By format: bytes of the weights, of a process, and of a process at most.
    sizes: dict[Format, tuple[int, int | None, int | None]]
    trainer: str
    notice: str | None


@dataclass(frozen=True, slots=True)
class _Bench:
    """The measurement of one model."""

    subject: Subject
    home: Path
    threads: int | None
    programs: Sequence[PeerProgram]

    def measure(self, seconds: float, on_share: Callable[[float], None]) -> ModelFigures:
        """All figures of the model; the warming up is part of the time."""
        start, spec = perf_counter(), self.subject.spec
        with self._match(lambda share: on_share(_WARMING_SHARE * share)) as match:
            ours = self._own_works(match)
            works = ours.works | (match.works() if match is not None else {})
            begun = _WARMING_SHARE if self.programs else 0.0
            found = in_rounds(
                works,
                max(seconds - (perf_counter() - start), 0.0),
                on_round=lambda share: on_share(begun + (1.0 - begun) * share),
            )
            peers = [] if match is None else match.figures(found, list(ours.sizes))
            is_alone = match is not None and not match.players
        return ModelFigures(
            name=self.subject.name,
            parameters=spec.num_parameters,
            threads=self.threads or decoding_threads(spec),
            prompt_tokens=spec.context,
            formats=[
                _format_figures(format_, *ours.sizes[format_], found) for format_ in ours.sizes
            ],
            training=found.get("training"),
            trainer=ours.trainer,
            notice=ours.notice,
            peers=[] if is_alone else peers,
            peers_notice=peers[0].problem if is_alone and peers else None,
        )

    @contextlib.contextmanager
    def _match(self, on_warm: Callable[[float], None]) -> Iterator[Match | None]:
        if not self.programs:
            yield None
            return
        with open_match(self.subject, self.home, self.threads) as match:
            match.join(self.programs, on_warm)
            yield match

    def _own_works(self, match: Match | None) -> _OwnWorks:
        subject, spec = self.subject, self.subject.spec
        works: dict[str, Work] = {}
        sizes: dict[Format, tuple[int, int | None, int | None]] = {}
        notice, threads_used = None, self.threads or decoding_threads(spec)
        for format_ in subject.formats:
            weights = subject.weights(format_)
            decoder, notice = open_decoder(
                spec,
                weights,
                self.home,
                lexicon=subject.lexicon(),
                threads=self.threads,
                num_slots=max(BATCHES),
            )
            memory = process_memory(subject, format_, self.home, threads_used)
            resident = None if memory is None else memory.resident
            peak = None
            if match is not None and match.players:
                peak = match.own_peak(format_, weights, threads_used)
            sizes[format_] = (num_bytes(weights), resident, peak)
            works |= {f"{format_} {name}": work for name, work in writing_works(decoder).items()}
            if notice is not None:
                # Torch computes in float32, whatever the format.
                break
        training, trainer = _training(subject, self.home, self.threads)
        if training is not None:
            works["training"] = training
        return _OwnWorks(works, sizes, trainer, notice)


def _format_figures(
    format_: Format,
    weight_bytes: int,
    resident: int | None,
    peak: int | None,
    found: Mapping[str, Rates],
) -> FormatFigures:
    return FormatFigures(
        format=format_,
        weight_bytes=weight_bytes,
        process_bytes=resident,
        prefill=found[f"{format_} prefill"],
        decode=found[f"{format_} decode"],
        batches={size: found[f"{format_} batch {size}"] for size in BATCHES},
        first_token_s=found[f"{format_} first token"],
        peak_bytes=peak,
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
    shape = (TRAINED_WINDOWS, spec.context)
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
