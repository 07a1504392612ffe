"""Checkpoints: the last state of a run, from which it goes on, and its best weights.

Each is a folder of its own that appears complete or not at all; the one before it is
removed only afterwards, so that there is always one to go on from.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cllm.errors import IntegrityError
from cllm.files import check_manifest, read_json, storage_errors, write_folder, write_json

Tensors = Mapping[str, NDArray[Any]]

_TENSORS, _STATE = "state.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: all that its tensors do not hold."""

    step: int = 0
    windows: int = 0
    elapsed_s: float = 0.0
    best_step: int | None = None
    best_nats: float | None = None
    validations_since_best: int = 0
    last_val_nats: float | None = None


class Checkpoints:
    """The checkpoints in one folder: `step-00000123` and `best-00000100`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def save_last(self, tensors: Tensors, progress: Progress) -> Path:
        """Keep the whole state. Raises: StorageError (the earlier checkpoint stays)."""
        return self._save("step", tensors, progress)

    def save_best(self, weights: Tensors, progress: Progress) -> Path:
        """Keep the best weights so far. Raises: StorageError."""
        return self._save("best", weights, progress)

    def load_last(self) -> tuple[Tensors, Progress] | None:
        """The last state, or None. Raises: IntegrityError naming the damaged file."""
        return self._load("step")

    def load_best(self) -> tuple[Tensors, Progress] | None:
        """The best weights, or None. Raises: IntegrityError naming the damaged file."""
        return self._load("best")

    def _all(self, kind: str) -> list[Path]:
        return sorted(self.folder.glob(f"{kind}-*"))

    def _save(self, kind: str, tensors: Tensors, progress: Progress) -> Path:
        target = self.folder / f"{kind}-{progress.step:08d}"
        if target.exists():
            # A resumed run comes to the same step in the same state.
            return target
        with write_folder(target) as folder:
            contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
            try:
                save_file(contiguous, folder / _TENSORS)
            except SafetensorError as error:
                raise _as_os_error(error) from error
            write_json(folder / _STATE, {"version": 1, **asdict(progress)})
        for old in self._all(kind):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        return target

    def _load(self, kind: str) -> tuple[Tensors, Progress] | None:
        folders = self._all(kind)
        if not folders:
            return None
        folder = folders[-1]
        check_manifest(folder)
        state = read_json(folder / _STATE)
        if state.pop("version", None) != 1:
            raise IntegrityError("written by another version", where=folder / _STATE)
        with storage_errors(folder):
            return load_file(folder / _TENSORS), Progress(**state)


def _as_os_error(error: SafetensorError) -> BaseException:
    """Safetensors reports a full disk as text; give it back its number."""
    import errno
    import re

    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), str(error)) if found else OSError(errno.EIO, str(error))
