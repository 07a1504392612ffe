"""Where a run's time goes, and a trace of it for chrome://tracing or ui.perfetto.dev."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cllm.files import write_atomic

# A trace of more spans than this is slow to open; the sums go on.
_MOST_SPANS = 200_000


class Profile:
    """Sums and records named stretches of time; one inside another is taken from it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._spans: list[tuple[str, float, float]] = []
        self._inner_s = [0.0]
        self._began = time.perf_counter()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Count the time until the block ends as `name`."""
        start = time.perf_counter()
        self._inner_s.append(0.0)
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.seconds[name] += took - self._inner_s.pop()
            self._inner_s[-1] += took
            if len(self._spans) < _MOST_SPANS:
                self._spans.append((name, start - self._began, took))

    def split(self, name: str, parts: dict[str, float]) -> None:
        """Take `parts` out of `name`, in proportion where they add up to more."""
        whole = self.seconds.pop(name, 0.0)
        total = sum(parts.values())
        scale = whole / total if total > whole else 1.0
        for part, seconds in parts.items():
            self.seconds[part] += seconds * scale
        self.seconds[name] += max(0.0, whole - total)

    def write_trace(self, path: Path) -> None:
        """Write the spans in the Trace Event Format. Raises: StorageError."""
        events = [
            {
                "name": name,
                "ph": "X",
                "ts": round(start * 1e6, 1),
                "dur": round(took * 1e6, 1),
                "pid": os.getpid(),
                "tid": 1,
            }
            for name, start, took in self._spans
        ]
        write_atomic(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))
