"""Coroutines in tests, whose own thread may have a loop already: the browser's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def in_a_loop(work: Coroutine[Any, Any, T], *, most_s: float = 120) -> T:
    """What a coroutine returns, run in a thread of its own. Raises: TimeoutError."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, asyncio.wait_for(work, most_s)).result()
