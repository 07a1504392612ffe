"""What the server costs: 64 streaming clients against the engine alone, and the first token.

Random weights of sizes of `bench_models`. `engine`: all texts with a `Scheduler` in this process,
nobody in between. `server`: `cllm`'s application in a child process, and as many clients as
connections of this one process, each opened for its text. Both take turns, with the same slots,
threads, prompts and seeds, and both write the same tokens, which is checked; the end-of-text
token is ruled out, so that all texts are equally long. `share` is the median of the rounds'
server / engine tokens a second.

The clients share the processor with the server, so they do no more than a program must that
reads a stream: they count the events and look for the end, but take no JSON apart, with
asyncio's protocols instead of an HTTP library. What they cost is told (`client_cpu_s`), as what
the server's process does (`server_cpu_s`, the engine's part in it included).

`first`: one client, a prompt of some tokens, the time to the first piece of text, the engine's
and the server's, connecting included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from cllm.config import GenerateSettings
from cllm.infer.scheduler import Scheduler
from cllm.jobs.bench_models import SIZES, random_weights, size_subject
from cllm.jobs.opening import drafting_of, open_model
from cllm.model import save_model
from cllm.server.limits import default_limits
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace
from surroundings import surroundings

_CONTEXT = 1024
_PROMPT = "once upon a time"
_NUM_FIRSTS = 20
_USED = re.compile(rb'"completion_tokens":(\d+)')
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
    """A home with one model, whose tokens are pieces of made-up words."""
    workspace = Workspace(home)
    spec = replace(size_subject(size).spec, context=_CONTEXT)
    chance = random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(4000)]
    text = " ".join(chance.choices(words, k=60_000))
    tokenizer = train_tokenizer(
        "bpe", lambda: iter([text]), vocab_size=spec.vocab_size, num_characters=len(text)
    )
    with workspace.models.write("model") as folder:
        save_model(folder, spec, random_weights(spec))
        tokenizer.save(folder, context=spec.context)
    return workspace


@contextlib.contextmanager
def serving(home: Path, num_slots: int) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a server in a child process, and that."""
    command = [sys.executable, "-c", _SERVER, str(home), str(num_slots)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip(), psutil.Process(child.pid)
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
        eos = self.opened.tokenizer.eos_id
        settings = GenerateSettings(
            seed=seed, max_tokens=num_tokens, temperature=1.0, logit_bias=(f"#{eos}=-100",)
        )
        return self.scheduler.submit(self.prompt, settings, drafting=self.drafting)

    def all_at_once(self, num_clients: int, num_tokens: int) -> tuple[int, float]:
        """Tokens of all texts together, and seconds."""
        start = time.perf_counter()
        answers = [self._submit(seed, num_tokens) for seed in range(num_clients)]
        for answer in answers:
            answer.text()
        seconds = time.perf_counter() - start
        return sum(len(answer.passage.ids) for answer in answers), seconds

    def first(self) -> float:
        """Seconds to the first piece of text."""
        start = time.perf_counter()
        answer = self._submit(0, 32)
        next(iter(answer))
        seconds = time.perf_counter() - start
        answer.cancel()
        answer.text()
        return seconds


class Client(asyncio.Protocol):
    """Asks for one text and reads its events."""

    def __init__(self, request: bytes) -> None:
        self.began, self.first = time.perf_counter(), 0.0
        self.num_events, self.last = 0, b""
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        found = data.count(b"data: {")
        if found and not self.first:
            self.first = time.perf_counter() - self.began
        self.num_events += found
        self.last = (self.last + data)[-1024:]
        if b"data: [DONE]" in self.last:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.is_over.done():
            self.is_over.set_result(None)

    @property
    def num_tokens(self) -> int:
        found = _USED.search(self.last)
        if found is None:
            raise SystemExit(f"a stream did not end as it should: {self.last!r}")
        return int(found[1])


@dataclass
class Read:
    """What all clients read."""

    num_tokens: int
    num_events: int
    seconds: float
    cpu_s: float
    firsts: list[float]


async def read_all(address: str, num_clients: int, num_tokens: int) -> Read:
    """All clients at once."""
    host, port = address.removeprefix("http://").split(":")
    body = {"model": "model", "prompt": _PROMPT, "max_tokens": num_tokens, "temperature": 1.0}
    body |= {"stream": True, "stream_options": {"include_usage": True}, "logit_bias": {"0": -100}}

    async def read(seed: int) -> Client:
        data = json.dumps(body | {"seed": seed}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        client = Client(head.encode() + data)
        await asyncio.get_running_loop().create_connection(lambda: client, host, int(port))
        await client.is_over
        return client

    start, cpu = time.perf_counter(), time.process_time()
    clients = await asyncio.gather(*(read(seed) for seed in range(num_clients)))
    seconds = time.perf_counter() - start
    return Read(
        num_tokens=sum(client.num_tokens for client in clients),
        num_events=sum(client.num_events for client in clients),
        seconds=seconds,
        cpu_s=time.process_time() - cpu,
        firsts=[client.first for client in clients],
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def one_round(
    engine: Engine, server: tuple[str, psutil.Process], count: int, num_tokens: int
) -> dict[str, float]:
    """Engine, then server."""
    address, process = server
    written, seconds = engine.all_at_once(count, num_tokens)
    before = _cpu_s(process)
    read = asyncio.run(read_all(address, count, num_tokens))
    if read.num_tokens != written:
        raise SystemExit(f"{read.num_tokens} tokens were read, {written} written by the engine")
    return {
        "engine_tokens_per_s": written / seconds,
        "server_tokens_per_s": read.num_tokens / read.seconds,
        "share": seconds / read.seconds,
        "median_first_s": statistics.median(read.firsts),
        "client_cpu_s": read.cpu_s,
        "server_cpu_s": _cpu_s(process) - before,
        "events_per_text": read.num_events / count,
    }


def measure(arguments: argparse.Namespace, size: str, home: Path) -> list[dict[str, Any]]:
    """Engine and server in turns, for each length of texts."""
    engine = Engine(write_home(size, home), arguments.slots)
    found: list[dict[str, Any]] = []
    about = {"size": size, "clients": arguments.clients, "slots": arguments.slots}
    with serving(home, arguments.slots) as server:
        for num_tokens in arguments.tokens:
            rounds = [
                one_round(engine, server, arguments.clients, num_tokens)
                for _ in range(arguments.rounds + 1)
            ][1:]
            medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
            shares = [round(one["share"], 3) for one in rounds]
            found.append({**about, "tokens": num_tokens, **medians, "shares": shares})
            print(f"{size}, {num_tokens} tokens: {medians['share']:.2f} of {shares}")
        firsts = [(engine.first(), first_of(server[0])) for _ in range(_NUM_FIRSTS + 1)][1:]
    engine.scheduler.close()
    own, served = (1000 * statistics.median(column) for column in zip(*firsts, strict=True))
    print(f"{size}, first token: engine {own:.1f} ms, server {served:.1f} ms")
    return [one | {"engine_first_ms": own, "server_first_ms": served} for one in found]


def first_of(address: str) -> float:
    """Seconds to the first event of a client that is alone."""
    return asyncio.run(read_all(address, 1, 32)).firsts[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small"])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--slots", type=int, default=default_limits().most_slots)
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    cases: list[dict[str, Any]] = []
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            cases += measure(given, size, Path(folder))
    print(json.dumps({"cases": cases, "surroundings": surroundings()}))


if __name__ == "__main__":
    main()
