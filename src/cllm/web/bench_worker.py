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

# The share that is done.
OnShare = Callable[[float], None]

_STEP = re.compile(r"measuring (.+) \((\d+) of (\d+)\), (\d+)%")
_KEY = "benchmarks"
# Asked to end, it clears up first; after this it is made to.
_PATIENCE_S = 10.0


@final
class BenchWorker:
    """Measures once at a time; what it found last is kept in the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        # (what is measured now, how many are done, of how many), and the share of all.
        self.step: tuple[str, int, int] | None = None
        self.share = 0.0
        self.began: float | None = None
        self._workspace = workspace
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopped = False

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
        peers: bool = False,
        on_share: OnShare = lambda _: None,
    ) -> dict[str, Any] | None:
        """Measure a model or presets, with `peers` other programs too; None where it was stopped.

        Raises: InputError while it measures already, CllmError with what the command said.
        """
        if self.is_running:
            raise InputError("it measures already", hint="Wait, or stop it first.")
        self.began, self.step, self.share = time.time(), None, 0.0
        self._is_stopped = False
        try:
            return await self._measure(command(model, presets, seconds, peers=peers), on_share)
        finally:
            self.began, self.step, self._process = None, None, None

    async def _measure(self, arguments: list[str], on_share: OnShare) -> dict[str, Any] | None:
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
            process.stdout.read(), self._listen(process.stderr, on_share)
        )
        code = await process.wait()
        if code < 0 or self._is_stopped:
            return None
        if code != 0:
            raise CllmError("measuring failed", hint=" ".join(said[-3:]) or None)
        found: dict[str, Any] = json.loads(output.decode().splitlines()[-1])
        found["measured_at"] = time.time()
        await asyncio.to_thread(self._workspace.preferences.set, _KEY, found)
        return found

    async def _listen(self, stream: asyncio.StreamReader, on_share: OnShare) -> list[str]:
        """Note the progress; returns what else was said."""
        said = []
        while line := (await stream.readline()).decode("utf-8", "replace").strip():
            if match := _STEP.search(line):
                self.step = (match[1], int(match[2]) - 1, int(match[3]))
                self.share = int(match[4]) / 100
                on_share(self.share)
            else:
                said.append(line)
        return said

    def stop(self) -> None:
        """End the measurement; nothing of it is kept."""
        process, self._is_stopped = self._process, True
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            asyncio.get_running_loop().call_later(_PATIENCE_S, _kill, process)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def command(
    model: str | None, presets: Sequence[str], seconds: float, *, peers: bool = False
) -> list[str]:
    """What a person would type for the same."""
    arguments = [sys.executable, "-m", "cllm", "bench", "--json", "--seconds", f"{seconds:g}"]
    arguments += ["--peers"] if peers else []
    for preset in presets:
        arguments += ["--preset", preset]
    # Behind `--` a name is a name, whatever it begins with.
    return arguments + ([] if model is None else ["--", model])
