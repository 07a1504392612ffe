"""The figures of a run, one JSON object a line, and in TensorBoard's format if wanted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from cllm.errors import SettingsError
from cllm.files import storage_errors, write_atomic

# Whoever watches a run sees its figures this soon.
_FLUSH_S = 0.5


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file; a line cut off by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


class MetricsLog:
    """Appends to `metrics.jsonl`; on resuming, drops what lies after the checkpoint."""

    def __init__(self, path: Path, *, after_step: int, tensorboard: bool) -> None:
        self._path = path
        kept = [row for row in read_metrics(path) if row["step"] <= after_step]
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))
        with storage_errors(path):
            self._file = path.open("a", encoding="utf-8")
        self._flushed_at = time.monotonic()
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError:
                raise SettingsError(
                    "TensorBoard is not installed",
                    where="train.tensorboard",
                    hint='Install it with: pip install "cllm[tensorboard]"',
                ) from None
            folder = str(path.parent / "tensorboard")
            self._board = SummaryWriter(folder, purge_step=after_step or None)

    def write(self, step: int, **figures: float | int | bool) -> None:
        """Add one line."""
        with storage_errors(self._path):
            self._file.write(json.dumps({"step": step, **figures}) + "\n")
        if time.monotonic() - self._flushed_at >= _FLUSH_S:
            self.flush()
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        with storage_errors(self._path):
            self._file.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
