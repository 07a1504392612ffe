"""The figures of this machine, measured by `cllm bench` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, final

from cllm.errors import CllmError, InputError
from cllm.workspace.workspace import Workspace

# (what is measured now, done, of how many)
OnStep = Callable[[str, int, int], None]

_STEP = re.compile(r"measuring (.+) \((\d+) of (\d+)\)")
_KEY = "benchmarks"


@final
class BenchWorker:
    """Measures once at a time; what it found last is kept in the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.step: tuple[str, int, int] | None = None
        self.began: float | None = None
        self._workspace = workspace
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether it measures now."""
        return self.began is not None

    def last(self) -> dict[str, Any] | None:
        """What was found last: as `cllm bench --json` says it, with `measured_at`."""
        found = self._workspace.preferences.get(_KEY)
        return found if isinstance(found, dict) else None

    async def measure(
        self,
        *,
        model: str | None = None,
        presets: Sequence[str] = (),
        seconds: float = 60.0,
        on_step: OnStep = lambda *_: None,
    ) -> dict[str, Any] | None:
        """Measure a model or presets; None where it was stopped.

        Raises: InputError while it measures already, CllmError with what the command said.
        """
        if self.is_running:
            raise InputError("it measures already", hint="Wait, or stop it first.")
        self.began, self.step = time.time(), None
        try:
            return await self._measure(command(model, presets, seconds), on_step)
        finally:
            self.began, self.step, self._process = None, None, None

    async def _measure(self, arguments: list[str], on_step: OnStep) -> dict[str, Any] | None:
        environment = {**os.environ, "CLLM_HOME": str(self._workspace.home), "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=1 << 22,
        )
        self._process = process
        assert process.stdout is not None and process.stderr is not None
        output, said = await asyncio.gather(
            process.stdout.read(), self._listen(process.stderr, on_step)
        )
        code = await process.wait()
        if code < 0:
            return None
        if code != 0:
            raise CllmError("measuring failed", hint=" ".join(said[-3:]) or None)
        found: dict[str, Any] = json.loads(output.decode().splitlines()[-1])
        found["measured_at"] = time.time()
        await asyncio.to_thread(self._workspace.preferences.set, _KEY, found)
        return found

    async def _listen(self, stream: asyncio.StreamReader, on_step: OnStep) -> list[str]:
        """Note the progress; returns what else was said."""
        said = []
        while line := (await stream.readline()).decode("utf-8", "replace").strip():
            if match := _STEP.search(line):
                self.step = (match[1], int(match[2]) - 1, int(match[3]))
                on_step(*self.step)
            else:
                said.append(line)
        return said

    def stop(self) -> None:
        """End the measurement; nothing of it is kept."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()


def command(model: str | None, presets: Sequence[str], seconds: float) -> list[str]:
    """What a person would type for the same."""
    arguments = [sys.executable, "-m", "cllm", "bench", "--json", "--seconds", f"{seconds:g}"]
    for preset in presets:
        arguments += ["--preset", preset]
    # Behind `--` a name is a name, whatever it begins with.
    return arguments + ([] if model is None else ["--", model])
