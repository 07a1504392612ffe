"""The models a person has: list, show, copy, remove, and names for new ones."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cllm.errors import IntegrityError
from cllm.files import read_json
from cllm.workspace.models import ModelRecord
from cllm.workspace.names import slug
from cllm.workspace.workspace import Workspace

# Endings that say how a file is packed or written, not what is in it.
_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst"})


def list_models(workspace: Workspace) -> list[ModelRecord]:
    """Every model, by name; what is copied in by hand counts too."""
    return list(workspace.models.list())


def model_path(workspace: Workspace, name: str) -> Path:
    """The model's folder. Raises: NotFoundError, InvalidNameError."""
    return workspace.models.path(name)


def show_model(workspace: Workspace, name: str) -> dict[str, Any]:
    """Everything known of a model, every file compared with its checksum.

    `problem` is None when all is well. Reads the whole folder: about 1 s per GB.
    Raises: NotFoundError, InvalidNameError.
    """
    record = workspace.models.describe(name)
    details = describe_record(record)
    try:
        details["training"] = read_json(record.path / "training.json")
    except IntegrityError:
        details["training"] = None
    if record.problem is None:
        try:
            workspace.models.check(name)
        except IntegrityError as error:
            details["problem"] = str(error)
    return details


def copy_model(workspace: Workspace, source: str, target: str, *, overwrite: bool = False) -> Path:
    """Copy a model, checked first. Raises: NotFoundError, ExistsError, IntegrityError."""
    return workspace.models.copy(source, target, overwrite=overwrite)


def model_exists(workspace: Workspace, name: str) -> bool:
    """Whether there is a model of that name. Raises: InvalidNameError."""
    return workspace.models.exists(name)


def require_free(workspace: Workspace, name: str) -> None:
    """Refuse a name that is taken. Raises: ExistsError, InvalidNameError."""
    workspace.models.check_free(name)


def name_for(workspace: Workspace, places: Sequence[str]) -> str:
    """An unused model name made from the first of the places text comes from."""
    return workspace.models.free_name(_stem(places[0]) if places else "model")


def _stem(place: str) -> str:
    if place == "-":
        return "stdin"
    path = Path(place)
    parts = [part for part in path.parts if not any(char in part for char in "*?[")]
    if len(parts) < len(path.parts) or not parts or path.name in {"", ".", ".."}:
        path = Path(*parts).resolve()
    while path.suffix.lower() in _PACKED:
        path = path.with_suffix("")
    # "notes.txt" is called notes; a folder keeps its dots.
    return path.name if path.is_dir() else path.stem


def describe_record(record: ModelRecord) -> dict[str, Any]:
    """A model's record as JSON: the path as text, the time as ISO 8601."""
    fields = dataclasses.asdict(record)
    fields["path"] = str(record.path)
    fields["modified"] = iso_time(record.modified)
    return fields


def iso_time(seconds: float) -> str:
    """A time as ISO 8601 with the zone of this machine."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def suggest_name(text: str) -> str:
    """An allowed model name made from any text."""
    return slug(text)
