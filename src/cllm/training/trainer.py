"""The training loop: batches in, better weights out, nothing lost when it stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Int32

from cllm.config import TrainSettings
from cllm.errors import TrainingError
from cllm.text.batches import Batches
from cllm.training.advice import advise_on_loss, advise_on_overfitting
from cllm.training.checkpoint import Checkpoints, Progress, Tensors
from cllm.training.events import (
    Advised,
    Continued,
    Observe,
    Paused,
    Sampled,
    Saved,
    Stepped,
    Validated,
)
from cllm.training.learner import Batch, Learner, Rates
from cllm.training.metrics import MetricsLog
from cllm.training.profile import Profile
from cllm.training.schedule import Schedule, TimedSchedule, warmup_stable_decay
from cllm.training.scoring import Score

# Validations and samples come at fixed shares of the run, whatever its length.
_NUM_VALIDATIONS, _NUM_SAMPLES = 10, 4
# Shorter windows than this teach less (docs/log.md).
_LEAST_WINDOW = 32
# While it stands still, a run looks this often whether it is to go on.
_PAUSE_POLL_S = 0.1

# What whoever watches a run would have it do: `stop` ends it well, with its model.
Wish = Literal["go", "pause", "stop"]


def _go() -> Wish:
    return "go"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the loop is given from outside: where things go, and how to look at the model."""

    checkpoints: Checkpoints
    metrics: MetricsLog
    observe: Observe
    validate: Callable[[Learner], tuple[Score, float]] | None
    sample: Callable[[Learner], str] | None
    prompt: str
    stop_requested: Callable[[], bool]
    bytes_per_token: float
    profile: Profile = field(default_factory=Profile)
    wish: Callable[[], Wish] = _go


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the loop ended: `state` is finished, stopped, stopped early or interrupted.

    "stopped" was a wish, "stopped early" patience, and "interrupted" has no model yet.

    `first_step_at` is on `time.monotonic`'s clock; `num_steps`, `num_windows` and `stepping_s`
    count this life's steps and the time in them, without validation, samples and saving.
    """

    state: str
    progress: Progress
    first_step_at: float | None
    num_steps: int
    num_windows: int
    stepping_s: float


class Trainer:
    """Trains what learns; `settings` are decided (nothing left open)."""

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        settings: TrainSettings,
        schedule: Schedule,
        around: Surroundings,
    ) -> None:
        self._learner, self._batches, self._schedule = learner, batches, schedule
        self._settings, self._around = settings, around
        self._progress = Progress()
        self._train_nats: list[float] = []
        self._val_nats: list[float] = []
        self._advised: set[str] = set()
        self._stepping_s = 0.0
        self._validated_step: int | None = None
        # The best weights so far where no checkpoint has them yet, and their progress.
        self._best: tuple[Tensors, Progress] | None = None

    def restore(self, tensors: Tensors, progress: Progress) -> None:
        """Go on from a checkpoint."""
        self._learner.load_state(tensors)
        self._progress = progress
        if progress.best_step == progress.step:
            self._best = (self._best_weights(), progress)
        if isinstance(self._schedule, TimedSchedule):
            self._schedule.restart(progress.step, progress.elapsed_s)

    def run(self) -> Outcome:
        """Train until the schedule ends, patience does, or somebody stops it.

        Raises: TrainingError when loss or gradients are not finite; the last checkpoint
        then holds the last good state.
        """
        first, first_window = self._progress.step, self._progress.windows
        if first == 0 and self._around.checkpoints.load_last() is None:
            self._save()
            self._sample(0)
        with self._around.profile.span("Python"):
            state, first_step_at = self._loop()
        self._save()
        return Outcome(
            state=state,
            progress=self._progress,
            first_step_at=first_step_at,
            num_steps=self._progress.step - first,
            num_windows=self._progress.windows - first_window,
            stepping_s=self._stepping_s,
        )

    def _loop(self) -> tuple[str, float | None]:
        """Step until there is a reason to stop; returns it, and when the first step was done."""
        saved, first_step_at = time.monotonic(), None
        while (share := self._schedule.progress(self._progress.step)) < 1.0:
            self._step(share)
            first_step_at = first_step_at or time.monotonic()
            self._look(share)
            if self._is_out_of_patience():
                return "stopped early", first_step_at
            wish = self._around.wish()
            if wish == "pause":
                wish = self._pause()
                saved = time.monotonic()
            if self._around.stop_requested():
                return "interrupted", first_step_at
            if wish == "stop":
                if self._validated_step != self._progress.step:
                    self._validate()
                return "stopped", first_step_at
            if time.monotonic() - saved >= self._settings.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
        return "finished", first_step_at

    def _pause(self) -> Wish:
        """Stand still, with everything saved, until something else is wished."""
        self._save()
        began, step = time.monotonic(), self._progress.step
        self._around.observe(Paused(step))
        while (wish := self._around.wish()) == "pause" and not self._around.stop_requested():
            time.sleep(_PAUSE_POLL_S)
        self._schedule.leave_out(time.monotonic() - began)
        if wish == "go":
            self._around.observe(Continued(step))
        return wish

    def _step(self, share: float) -> None:
        began = time.monotonic()
        settings, progress = self._settings, self._progress
        assert settings.batch_size and settings.learning_rate and settings.matrix_rate
        shape = warmup_stable_decay(
            share,
            warmup=settings.warmup_fraction,
            decay=settings.decay_fraction,
            final_fraction=settings.final_fraction,
        )
        rates = Rates(
            settings.learning_rate * shape,
            settings.matrix_rate * shape,
            settings.momentum or 0.0,
            share=shape,
            progress=min(share, 1.0),
        )
        parts = [settings.batch_size] * settings.accumulate
        starts = [progress.windows + sum(parts[:number]) for number in range(len(parts))]
        with self._around.profile.span("data"):
            batches = [self._batches.read(*part) for part in zip(starts, parts, strict=True)]
            if settings.context_ramp:
                batches = [_shorter(batch, share) for batch in batches]
        with self._around.profile.span("step"):
            figures = self._learner.step(batches, rates)
        if not (math.isfinite(figures.nats) and math.isfinite(figures.gradient_norm)):
            raise TrainingError(
                f"the loss ({figures.nats}) or its gradient ({figures.gradient_norm}) is not"
                f" finite at step {progress.step}",
                hint="The last checkpoint is good. Train anew with a lower "
                f"--train.learning-rate than {settings.learning_rate:g} and --train.matrix-rate"
                f" than {settings.matrix_rate:g}, or --train.precision float32.",
            )
        elapsed = self._schedule.elapsed_s()
        self._progress = replace(
            progress,
            step=progress.step + 1,
            windows=progress.windows + sum(parts),
            elapsed_s=elapsed,
        )
        self._train_nats.append(figures.nats)
        self._around.metrics.write(
            progress.step + 1,
            train_nats=figures.nats,
            gradient_norm=figures.gradient_norm,
            learning_rate=rates.learning_rate,
            elapsed_s=elapsed,
        )
        took_s = time.monotonic() - began
        self._stepping_s += took_s
        self._around.observe(
            self._describe_step(share, figures.nats, rates.learning_rate, sum(parts) / took_s)
        )

    def _describe_step(
        self, share: float, nats: float, rate: float, windows_per_s: float
    ) -> Stepped:
        elapsed, step = self._progress.elapsed_s, self._progress.step
        total = self._schedule.total_steps
        done = step / total if total else min(share, 1.0)
        return Stepped(
            step=step,
            total_steps=total,
            progress=done,
            elapsed_s=elapsed,
            remaining_s=elapsed * (1.0 - done) / done if done > 0 else 0.0,
            train_nats=nats,
            train_bpb=nats / math.log(2) / self._around.bytes_per_token,
            tokens_per_s=windows_per_s * self._learner.context,
            learning_rate=rate,
        )

    def _look(self, share: float) -> None:
        """Validate, sample and advise where they are due after this step."""
        step, interval = self._progress.step, self._settings.eval_interval
        ahead = self._schedule.progress(step)
        if interval is not None:
            due = step % interval == 0
        else:
            due = int(ahead * _NUM_VALIDATIONS) > int(share * _NUM_VALIDATIONS)
        if due or ahead >= 1.0:
            self._validate()
        if ahead < 1.0 and int(ahead * _NUM_SAMPLES) > int(share * _NUM_SAMPLES):
            self._sample(step)

    def _validate(self) -> None:
        if self._around.validate is None:
            return
        with self._around.profile.span("validation"):
            score, bpb = self._around.validate(self._learner)
        nats, progress = score.nats_per_token, self._progress
        self._validated_step = progress.step
        is_best = progress.best_nats is None or nats < progress.best_nats
        self._progress = replace(
            progress,
            best_step=progress.step if is_best else progress.best_step,
            best_nats=nats if is_best else progress.best_nats,
            validations_since_best=0 if is_best else progress.validations_since_best + 1,
            last_val_nats=nats,
        )
        if is_best:
            self._best = (self._best_weights(), self._progress)
        self._val_nats.append(nats)
        self._around.metrics.write(
            progress.step, val_nats=nats, val_bits_per_byte=bpb, is_best=is_best
        )
        self._around.observe(Validated(progress.step, nats, bpb, is_best))
        self._advise(advise_on_overfitting(self._val_nats))
        self._advise(advise_on_loss(self._train_nats, self._settings.learning_rate or 0.0))

    def _best_weights(self) -> Tensors:
        return {f"weight.{name}": value for name, value in self._learner.weights().items()}

    def _advise(self, message: str | None) -> None:
        kind = message.split(" ", 1)[0] if message else ""
        if message and kind not in self._advised:
            self._advised.add(kind)
            self._around.observe(Advised(message))

    def _sample(self, step: int) -> None:
        if self._around.sample is not None:
            with self._around.profile.span("samples"):
                text = self._around.sample(self._learner)
            self._around.observe(Sampled(step, self._around.prompt, text))

    def _is_out_of_patience(self) -> bool:
        patience = self._settings.patience
        return patience is not None and self._progress.validations_since_best >= patience

    def _save(self) -> None:
        self._around.metrics.flush()
        with self._around.profile.span("checkpoints"):
            # The best before the last, which names it; where both are the same, it holds them.
            if self._best is not None and self._best[1].step != self._progress.step:
                self._around.checkpoints.save_best(*self._best)
                self._best = None
            path = self._around.checkpoints.save_last(self._learner.state(), self._progress)
        self._around.observe(Saved(self._progress.step, path))


def _shorter(
    batch: Batch, share: float
) -> tuple[Int32[np.ndarray, "R W"], Int32[np.ndarray, "R W"]]:
    """The same tokens in shorter windows early in a run: they cost less and teach as much."""
    ids, targets = batch
    context = ids.shape[1]
    length = context
    if share < 0.4:
        length = max(_LEAST_WINDOW, context // 8)
    elif share < 0.8:
        length = max(2 * _LEAST_WINDOW, context // 2)
    if length >= context or context % length:
        return batch
    return ids.reshape(-1, length), targets.reshape(-1, length)
