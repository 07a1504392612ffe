"""How far a run is, and the learning rate that belongs there.

A run ends after a number of steps or at a time. By time, how far it is depends on the
clock, so each answer is written down before it is used: a resumed run reads the answers of
its first life again, takes the same steps, and only then looks at the clock.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

from cllm.files import storage_errors


def warmup_stable_decay(
    progress: float, *, warmup: float, decay: float, final_fraction: float
) -> float:
    """The learning rate as a share of its peak: rises, stays, falls to `final_fraction`.

    `progress` in [0, 1]; `warmup` and `decay` are shares of the run. Where they overlap the
    lower one holds. Source: Hu 2024, arXiv:2404.06395.
    """
    # The first step of a timed run comes at progress 0 and should not be wasted.
    rising = (progress + 1e-3) / warmup if warmup > 0 else 1.0
    falling = 1.0
    if decay > 0 and progress > 1.0 - decay:
        falling = final_fraction + (1.0 - final_fraction) * (1.0 - progress) / decay
    return max(0.0, min(1.0, rising, falling))


@runtime_checkable
class Schedule(Protocol):
    """Says how far the run is before each step."""

    total_steps: int | None

    def progress(self, step: int) -> float:
        """How far the run is before `step`, from 0; 1 or more means it has ended."""
        ...

    def elapsed_s(self) -> float:
        """Seconds spent training, over all lives of the run."""
        ...

    def leave_out(self, seconds: float) -> None:
        """The last `seconds` were a pause: they are no time of the run."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class StepSchedule:
    """A run of a fixed number of steps."""

    def __init__(self, total_steps: int, elapsed_s: float = 0.0) -> None:
        self.total_steps: int | None = total_steps
        self._started = time.monotonic() - elapsed_s

    def progress(self, step: int) -> float:
        """`step` over the number of steps."""
        assert self.total_steps is not None
        return step / self.total_steps if self.total_steps else 1.0

    def elapsed_s(self) -> float:
        """Seconds spent training, over all lives of the run."""
        return time.monotonic() - self._started

    def leave_out(self, seconds: float) -> None:
        """The last `seconds` were a pause: they are no time of the run."""
        self._started += seconds

    def close(self) -> None:
        """Nothing to let go of."""


class TimedSchedule:
    """A run of `seconds`, with every answer logged in the file `log` (8 bytes a step)."""

    def __init__(self, seconds: float, log: Path) -> None:
        self.total_steps: int | None = None
        self._seconds = max(seconds, 1e-3)
        self._path = log
        whole = log.stat().st_size // 8 if log.exists() else 0
        data = log.read_bytes()[: whole * 8] if whole else b""
        self._logged = list(struct.unpack(f"<{whole}d", data))
        with storage_errors(log):
            self._file = log.open("r+b" if log.exists() else "w+b", buffering=0)
            self._file.truncate(whole * 8)
            self._file.seek(whole * 8)
        self._last = 0.0
        # The clock starts where the log ends; replaying it costs no time of the run.
        self._started: float | None = None

    def restart(self, step: int, elapsed_s: float) -> None:
        """Continue from a checkpoint at `step`, even if a power loss cut the log short."""
        self._last = elapsed_s / self._seconds
        while len(self._logged) < step:
            self._append(self._last)

    def progress(self, step: int) -> float:
        """The logged answer, or else the share of the time that is over."""
        if step == len(self._logged):
            if self._started is None:
                spent = self._logged[-1] if self._logged else 0.0
                self._started = time.monotonic() - spent * self._seconds
            self._append(self.elapsed_s() / self._seconds)
        assert step < len(self._logged), "steps are asked for one after the other"
        self._last = self._logged[step]
        return self._last

    def elapsed_s(self) -> float:
        """Seconds spent training, over all lives of the run."""
        if self._started is None:
            return self._last * self._seconds
        return time.monotonic() - self._started

    def leave_out(self, seconds: float) -> None:
        """The last `seconds` were a pause: they are no time of the run."""
        if self._started is not None:
            self._started += seconds

    def close(self) -> None:
        """Close the log."""
        self._file.close()

    def _append(self, share: float) -> None:
        with storage_errors(self._path):
            self._file.write(struct.pack("<d", share))
        self._logged.append(share)
