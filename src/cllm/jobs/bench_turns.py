"""Programs that take turns: each is a child process that works only when it is told to.

So that no program's threads, memory or caches are in another one's way, and all are measured
under the same circumstances. A child reads a line of JSON, works, and answers with one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Service = Callable[..., dict[str, Any]]

_SHOWN_LINES = 2
# Longer than any piece of work takes; then something hangs.
PATIENCE_S = 180.0


class ProgramError(Exception):
    """A child ended, or did not answer in time; the message is what it said last."""


def serve(works: Mapping[str, Service]) -> None:
    """In the child: do what each line names, until there are no more."""
    # Libraries print what they like: only answers go where answers are read.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps(works[order.pop("work")](**order)), file=answers, flush=True)


class Program:
    """In the parent: a child that runs `python -m module arguments`, from `folder` if given."""

    def __init__(self, module: str, *arguments: str, folder: Path | None = None) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        # Nothing is fetched from anywhere, and what is told is not for people.
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**os.environ, **quiet},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __call__(self, work: str, **arguments: object) -> dict[str, Any]:
        """Let it work once; what it answered. Raises: ProgramError."""
        assert self._child.stdin is not None and self._child.stdout is not None
        line, has_hung = "", threading.Event()

        def give_up() -> None:
            has_hung.set()
            self._child.kill()

        clock = threading.Timer(PATIENCE_S, give_up)
        clock.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.write(json.dumps({"work": work, **arguments}) + "\n")
                self._child.stdin.flush()
                line = self._child.stdout.readline()
        finally:
            clock.cancel()
        if not line:
            late = f"no answer within {PATIENCE_S:g} s"
            raise ProgramError(late if has_hung.is_set() else self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let it go, at once."""
        self._child.kill()
        with contextlib.suppress(BrokenPipeError):
            self._child.communicate()
        self._said.close()

    def _last_words(self) -> str:
        code = self._child.wait()
        if code < 0:
            name = signal.Signals(-code).name
            why = ", for want of memory perhaps" if name == "SIGKILL" else ""
            return f"it was ended by {name}{why}"
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return " ".join(lines[-_SHOWN_LINES:])[-400:] or f"it ended with {code}"


def peak_bytes() -> int:
    """The most that this very process has held in memory, its program and all.

    Not `getrusage`'s: that begins with what the parent held when the child was made.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    from cllm.jobs.memory import peak_rss_bytes

    return peak_rss_bytes()
