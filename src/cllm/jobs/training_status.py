"""How a run stands, in plain values, read from its folder while it is at work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cllm.jobs.child_process import error_in
from cllm.jobs.journal import read_progress
from cllm.jobs.models import iso_time
from cllm.jobs.steering import Wish, wish_of
from cllm.jobs.training_record import read_log
from cllm.workspace.runs import RunRecord, RunState


@dataclass(frozen=True, slots=True)
class TrainingStatus:
    """A run now: its state, and figures where there are some; None where not yet.

    `wanted` is what was wished of it and may not have happened yet. While text is read, `stage`
    says what is done, of `total_bytes`. Times: seconds; `started`, `updated`: since 1970.
    """

    id: str
    model: str
    state: RunState
    wanted: Wish
    has_crashed: bool
    can_continue: bool
    error: str | None
    started: float
    updated: float
    stage: str | None
    done_bytes: int | None
    total_bytes: int | None
    step: int | None
    total_steps: int | None
    progress: float
    elapsed_s: float | None
    remaining_s: float | None
    loss: float | None
    bits_per_byte: float | None
    val_bits_per_byte: float | None
    tokens_per_s: float | None
    memory_bytes: int | None
    advice: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def is_active(self) -> bool:
        """Whether a living process is at work on it, be it paused."""
        return self.state in ("preparing", "training", "paused")

    def to_json(self) -> dict[str, Any]:
        """Plain values, times as ISO 8601."""
        times = {"started": iso_time(self.started), "updated": iso_time(self.updated)}
        lists = {"advice": list(self.advice), "command": list(self.command)}
        return asdict(self) | times | lists


def describe_run(record: RunRecord) -> TrainingStatus:
    """The status of a run, from its record and its folder."""
    known, is_active = read_progress(record.folder), record.is_active
    has_figures = "step" in known
    error = record.figures.get("error")
    if error is None and record.has_crashed:
        error = _last_words(record)
    has_ended = record.state == "finished"
    return TrainingStatus(
        id=record.id,
        model=record.model,
        state=record.state,
        wanted=wish_of(record.folder) if is_active else "go",
        has_crashed=record.has_crashed,
        can_continue=not is_active and not has_ended and (record.folder / "request.json").exists(),
        error=error,
        started=record.started,
        updated=max(record.updated, known.get("at") or 0.0),
        stage=known.get("stage") if is_active else None,
        done_bytes=known.get("done_bytes") if not has_figures else None,
        total_bytes=known.get("total_bytes") if not has_figures else None,
        step=record.figures.get("steps") if has_ended else known.get("step"),
        total_steps=known.get("total_steps"),
        progress=1.0 if has_ended else float(known.get("progress") or 0.0),
        elapsed_s=known.get("elapsed_s"),
        remaining_s=known.get("remaining_s") if is_active else None,
        loss=known.get("train_nats"),
        bits_per_byte=known.get("train_bpb"),
        val_bits_per_byte=record.figures.get("val_bits_per_byte", known.get("val_bits_per_byte")),
        tokens_per_s=record.figures.get("tokens_per_s", known.get("tokens_per_s")),
        memory_bytes=known.get("memory_bytes") if is_active else None,
        advice=tuple(known.get("advice") or ()),
        command=record.command,
    )


def _last_words(record: RunRecord) -> str:
    """Why a process may have ended that did not say so: what it printed last."""
    log = read_log(record.folder)
    if "Error: " in log:
        return error_in(log)[0]
    return "its process has ended without a word: it was killed, or the machine went off"
