"""What was measured of this machine, once, so that equal runs make equal choices."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cllm.errors import IntegrityError
from cllm.files import read_json, write_json

T = TypeVar("T", bound=str | float)


def remembered(home: Path, what: str, measure: Callable[[], T]) -> T:
    """A fact about this machine from `home/machine.json`, or measured now and kept there.

    Another processor is measured anew. Raises: StorageError.
    """
    path = home / "machine.json"
    key = f"{_processor()} | {what}"
    known = _facts(path)
    if key in known:
        fact: T = known[key]
        return fact
    measured = measure()
    # Others may have measured other things meanwhile.
    write_json(path, {"version": 2, "facts": {**_facts(path), key: measured}})
    return measured


def _facts(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path)["facts"]) if path.exists() else {}
    except (IntegrityError, KeyError, TypeError, ValueError):
        return {}


def _processor() -> str:
    """The processor's model as the system calls it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            wanted = ("model name", "cpu family", "model", "stepping")
            found = dict(line.rstrip("\n").split(":", 1) for line in file if ":" in line)
        fields = {name.strip(): value.strip() for name, value in found.items()}
        parts = [fields[name] for name in wanted if name in fields]
        if parts:
            return " ".join(parts)
    except (OSError, ValueError):
        pass
    return platform.processor() or platform.machine()
