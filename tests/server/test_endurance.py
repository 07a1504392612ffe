"""Minutes of everything at once, with clients that leave and a training that is killed."""

import asyncio
import contextlib
import os
import random
import signal
import statistics
import time
from dataclasses import dataclass, field

import httpx
import psutil
import pytest
from tests.server.conftest import make_model
from tests.server.live import (
    QUICK,
    end_trainings,
    messages_of,
    pid_of,
    scores,
    serving,
    some_text,
    wait_for,
)

from cllm.workspace.workspace import Workspace

SECONDS = float(os.environ.get("CLLM_ENDURANCE_SECONDS", "600"))
WARM_UP = 0.4
WRITERS = 6
# A request that is not answered after so long hangs.
LONGEST_S = 60.0


@dataclass
class Kept:
    """What the server has said to be kept."""

    messages: dict[str, dict[int, str]] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    num_asked: int = 0
    num_left: int = 0
    runs: list[str] = field(default_factory=list)
    rss: list[tuple[float, int]] = field(default_factory=list)


class Load:
    """The clients, until a moment; each draws what it does next from its own seed."""

    def __init__(self, address, workspace, kept, until):
        limits = httpx.Limits(max_connections=None)
        self.client = httpx.AsyncClient(
            base_url=address, timeout=LONGEST_S, limits=limits, trust_env=False
        )
        self.address, self.workspace, self.kept, self.until = address, workspace, kept, until

    def is_on(self):
        return time.monotonic() < self.until

    async def ask(self, method, path, *, status=(200, 201, 204), **more):
        self.kept.num_asked += 1
        answer = await self.client.request(method, path, **more)
        assert answer.status_code in status, (method, path, answer.status_code, answer.text)
        return answer

    async def writer(self, chance):
        """Texts and chats, streamed or not, read to the end, or to some place, or slowly."""
        while self.is_on():
            path, model = chance.choice(
                [("/v1/completions", "story"), ("/v1/chat/completions", "talk")]
            )
            text = "The river ran " * chance.randrange(1, 9)
            said = {"prompt": text} if path == "/v1/completions" else {}
            said = said or {"messages": [{"role": "user", "content": text}]}
            body = {"model": model, "max_tokens": chance.choice([1, 30, 400])} | said
            body["n"] = chance.choice([1, 1, 3])
            if chance.random() < 0.3:
                await self.ask("POST", path, json=body, status=(200, 429))
                continue
            self.kept.num_asked += 1
            body["stream"] = True
            async with self.client.stream("POST", path, json=body) as answer:
                assert answer.status_code in (200, 429)
                most_lines = chance.choice([0, 1, 3, 10_000])
                async for _ in answer.aiter_lines():
                    most_lines -= 1
                    if most_lines <= 0:
                        self.kept.num_left += 1
                        break
                    if chance.random() < 0.01:
                        await asyncio.sleep(0.2)

    async def embedder(self, chance):
        while self.is_on():
            texts = ["The mill stood still."] * chance.randrange(1, 5)
            body = {"model": chance.choice(["story", "talk"]), "input": texts}
            await self.ask("POST", "/v1/embeddings", json=body, status=(200, 429))
            await asyncio.sleep(0.05)

    async def talker(self, chance):
        """Conversations begun, gone on with and edited; some requests are left in the middle."""
        while self.is_on():
            body = {"title": f"t{chance.random()}", "model": "story"}
            talk = (await self.ask("POST", "/api/conversations", json=body)).json()["id"]
            known = self.kept.messages.setdefault(talk, {})
            path = f"/api/conversations/{talk}/messages"
            for _ in range(chance.randrange(1, 8)):
                body = {"role": "user", "text": "ä river " * chance.randrange(1, 200)}
                if chance.random() < 0.1:
                    self.kept.num_left += 1
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(chance.random() * 0.02):
                            await self.client.post(path, json=body)
                    continue
                made = (await self.ask("POST", path, json=body)).json()
                known[made["id"]] = made["text"]
                if chance.random() < 0.3:
                    edited = {"text": f"edited {chance.random()}"}
                    await self.ask("PATCH", f"{path}/{made['id']}", json=edited)
                    known[made["id"]] = edited["text"]
            await self.ask("GET", "/api/conversations", params={"search": "river"})
            await asyncio.sleep(0.05)

    async def keeper(self, chance):
        """Models copied, renamed, deleted and brought back."""
        number = 0
        while self.is_on():
            number += 1
            made, named = f"copy-{number}", f"named-{number}"
            await self.ask("POST", "/api/models/story/copy", json={"name": made})
            await self.ask("POST", f"/api/models/{made}/rename", json={"name": named})
            entry = (await self.ask("DELETE", f"/api/models/{named}")).json()["id"]
            if number <= 3:
                await self.ask("POST", f"/api/trash/{entry}/restore")
                self.kept.models.add(named)
            else:
                await self.ask("DELETE", "/api/trash", params={"days": 0})
            await asyncio.sleep(0.2 + chance.random())

    async def nuisance(self, chance):
        """Bodies that are none, and connections that break off in the middle of a request."""
        bad = [b"{", b"\xff", b"[]", b'{"prompt": 1e999}', b'{"model": "\\ud800"}', b"x" * 100_000]
        paths = ["/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/responses"]
        paths += ["/api/conversations", "/api/runs", "/api/imports"]
        host, port = self.address.removeprefix("http://").split(":")
        while self.is_on():
            path = chance.choice(paths)
            answer = await self.ask(
                "POST", path, content=chance.choice(bad), status=(400, 404, 413, 415)
            )
            assert answer.json()["error"]["message"]
            _, stream = await asyncio.open_connection(host, int(port))
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n"
            stream.write(head.encode()[: chance.randrange(1, len(head))] + b"{")
            await stream.drain()
            stream.close()
            self.kept.num_left += 1
            await asyncio.sleep(0.1)

    async def trainer(self, chance):
        """Trainings that are killed on their way, and gone on with to their end."""
        while self.is_on():
            name = f"trained-{len(self.kept.runs)}"
            body = {"name": name, "text": some_text(), "settings": QUICK | {"train.steps": 400}}
            run = (await self.ask("POST", "/api/runs", json=body)).json()["id"]
            self.kept.runs.append(run)
            await self.until_run(run, lambda status: (status["step"] or 0) > 20)
            with contextlib.suppress(ProcessLookupError):
                os.kill(await asyncio.to_thread(pid_of, self.workspace, run), signal.SIGKILL)
            status = await self.until_run(run, lambda status: status["state"] != "training")
            if status["state"] != "finished":
                assert status["has_crashed"] and status["can_continue"], status
                await self.ask("POST", f"/api/runs/{run}/continue")
            await self.until_run(run, lambda status: status["state"] == "finished")
            self.kept.models.add(name)

    async def until_run(self, run, condition):
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            status = (await self.ask("GET", f"/api/runs/{run}")).json()
            assert status["state"] != "failed", status
            if condition(status):
                return status
            await asyncio.sleep(0.2)
        raise AssertionError(f"{run} never came to that")

    async def observer(self, server):
        """Is it alive, and how much memory does it hold?"""
        began = time.monotonic()
        while self.is_on():
            await self.ask("GET", "/health", timeout=10)
            self.kept.rss.append((time.monotonic() - began, server.memory_info().rss))
            await asyncio.sleep(0.5)

    async def run(self, server):
        def chance(number):
            return random.Random(number)

        async with self.client, asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self.writer(chance(number)))
            for number, work in enumerate(
                (self.embedder, self.talker, self.talker, self.keeper, self.nuisance, self.trainer)
            ):
                group.create_task(work(chance(100 + number)))
            group.create_task(self.observer(server))


def growth(rss):
    """How much more memory is held in the last tenth than just after the warm-up."""
    end = rss[-1][0]
    early = [value for at, value in rss if WARM_UP * end <= at <= (WARM_UP + 0.1) * end]
    late = [value for at, value in rss if at >= 0.9 * end]
    return statistics.median(late) / statistics.median(early) - 1


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 900)
def test_nothing_hangs_grows_or_is_lost(home):
    workspace = Workspace(home)
    make_model(workspace, "story")
    make_model(workspace, "talk", seed=1)
    kept = Kept(models={"story", "talk"})
    try:
        with serving(home, "--model", "story") as server, server.client() as client:
            before = {name: scores(client, name) for name in ("story", "talk")}
            load = Load(server.address, workspace, kept, time.monotonic() + SECONDS)
            asyncio.run(load.run(server.process))
            assert kept.num_asked > 5 * SECONDS and kept.num_left > SECONDS
            assert len(kept.runs) >= 1 and len(kept.messages) > 10
            wait_for(
                lambda: "cllm_requests_running 0.0" in client.get("/metrics").text,
                "rest, with nobody written for",
            )
            for talk, messages in kept.messages.items():
                assert messages.items() <= messages_of(client, talk).items()
            for name in kept.models:
                workspace.models.check(name)
                assert scores(client, name), name
            for name, expected in before.items():
                assert scores(client, name) == expected
            assert set(workspace.models.names()) >= kept.models
            statuses = [child.status() for child in server.process.children(recursive=True)]
            assert psutil.STATUS_ZOMBIE not in statuses
            print(f"{kept.num_asked} requests, {kept.num_left} left early")
            print(f"{len(kept.runs)} trainings, memory {growth(kept.rss):+.1%}")
            assert growth(kept.rss) < 0.05, kept.rss[:: max(1, len(kept.rss) // 40)]
            assert "Traceback" not in server.stop()
            assert not [path for path in workspace.models.root.iterdir() if path.name[0] == "."]
    finally:
        end_trainings(workspace)
