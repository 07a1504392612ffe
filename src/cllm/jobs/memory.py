"""How much memory this process and its finished children took at most."""

from __future__ import annotations

import sys

import psutil


def peak_rss_bytes() -> int:
    """The largest resident size of this process or of one of its children, in bytes."""
    try:
        import resource
    except ImportError:
        return int(psutil.Process().memory_info().peak_wset)
    unit = 1 if sys.platform == "darwin" else 1024
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss * unit for one in who)
