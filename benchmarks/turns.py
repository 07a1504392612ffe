"""Programs that take turns: each is a child process that works only when it is told to.

So that no program's threads, memory or caches are in another one's way, and all are measured
under the same circumstances. A child reads a line of JSON, works, and answers with one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Work = Callable[..., dict[str, Any]]


def serve(works: Mapping[str, Work]) -> None:
    """In the child: do what each line names, until there are no more."""
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(works[order.pop("work")](**order)), flush=True)


class Program:
    """In the parent: a child that runs `python -m module arguments`."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, work: str, **arguments: object) -> dict[str, Any]:
        """Let it work once; what it answered."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps({"work": work, **arguments}) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            sys.exit(f"a child ended with {self._child.wait()} while it worked on {work!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let it go."""
        self._child.communicate()
