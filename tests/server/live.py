"""`cllm serve` as a process of its own, and what tests ask of one again and again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

from cllm.workspace.database import RunRow
from cllm.workspace.workspace import Workspace

QUICK = {
    "model.preset": "tiny",
    "model.context": 32,
    "train.batch_size": 4,
    "train.sample_tokens": 4,
    "train.precision": "float32",
    "train.checkpoint_seconds": 0.2,
}


@dataclass(frozen=True)
class Server:
    """A running command; `process` is the one that answers."""

    child: subprocess.Popen[str]
    address: str
    errors: IO[str]

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.child.pid)

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=120, trust_env=False, **more)

    def stop(self) -> str:
        """End it as Ctrl-C does; returns what it wrote on standard error."""
        self.child.terminate()
        self.child.wait(timeout=60)
        self.errors.seek(0)
        return self.errors.read()


@contextlib.contextmanager
def serving(home: Path, *flags: str) -> Iterator[Server]:
    """Run the command over a home while the block lasts; on any way out it is ended."""
    command = [sys.executable, "-m", "cllm", "serve", "--port", "0", "--json", *flags]
    environment = {**os.environ, "CLLM_HOME": str(home)}
    with (
        # A pipe that nobody reads would be full some day, and the server would wait for it.
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as child,
    ):
        try:
            assert child.stdout is not None
            yield Server(child, json.loads(child.stdout.readline())["address"], errors)
        finally:
            child.kill()


def pid_of(workspace: Workspace, run: str) -> int:
    """The process at work on a run."""
    with workspace._database.read() as session:
        return session.get_one(RunRow, run).pid or 0


def end_trainings(workspace: Workspace) -> None:
    """Kill every training that is left, so that none outlives its test."""
    for run in workspace.runs.active():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid_of(workspace, run.id))
            process.kill()
            process.wait(30)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 180.0) -> Any:
    """What `condition` returns once that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"it never came to that: {what}")


def some_text(seed: int = 0, lines: int = 300) -> str:
    chance = random.Random(seed)
    nouns, verbs = ["river", "lantern", "fox", "mountain"], ["sings", "sleeps", "waits"]
    return "\n".join(
        f"The {chance.choice(nouns)} {chance.choice(verbs)} near the {chance.choice(nouns)} {line}."
        for line in range(lines)
    )


def scores(client: httpx.Client, model: str) -> list[float | None]:
    """What a model thinks of a fixed text, token by token."""
    body = {"model": model, "prompt": "The river ran past the mill.", "max_tokens": 1}
    body |= {"echo": True, "logprobs": 1, "temperature": 0}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: list[float | None] = answer.json()["choices"][0]["logprobs"]["token_logprobs"]
    return found


def messages_of(client: httpx.Client, conversation: str) -> dict[int, str]:
    """Every message of every branch, by id."""
    answer = client.get(f"/api/conversations/{conversation}/export", params={"form": "json"})
    assert answer.status_code == 200, answer.text
    return {message["id"]: message["text"] for message in answer.json()["messages"]}
