"""What the server costs: 64 streaming clients against the engine alone, and the first token.

Random weights of a size of `bench_models`. `engine`: all texts with a `Scheduler` in this process,
nobody in between. `server`: `cllm`'s application in a child process, and as many clients as
connections of this one process, reading server-sent events; how much they cost is told too
(`client_cpu_s`). Both take turns, with the same slots, threads and seeds; the texts have
`--tokens` tokens each. `first`: one client, a prompt of 8 tokens, the time to the first piece
of text, the engine's and the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from cllm.config import GenerateSettings
from cllm.infer.scheduler import Scheduler
from cllm.jobs.bench_models import SIZES, random_weights, size_subject
from cllm.jobs.opening import drafting_of, open_model
from cllm.model import save_model
from cllm.server.limits import default_limits
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace
from surroundings import surroundings

_CONTEXT = 512
_PROMPT = "abcdefgh"
_SERVER = """
import sys
from dataclasses import replace
from pathlib import Path
from cllm.jobs.serve import address_of, listen, make_server
from cllm.server.access import make_access
from cllm.server.app import create_app
from cllm.server.limits import default_limits
from cllm.workspace.workspace import Workspace
limits = replace(default_limits(), most_slots=int(sys.argv[2]), most_waiting=256)
access = make_access("127.0.0.1", api_key=None)
app = create_app(Workspace(Path(sys.argv[1])), access, limits, default_model="model")
with listen("127.0.0.1", 0) as place:
    print(address_of(place), flush=True)
    make_server(app).run([place])
"""


def write_home(size: str, home: Path) -> Workspace:
    """A home with one model, whose tokens are bytes as far as the clients can see."""
    workspace = Workspace(home)
    subject = size_subject(size)
    spec = replace(subject.spec, context=_CONTEXT)
    tokenizer = train_tokenizer("bytes", lambda: iter(["x"]), vocab_size=None, num_characters=1)
    with workspace.models.write("model") as folder:
        save_model(folder, spec, random_weights(spec))
        tokenizer.save(folder, context=spec.context)
    return workspace


@contextlib.contextmanager
def serving(home: Path, num_slots: int) -> Iterator[str]:
    """The address of a server in a child process."""
    command = [sys.executable, "-c", _SERVER, str(home), str(num_slots)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.terminate()


class Engine:
    """The scheduler alone."""

    def __init__(self, workspace: Workspace, num_slots: int) -> None:
        folder = workspace.models.path("model")
        self.opened = open_model(folder, workspace.home, num_slots=num_slots)
        self.scheduler = Scheduler(self.opened.slots, self.opened.tokenizer, most_waiting=256)
        self.drafting = drafting_of(self.opened, "auto")
        self.prompt = [int(token) for token in self.opened.tokenizer.encode(_PROMPT)]

    def _submit(self, seed: int, num_tokens: int) -> Any:
        settings = GenerateSettings(seed=seed, max_tokens=num_tokens, temperature=1.0)
        return self.scheduler.submit(self.prompt, settings, drafting=self.drafting)

    def throughput(self, num_clients: int, num_tokens: int) -> float:
        """Tokens a second of all texts together."""
        start = time.perf_counter()
        answers = [self._submit(seed, num_tokens) for seed in range(num_clients)]
        for answer in answers:
            answer.text()
        written = sum(len(answer.passage.ids) for answer in answers)
        return written / (time.perf_counter() - start)

    def first(self) -> float:
        """Seconds to the first piece of text."""
        start = time.perf_counter()
        answer = self._submit(0, 32)
        next(iter(answer))
        seconds = time.perf_counter() - start
        answer.cancel()
        answer.text()
        return seconds


async def _read(client: httpx.AsyncClient, seed: int, num_tokens: int) -> tuple[int, float]:
    """Tokens of a streamed text, and seconds to its first piece."""
    body = {"prompt": _PROMPT, "max_tokens": num_tokens, "temperature": 1.0, "seed": seed}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    start, first, last = time.perf_counter(), 0.0, ""
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - start
                last = line
    return int(json.loads(last[6:])["usage"]["completion_tokens"]), first


async def read_all(address: str, num_clients: int, num_tokens: int) -> dict[str, float]:
    """All clients at once."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as client:
        start, cpu = time.perf_counter(), time.process_time()
        found = await asyncio.gather(
            *(_read(client, seed, num_tokens) for seed in range(num_clients))
        )
        seconds = time.perf_counter() - start
    return {
        "tokens_per_s": sum(tokens for tokens, _ in found) / seconds,
        "median_first_s": statistics.median(first for _, first in found),
        "client_cpu_s": time.process_time() - cpu,
        "seconds": seconds,
    }


def measure(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Engine and server in turns."""
    workspace = write_home(arguments.size, home)
    num_slots, count, tokens = arguments.slots, arguments.clients, arguments.tokens
    engine = Engine(workspace, num_slots)
    rounds: list[dict[str, Any]] = []
    firsts: list[tuple[float, float]] = []
    with serving(home, num_slots) as address:
        for number in range(arguments.rounds + 1):
            alone = engine.throughput(count, tokens)
            server = asyncio.run(read_all(address, count, tokens))
            share = server["tokens_per_s"] / alone
            if number:
                rounds.append({"engine_tokens_per_s": alone, "share": share, **server})
            for _ in range(4):
                own = engine.first()
                one = asyncio.run(read_all(address, 1, 32))["median_first_s"]
                if number:
                    firsts.append((own, one))
    engine.scheduler.close()

    def median(name: str) -> float:
        return statistics.median(one[name] for one in rounds)

    return {
        "size": arguments.size,
        "clients": count,
        "slots": num_slots,
        "tokens": tokens,
        **{name: median(name) for name in rounds[0]},
        "shares": [round(one["share"], 3) for one in rounds],
        "engine_first_ms": 1000 * statistics.median(own for own, _ in firsts),
        "server_first_ms": 1000 * statistics.median(one for _, one in firsts),
    }


def main() -> None:
    """Measure, and print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, default=default_limits().most_slots)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("NO_PROXY", "*")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    print(json.dumps({**found, "surroundings": surroundings()}))


if __name__ == "__main__":
    main()
