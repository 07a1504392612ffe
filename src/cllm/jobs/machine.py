"""What was measured of this machine, once, so that equal runs make equal choices."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from cllm.config import Precision
from cllm.errors import IntegrityError
from cllm.files import read_json, write_json
from cllm.training.precision import measure_precision


def precision_here(home: Path, device: str) -> Precision:
    """The faster number format of a device, from `home/machine.json` or measured now.

    Another processor or another PyTorch is measured anew. Raises: StorageError.
    """
    path = home / "machine.json"
    key = f"{_processor()} | torch {torch.__version__} | {device}"
    try:
        known = read_json(path)["precision"] if path.exists() else {}
        if known.get(key) in ("float32", "bfloat16"):
            choice: Precision = known[key]
            return choice
    except (IntegrityError, KeyError, TypeError, AttributeError):
        known = {}
    measured = measure_precision(device)
    write_json(path, {"version": 1, "precision": {**known, key: measured}})
    return measured


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
