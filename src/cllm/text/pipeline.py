"""Worker processes that prepare text: any of them does the next task, results stay in order.

They are started as `python -m cllm.text.worker` and spoken to through pipes, so that it
works from a plain script (no `__main__` guard) and never copies a parent that has loaded
torch. Messages are pickled by us for us; nothing from a file or the network is.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import cllm
from cllm.errors import CllmError

_LENGTH = struct.Struct("<Q")
# Messages of one task that may wait to be read, and tasks begun ahead, for each worker.
_WAITING_MESSAGES = 3
_TASKS_AHEAD = 2
# Starting processes takes about so long; shorter work is done here.
_PATIENCE_S = 0.5
# A worker takes about 100 MB, and all of them stay well below 1 GB.
_MOST_WORKERS = 6


def send(pipe: IO[bytes], message: object) -> None:
    """Write one message."""
    data = pickle.dumps(message, protocol=5)
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read one message. Raises: EOFError when the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


def choose_workers(wanted: int | None) -> int:
    """As many processes as wanted, or one a core that we may use."""
    if wanted is not None:
        return wanted
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


class WorkerFailureError(Exception):
    """A worker process ended by itself or met a bug; holds its traceback."""


@runtime_checkable
class Work(Protocol):
    """Something to do to each task; it is sent to the workers, so it must be picklable."""

    def do(self, task: Any) -> Iterator[Any]:
        """The items that a task gives."""
        ...


class WorkerPool:
    """Does tasks here and, when that takes long, in worker processes; use it in a `with`."""

    def __init__(self, workers: int | None) -> None:
        self._num_workers = choose_workers(workers)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._is_closed = False

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._is_closed = True
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def run(self, work: Work, tasks: Sequence[object]) -> Iterator[Iterator[Any]]:
        """For each task, in order, an iterator over the items that `work` makes of it.

        Each iterator must be used up before the next is asked for.
        """
        began = time.monotonic()
        for number, task in enumerate(tasks):
            spent_s = time.monotonic() - began
            rest = len(tasks) - number
            is_slow = spent_s > _PATIENCE_S and rest * spent_s > number * 2 * _PATIENCE_S
            if self._num_workers > 1 and rest > 1 and (is_slow or self._processes):
                yield from self._run_outside(work, tasks[number:])
                return
            yield work.do(task)

    def _run_outside(self, work: Work, tasks: Sequence[object]) -> Iterator[Iterator[Any]]:
        while len(self._processes) < self._num_workers:
            self._processes.append(_start())
        answers: list[queue.Queue[Any]] = [queue.Queue(_WAITING_MESSAGES) for _ in tasks]
        ahead = threading.Semaphore(_TASKS_AHEAD * len(self._processes))
        numbers = iter(range(len(tasks)))
        lock = threading.Lock()

        def attend(process: subprocess.Popen[bytes]) -> None:
            # A pipe that is broken already is met again, and told, with the first task.
            with contextlib.suppress(OSError):
                send(_stdin(process), ("work", work))
            while True:
                ahead.acquire()
                with lock:
                    number = next(numbers, None)
                if number is None or self._is_closed:
                    ahead.release()
                    return
                self._do(process, tasks[number], answers[number])

        for process in self._processes:
            threading.Thread(target=attend, args=(process,), daemon=True).start()
        for number in range(len(tasks)):
            yield _messages(answers[number])
            answers[number] = queue.Queue()  # frees what it held
            ahead.release()

    def _do(
        self, process: subprocess.Popen[bytes], task: object, answers: queue.Queue[Any]
    ) -> None:
        try:
            send(_stdin(process), ("task", task))
            assert process.stdout is not None
            while True:
                message = receive(process.stdout)
                self._put(answers, message)
                if message[0] != "item":
                    return
        except (EOFError, OSError):
            text = f"a worker process ended (exit code {process.wait()})"
            self._put(answers, ("failed", WorkerFailureError(text)))

    def _put(self, answers: queue.Queue[Any], message: object) -> None:
        while not self._is_closed:
            with contextlib.suppress(queue.Full):
                answers.put(message, timeout=0.5)
                return


def _messages(answers: queue.Queue[Any]) -> Iterator[Any]:
    while True:
        kind, value = answers.get()
        if kind == "done":
            return
        if kind == "failed":
            raise value
        yield value


def _start() -> subprocess.Popen[bytes]:
    source = str(Path(cllm.__file__).parents[1])
    paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    # -P: a file in the current folder must not be taken for a library.
    command = [sys.executable, "-P", "-m", "cllm.text.worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def as_failure(error: Exception) -> Exception:
    """What a worker sends for an exception: our own kind as it is, others as their text."""
    if isinstance(error, CllmError | OSError):
        return error
    import traceback

    return WorkerFailureError("".join(traceback.format_exception(error)))
