"""Which process is which, on a machine that gives their numbers anew."""

from __future__ import annotations

import os

import psutil

# Clocks of the process table and of `create_time` differ by rounding only.
SAME_START_S = 1.0


def this_process() -> tuple[int, float]:
    """The number of this process, and when it began, in seconds since 1970."""
    return os.getpid(), float(psutil.Process().create_time())


def start_of(pid: int) -> float | None:
    """When the process that has this number began; None where there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_alive(pid: int | None, started: float | None) -> bool:
    """Whether the very process is alive, not another that got its number."""
    if pid is None or started is None:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(process.create_time() - started) <= SAME_START_S)
    except psutil.Error:
        return False


def is_at_work(pid: int, changed: float) -> bool:
    """Whether the process that made a change then is alive."""
    started = start_of(pid)
    # A process that began after the change has only got the same number.
    return started is not None and started <= changed + SAME_START_S
