"""The models on disk: one Hugging Face-style folder each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from cllm.errors import NotFoundError
from cllm.workspace.folders import FolderStore


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRecord:
    """What `cllm models list` shows of a model; None where the folder does not say."""

    name: str
    path: Path
    num_bytes: int
    modified: float
    run: str | None
    num_parameters: int | None
    vocab_size: int | None
    width: int | None
    layers: int | None
    context: int | None
    tokenizer: str | None
    val_bits_per_byte: float | None
    is_chat: bool
    problem: str | None


class ModelStore(FolderStore[ModelRecord]):
    """Models by name below `CLLM_HOME/models`."""

    what = "model"
    marker = "config.json"

    def describe(self, name: str) -> ModelRecord:
        """What the folder's small files say of a model. Raises: NotFoundError."""
        folder = self.path(name)
        marker = folder / self.marker
        try:
            modified = marker.stat().st_mtime
        except FileNotFoundError:
            # Half gone: it is not among the names any more.
            raise NotFoundError(f"there is no model named {name!r}") from None
        config = _read_leniently(marker)
        training = _read_leniently(folder / "training.json")
        figures = training | _table(training, "figures")
        return ModelRecord(
            name=name,
            path=folder,
            num_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            modified=modified,
            run=_text(figures.get("run") or figures.get("run_id")),
            num_parameters=_whole(figures.get("num_parameters")) or _weights(folder),
            vocab_size=_whole(config.get("vocab_size")),
            width=_whole(config.get("hidden_size")),
            layers=_whole(config.get("num_hidden_layers")),
            context=_whole(config.get("max_position_embeddings")),
            tokenizer=_text(_table(_table(training, "settings"), "text").get("tokenizer")),
            val_bits_per_byte=_real(figures.get("val_bits_per_byte")),
            is_chat=bool(training.get("dialogue")),
            problem=self.quick_problem(name),
        )


def _read_leniently(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    return {}


def _weights(folder: Path) -> int | None:
    """Number of weights by the header of the safetensors file (8 bytes of length, then JSON)."""
    damages = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
    with contextlib.suppress(OSError, *damages):
        with (folder / "model.safetensors").open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            # The format itself allows headers of at most 100 MB.
            header = json.loads(file.read(min(size, 100_000_000)))
        total = 0
        for name, entry in header.items():
            if name != "__metadata__":
                count = 1
                for length in entry["shape"]:
                    count *= int(length)
                total += count
        return total
    return None


def _table(value: dict[str, Any], key: str) -> dict[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # What JSON can't hold where it is shown: Python reads NaN, and integers of any length.
    with contextlib.suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None
