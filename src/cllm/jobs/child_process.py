"""The command in a process of its own: for work that would keep this one from answering."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from cllm.errors import CllmError, InputError, StorageError
from cllm.files import DISK_FULL

# As `nice` would: whoever clicks and reads comes first.
NICENESS = 10
_LONGEST_MESSAGE = 4000

OnLine = Callable[[str], None]


def command_line(arguments: Sequence[str]) -> list[str]:
    """`cllm ARGUMENTS` with this very Python, whatever the path holds."""
    return [sys.executable, "-m", "cllm", *arguments]


def start_detached(
    arguments: Sequence[str], *, home: Path, log: Path, variables: Mapping[str, str]
) -> int:
    """Start the command at low priority so that it outlives this process; returns its id.

    Its output is appended to `log`. Raises: StorageError.
    """
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command_line(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=_environment(home, variables),
                **_detached(),
            )
    except OSError as error:
        raise StorageError(f"can't be started: {error.strerror}", where="cllm") from error
    _give_way(process.pid)
    # Collects its end, so that no zombie stays; the process does not wait for this thread.
    threading.Thread(target=process.wait, name=f"child {process.pid}", daemon=True).start()
    return process.pid


def run_command(
    arguments: Sequence[str], *, home: Path, timeout_s: float, on_line: OnLine | None = None
) -> dict[str, Any]:
    """Run the command at low priority to its end; returns the last line it prints, as JSON.

    `on_line` gets what it tells people meanwhile, line by line, in a thread of its own.
    Raises: InputError with the command's own words, StorageError where the disk is full;
    CllmError when it takes too long or fails.
    """
    # Pipes, not files: what is told of a full disk needs no room on it.
    with subprocess.Popen(
        command_line(arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(home, {}),
    ) as process:
        _give_way(process.pid)
        assert process.stdout is not None
        assert process.stderr is not None
        told = _Lines(process.stderr, on_line)
        output = _Lines(process.stdout, None)
        try:
            process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            message = f"`cllm {arguments[0]}` took longer than {timeout_s:,.0f} s and was ended"
            raise CllmError(message, hint="Try it with less text, or in a terminal.") from None
        finally:
            # Those that it started hold its pipes, too.
            if process.poll() is None:
                end_process(process.pid)
            told.join()
            output.join()
    if process.returncode == 0:
        value = json.loads(output.lines[-1])
        assert isinstance(value, dict), "commands answer with one object"
        return value
    # Whoever asked knows no place on this machine.
    message, hint = error_in("".join(told.lines).replace(f"{home}{os.sep}", ""))
    if message.endswith(DISK_FULL):
        raise StorageError(DISK_FULL, hint=hint)
    if process.returncode == CllmError.exit_code:
        raise InputError(message, hint=hint)
    raise CllmError(message, hint=hint)


def end_process(pid: int) -> None:
    """End a process that was started here, and those that it started, at once."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                one.kill()


class _Lines(threading.Thread):
    """Reads a pipe to its end, so that whoever writes into it never waits."""

    def __init__(self, pipe: IO[bytes], on_line: OnLine | None) -> None:
        super().__init__(name="lines of a child", daemon=True)
        self.lines: list[str] = []
        self._pipe, self._on_line = pipe, on_line
        self.start()

    def run(self) -> None:
        """Read."""
        for line in self._pipe:
            self.lines.append(line.decode("utf-8", errors="replace"))
            if self._on_line is not None:
                self._on_line(self.lines[-1].rstrip())


def error_in(output: str) -> tuple[str, str | None]:
    """The last error that a command has told of: its message, and what to do."""
    _, found, rest = output.rpartition("Error: ")
    if not found:
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        return last.strip()[:_LONGEST_MESSAGE] or "the process ended without a word", None
    message, _, hint = rest.strip()[:_LONGEST_MESSAGE].partition("\n")
    return message.strip(), hint.strip() or None


def _environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    plain = {"CLLM_HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, **plain, "NO_COLOR": "1", **variables}


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return {"start_new_session": True}


def _give_way(pid: int) -> None:
    """Lower a young process's priority; threads that it starts later inherit it."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process(pid).nice(NICENESS)
    # Linux may weigh sessions against each other before it looks at niceness.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(f"{NICENESS}", encoding="ascii")
