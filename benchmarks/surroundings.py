"""Where and on what a benchmark ran."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def surroundings() -> dict[str, object]:
    """Processor, cores, load, Python and commit, for the last line of a benchmark."""
    load = [round(value, 1) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
        "commit": _commit(),
    }


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    rows = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [row.split(":")[1].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.processor()
