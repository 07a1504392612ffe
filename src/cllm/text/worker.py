"""A worker process: `python -m cllm.text.worker`, spoken to by `pipeline.WorkerPool`."""

from __future__ import annotations

import os
import signal
import sys
from typing import IO

from cllm.text.pipeline import Work, as_failure, receive, send


def serve(tasks: IO[bytes], answers: IO[bytes]) -> None:
    """Do tasks, each with the work that was sent last, until the parent is gone."""
    work: Work | None = None
    while True:
        kind, message = receive(tasks)
        if kind == "work":
            work = message
            continue
        assert work is not None
        try:
            for item in work.do(message):
                send(answers, ("item", item))
            send(answers, ("done", None))
        except BrokenPipeError:
            raise
        except Exception as error:
            send(answers, ("failed", as_failure(error)))


def main() -> None:
    """Serve on standard input and output until they close."""
    # Ctrl-C goes to the parent, which ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not get between the messages.
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, answers)
    except (EOFError, BrokenPipeError):
        os._exit(0)


if __name__ == "__main__":
    main()
