"""Minutes of clients that stream, wait, slow down and leave: nothing hangs, nothing grows."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time

import httpx
import psutil
import pytest

SECONDS = 20
CLIENTS = 16
SERVER = """
import sys
from dataclasses import replace
from pathlib import Path
from cllm.jobs.serve import address_of, listen, make_server
from cllm.server.access import make_access
from cllm.server.app import create_app
from cllm.server.limits import default_limits
from cllm.workspace.workspace import Workspace
limits = replace(default_limits(), most_slots=4, most_waiting=8, send_s=2.0)
access = make_access("127.0.0.1", api_key=None)
app = create_app(Workspace(Path(sys.argv[1])), access, limits, default_model="story")
with listen("127.0.0.1", 0) as place:
    print(address_of(place), flush=True)
    make_server(app).run([place])
"""


async def one_client(client: httpx.AsyncClient, chance: random.Random, until: float) -> int:
    """Asks for one text after another, and leaves in the middle of many; how many it asked for."""
    asked = 0
    while time.monotonic() < until:
        asked += 1
        body = {
            "model": chance.choice(["story", "talk"]),
            "prompt": "The river ran " * chance.randrange(1, 9),
            "max_tokens": chance.choice([1, 30, 2000]),
            "n": chance.choice([1, 1, 3]),
        }
        if chance.random() < 0.3:
            answer = await client.post("/v1/completions", json=body)
            assert answer.status_code in (200, 429)
            continue
        async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
            assert answer.status_code in (200, 429)
            most_lines = chance.choice([1, 3, 10_000])
            async for _ in answer.aiter_lines():
                most_lines -= 1
                if most_lines == 0:
                    break
                if chance.random() < 0.01:
                    await asyncio.sleep(0.2)
    return asked


async def load(address: str, seed: int, seconds: float) -> int:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        until = time.monotonic() + seconds
        chances = [random.Random(1000 * seed + number) for number in range(CLIENTS)]
        return sum(await asyncio.gather(*(one_client(client, chance, until) for chance in chances)))


@contextlib.contextmanager
def serving(workspace, log):
    """The address of a server in a child process, and that; what it says goes to `log`."""
    command = [sys.executable, "-c", SERVER, str(workspace.home)]
    with (
        log.open("w") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as child,
    ):
        try:
            assert child.stdout is not None
            yield child.stdout.readline().strip(), psutil.Process(child.pid)
        finally:
            child.terminate()
    assert log.read_text() == ""


async def short_texts(address: str, count: int, *, at_once: int) -> None:
    """Ask for so many texts of a few tokens, each through a connection of its own."""

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        body = {"model": "story", "prompt": "x", "max_tokens": 3, "stream": number % 2 == 0}
        while True:
            answer = await client.post("/v1/completions", json=body)
            if answer.status_code == 200:
                return
            # The queue holds eight.
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            await asyncio.sleep(0.02)

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        for _ in range(0, count, at_once):
            await asyncio.gather(*(ask(client, number) for number in range(at_once)))


@pytest.mark.long
def test_short_requests_leave_nothing_behind(workspace, tmp_path):
    with serving(workspace, tmp_path / "log") as (address, server):
        asyncio.run(short_texts(address, 400, at_once=1))
        asyncio.run(short_texts(address, 640, at_once=64))
        before = server.memory_info().rss
        asyncio.run(short_texts(address, 2000, at_once=1))
        asyncio.run(short_texts(address, 1280, at_once=64))
        assert server.memory_info().rss < 1.03 * before


@pytest.mark.long
def test_a_mixed_load_leaves_nothing_behind(workspace, tmp_path):
    with serving(workspace, tmp_path / "log") as (address, server):
        assert asyncio.run(load(address, 1, SECONDS)) > CLIENTS
        before = server.memory_info().rss
        assert asyncio.run(load(address, 2, SECONDS)) > CLIENTS
        assert server.memory_info().rss < 1.05 * before
        deadline = time.monotonic() + 30
        while "cllm_requests_running 0.0" not in httpx.get(f"{address}/metrics").text:
            assert time.monotonic() < deadline, "texts are being written for nobody"
            time.sleep(0.05)
        body = {"prompt": "x", "max_tokens": 3}
        answer = httpx.post(f"{address}/v1/completions", json=body, timeout=30)
        assert answer.status_code == 200
        # The connections of those who left are gone too.
        with contextlib.suppress(psutil.AccessDenied):
            assert len(server.net_connections()) < CLIENTS
