"""The training runs: list and show. Resuming one is `cllm.jobs.train.resume`."""

from __future__ import annotations

from typing import Any

from cllm.jobs.models import iso_time
from cllm.workspace.runs import RunRecord
from cllm.workspace.workspace import Workspace

# Always present in the JSON of a run, so that a program need not ask whether they are.
_FIGURES = ("steps", "tokens", "tokens_per_s", "val_bits_per_byte", "seconds_total")


def list_runs(workspace: Workspace) -> list[dict[str, Any]]:
    """Every run, the newest first: id, model, state, steps, val_bits_per_byte, started …."""
    return [_row(record) for record in workspace.runs.list()]


def show_run(workspace: Workspace, run: str) -> dict[str, Any]:
    """One run with its settings, by id, unambiguous beginning of the id, or "latest".

    Raises: NotFoundError.
    """
    record = workspace.runs.get(run)
    return _row(record) | {
        "folder": str(record.folder),
        "command": list(record.command),
        "settings": record.settings,
    }


def _row(record: RunRecord) -> dict[str, Any]:
    known: dict[str, Any] = dict.fromkeys(_FIGURES) | record.figures
    return {
        "id": record.id,
        "model": record.model,
        "state": record.state,
        "started": iso_time(record.started),
        "updated": iso_time(record.updated),
    } | {key: value for key, value in known.items() if key not in {"id", "model", "state"}}
