"""What a run has written, also while it runs: its curve, samples, result, log and events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from cllm.errors import IntegrityError, NotFoundError
from cllm.files import read_json
from cllm.jobs.journal import EVENTS, read_progress
from cllm.jobs.plots import thin
from cllm.training.metrics import read_metrics
from cllm.workspace.workspace import Workspace

LOG = "log.txt"
# The database is asked less often than the journal is read.
_REST_S = 1.0
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Curve:
    """Bits per byte over steps: on the text trained on, and on the part held out."""

    train: list[tuple[int, float]]
    val: list[tuple[int, float]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_curve(folder: Path, *, after_step: int = 0, max_points: int = 600) -> Curve:
    """The curve so far, averaged over stretches where it has more than `max_points`.

    Reads all of `metrics.jsonl`: about 0.1 s for 20,000 steps.
    """
    bytes_per_token = read_progress(folder).get("bytes_per_token") or 0.0
    scale = 1.0 / (math.log(2) * bytes_per_token) if bytes_per_token else math.nan
    rows: list[tuple[int, float | None, float | None]] = []
    for row in read_metrics(folder / "metrics.jsonl"):
        if row["step"] <= after_step:
            continue
        if "train_nats" in row:
            rows.append((row["step"], row["train_nats"] * scale, None))
        else:
            rows.append((row["step"], None, row["val_bits_per_byte"]))
    rows = thin(rows, points=max_points)
    return Curve(
        train=[(step, value) for step, value, _ in rows if value is not None and isfinite(value)],
        val=[(step, value) for step, _, value in rows if value is not None and isfinite(value)],
    )


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """The samples along the way, the first before any training: step, prompt, text."""
    samples = []
    for path in sorted((folder / "samples").glob("[0-9]*.json")):
        with contextlib.suppress(IntegrityError, OSError):
            samples.append(read_json(path))
    return samples


def read_result(folder: Path) -> dict[str, Any] | None:
    """How a finished run ended, as `cllm train --json` says it; None before."""
    try:
        value = read_json(folder / "result.json")
    except (IntegrityError, OSError):
        return None
    return value if isinstance(value, dict) else None


def read_log(folder: Path, *, max_bytes: int = 65_536) -> str:
    """The end of what the run's process has printed."""
    try:
        with (folder / LOG).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - max_bytes))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


class EventTail:
    """The events of a run from a place in its journal on; `offset` is where reading is."""

    def __init__(self, workspace: Workspace, run: str, *, offset: int = 0) -> None:
        self._runs, self._run = workspace.runs, workspace.runs.get(run)
        self.offset = max(0, offset)
        self._last: dict[str, Any] | None = None
        self._asked_at = 0.0

    def read(self) -> list[dict[str, Any]]:
        """The events since the last call; each with the `offset` from which to go on after it."""
        try:
            with (self._run.folder / EVENTS).open("rb") as file:
                file.seek(self.offset)
                data = file.read(_BLOCK_BYTES)
        except OSError:
            return []
        found: list[dict[str, Any]] = []
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self.offset += len(line)
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    found.append({**record, "offset": self.offset})
        if found:
            self._last = found[-1]
        return found

    def end(self) -> list[dict[str, Any]] | None:
        """The last events of a run at rest, to be asked for when `read` finds nothing.

        None while somebody is at work on it. A run that crashed is told to have ended here.
        """
        now = time.monotonic()
        if now - self._asked_at < _REST_S:
            return None
        self._asked_at = now
        try:
            record = self._runs.get(self._run.id)
        except NotFoundError:
            return [self._ended("removed", None)]
        if record.is_active:
            return None
        # What it wrote after the last look.
        found = self.read()
        if self._last is None or self._last["event"] != "ended":
            found.append(self._ended(record.state, record.figures.get("error")))
        return found

    def _ended(self, state: str, error: Any) -> dict[str, Any]:
        told = {"event": "ended", "state": state, "error": error}
        return told | {"at": time.time(), "offset": self.offset}


def events(
    workspace: Workspace, run: str, *, offset: int = 0, poll_s: float = 0.25
) -> Iterator[dict[str, Any]]:
    """Every event of a run as it happens, until it is at rest; blocks in between.

    Raises: NotFoundError.
    """
    tail = EventTail(workspace, run, offset=offset)
    while True:
        found = tail.read()
        yield from found
        if not found:
            last = tail.end()
            if last is not None:
                yield from last
                return
            time.sleep(poll_s)


async def events_async(
    workspace: Workspace, run: str, *, offset: int = 0, poll_s: float = 0.25
) -> AsyncIterator[dict[str, Any]]:
    """As `events`, without blocking the loop. Raises: NotFoundError."""
    tail = await asyncio.to_thread(EventTail, workspace, run, offset=offset)
    while True:
        found = await asyncio.to_thread(tail.read)
        for event in found:
            yield event
        if not found:
            last = await asyncio.to_thread(tail.end)
            for event in last or []:
                yield event
            if last is not None:
                return
            await asyncio.sleep(poll_s)
