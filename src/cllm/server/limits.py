"""What one client may take: tokens, seconds, bytes, and places in the queue."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

# A server beside a browser and an editor leaves them half of the memory.
_SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the server.

    `memory_bytes` is for all open models; of each, at most `most_slots` texts are written at
    once and `most_waiting` others wait. `send_s`: a client that takes nothing for so long is
    given up. `body_s`: so long may a request take to arrive.
    """

    memory_bytes: int
    most_slots: int = 32
    most_waiting: int = 128
    most_tokens: int = 8192
    most_seconds: float = 600.0
    most_texts: int = 64
    body_bytes: int = 8 << 20
    body_s: float = 60.0
    send_s: float = 30.0
    ping_s: float = 15.0


def default_limits(memory_bytes: int | None = None) -> Limits:
    """The usual bounds; half of this machine's memory unless given."""
    share = int(psutil.virtual_memory().total * _SHARE_OF_MEMORY)
    return Limits(memory_bytes=memory_bytes or share)
