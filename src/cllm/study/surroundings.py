"""The machine and the programs that a study ran on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

import cllm

_PROGRAMS = ("cllm", "torch", "numpy", "numba")


def surroundings() -> dict[str, Any]:
    """Processor, cores, memory, system, versions, and the commit where there is git."""
    return {
        "processor": _processor(),
        "cores": num_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PROGRAMS},
        "commit": _commit(),
    }


def num_cores() -> int:
    """Cores of this machine."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that this package is run from, with -dirty when files differ from it."""
    folder = Path(cllm.__file__).parent
    try:
        known = ["git", "-C", str(folder), "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(known, capture_output=True, check=True)
        asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
