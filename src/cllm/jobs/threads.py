"""How threads inside operations wait for each other; decided before torch is loaded."""

from __future__ import annotations

import os
import sys

# By default OpenMP's threads spin for milliseconds before they sleep. While another program
# wants the processor, that costs several times the work itself (figures in docs/log.md).
_SPIN_COUNT = "5000"


def thread_environment() -> dict[str, str]:
    """What the environment should hold before torch is loaded, unless the person chose."""
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return {}
    return {"GOMP_SPINCOUNT": _SPIN_COUNT}


def set_waiting() -> None:
    """Let this process wait so; without effect once torch is loaded."""
    if "torch" not in sys.modules:
        os.environ.update(thread_environment())
