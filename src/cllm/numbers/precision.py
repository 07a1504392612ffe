"""FLINT's working precision, set for a while and put back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flint import ctx

_LOCK = threading.RLock()


@contextmanager
def working_precision(bits: int) -> Iterator[None]:
    """Let FLINT work with `bits` binary digits inside.

    FLINT has one precision for the whole process: other threads that come through here wait, and
    the precision from before is back at the end. Its balls hold the truth at any precision.
    """
    with _LOCK:
        before = ctx.prec
        ctx.prec = bits
        try:
            yield
        finally:
            ctx.prec = before
