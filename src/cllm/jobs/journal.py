"""A run's journal: what happens in it, one JSON object a line, for whoever watches.

`events.jsonl` holds all but most steps (two a second are enough to see them move),
`progress.json` what is known now. Both are read while the run writes them.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from cllm.errors import IntegrityError
from cllm.files import read_json
from cllm.training.events import (
    Advised,
    Continued,
    Event,
    Finished,
    Paused,
    Planned,
    Prepared,
    Preparing,
    Sampled,
    Saved,
    Stepped,
    Validated,
)

EVENTS, PROGRESS = "events.jsonl", "progress.json"
_LEAST_S = 0.5


class Journal:
    """Writes the journal of one life of a run; a later life goes on in the same files."""

    def __init__(self, folder: Path) -> None:
        self._events, self._progress = folder / EVENTS, folder / PROGRESS
        self._known = read_progress(folder)
        self._known["stage"] = None
        self._process = psutil.Process()
        self._told_at = 0.0

    def note(self, event: Event) -> None:
        """Write an event down; a disk that is full takes nothing from the run."""
        if isinstance(event, Preparing | Stepped) and not self._is_time(event):
            return
        record = self._describe(event)
        if record is None:
            return
        self._known |= _summary(record, self._known)
        self._write(record)

    def end(self, state: str, error: str | None = None) -> None:
        """Write down how this life ended."""
        self._known |= {"stage": None, "memory_bytes": None}
        self._write({"event": "ended", "state": state, "error": error})

    def _is_time(self, event: Preparing | Stepped) -> bool:
        now = time.monotonic()
        is_first = isinstance(event, Preparing) and event.stage != self._known.get("stage")
        is_last = isinstance(event, Stepped) and event.progress >= 1.0
        if is_first or is_last or now - self._told_at >= _LEAST_S:
            self._told_at = now
            return True
        return False

    def _describe(self, event: Event) -> dict[str, Any] | None:
        name = type(event).__name__.lower()
        match event:
            case Prepared():
                train, val = event.corpus.train, event.corpus.val
                return {
                    "event": name,
                    "train_tokens": train.num_tokens,
                    "train_bytes": train.num_bytes,
                    "val_bytes": val.num_bytes,
                    "vocab_size": event.corpus.tokenizer.vocab_size,
                    "bytes_per_token": train.num_bytes / max(train.num_tokens, 1),
                }
            case Planned():
                plan = asdict(event.plan)
                return {"event": name, "plan": plan, "resumed_step": event.resumed_step}
            case Finished():
                return {"event": name, "result": event.result.to_json()}
            case Validated():
                told = {"step": event.step, "is_best": event.is_best}
                return {"event": name, "bits_per_byte": event.bits_per_byte, **told}
            case Saved():
                return {"event": name, "step": event.step}
            case Stepped():
                memory = int(self._process.memory_info().rss)
                return {"event": name, **asdict(event), "memory_bytes": memory}
            case Preparing() | Sampled() | Paused() | Continued() | Advised():
                return {"event": name, **asdict(event)}
        return None

    def _write(self, record: dict[str, Any]) -> None:
        line = to_line({**record, "at": time.time()})
        with contextlib.suppress(OSError):
            with self._events.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            # No sync: after a power loss the checkpoint tells where the run is.
            fresh = self._progress.with_name("." + PROGRESS)
            fresh.write_text(to_line(self._known), encoding="utf-8")
            fresh.replace(self._progress)


def read_progress(folder: Path) -> dict[str, Any]:
    """What is known of a run now; {} where nothing is yet."""
    try:
        value = read_json(folder / PROGRESS)
    except (IntegrityError, OSError):
        return {}
    return value if isinstance(value, dict) else {}


def to_line(value: dict[str, Any]) -> str:
    """One line of strict JSON: what is not finite becomes null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _summary(record: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """What an event adds to what is known."""
    name = record["event"]
    rest = {key: value for key, value in record.items() if key != "event"}
    match name:
        case "preparing" | "prepared" | "stepped":
            return rest | ({"stage": None} if name == "stepped" else {})
        case "planned":
            total = record["plan"]["total_steps"]
            return {"plan": record["plan"], "total_steps": total, "stage": None}
        case "validated":
            return {"val_bits_per_byte": record["bits_per_byte"]}
        case "advised":
            # A later life of the run gives the same advice again.
            return {"advice": [*dict.fromkeys([*known.get("advice", []), record["message"]])]}
        case "finished":
            result = record["result"]
            return {"progress": 1.0, "remaining_s": 0.0, "step": result["steps"]} | {
                "val_bits_per_byte": result["val_bits_per_byte"]
            }
    return {}
