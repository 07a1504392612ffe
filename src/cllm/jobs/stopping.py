"""Stopping by Ctrl-C or SIGTERM: asked once, a run ends after its step; twice, at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """Whether somebody has asked to stop. While not `graceful`, asking raises at once."""

    def __init__(self) -> None:
        self.is_set = False
        self.graceful = False

    def __call__(self) -> bool:
        """Whether to stop after the present step."""
        return self.is_set

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if self.is_set or not self.graceful:
            raise KeyboardInterrupt
        self.is_set = True


@contextlib.contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Take over SIGINT and SIGTERM for the block (in the main thread only)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request._receive) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
