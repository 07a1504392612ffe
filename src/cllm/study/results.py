"""The results of a study on disk: one JSON object a line, each there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cllm.errors import ExistsError
from cllm.files import storage_errors
from cllm.processes import is_alive, this_process

Row = dict[str, Any]


def has_figure(row: Row) -> bool:
    """Whether a run gave the figure that runs are compared by; one that failed has none."""
    return row.get("val_bits_per_byte") is not None


class Results:
    """Lines of `results.jsonl`; a line cut off by a crash is left out and written over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[Row]:
        """The last line of each run, in the order of their first lines."""
        found: dict[str, Row] = {}
        for line in self._whole().splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                found[row["id"]] = row
        return list(found.values())

    def done(self) -> set[str]:
        """Ids of the runs that gave a figure; those that failed are tried again."""
        return {row["id"] for row in self.rows() if has_figure(row)}

    def append(self, row: Row) -> None:
        """Add a line, safely on disk when this returns. Raises: StorageError."""
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = len(self._whole())
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.ftruncate(handle, whole)
                os.lseek(handle, whole, os.SEEK_SET)
                os.write(handle, (json.dumps(row) + "\n").encode())
                os.fsync(handle)
            finally:
                os.close(handle)

    def _whole(self) -> bytes:
        if not self.path.exists():
            return b""
        data = self.path.read_bytes()
        return data[: data.rfind(b"\n") + 1]


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a study's folder for this process. Raises: ExistsError while another one has it."""
    path = folder / "process.json"
    if _is_alive(path):
        hint = "Wait for it, or give another folder with --folder."
        raise ExistsError("another process is at work on this study", where=folder, hint=hint)
    with storage_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(this_process()), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _is_alive(path: Path) -> bool:
    try:
        pid, began = json.loads(path.read_text(encoding="utf-8"))
        return is_alive(pid, began)
    except (OSError, ValueError):
        return False
