"""A server that is killed, and two over one home: what was acknowledged is there."""

import os
import signal
import threading
import time

import httpx
import pytest
from tests.server.conftest import make_model
from tests.server.live import (
    QUICK,
    end_trainings,
    messages_of,
    scores,
    serving,
    some_text,
    wait_for,
)

from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(home):
    made = Workspace(home)
    make_model(made, "story")
    yield made
    end_trainings(made)


def talk_until_it_dies(server, known):
    """Conversations with messages, as long as somebody answers; what was answered is kept."""
    with server.client() as client:
        try:
            while True:
                answer = client.post("/api/conversations", json={"title": "x"})
                talk = answer.json()["id"]
                known[talk] = {}
                for number in range(5):
                    body = {"role": "user", "text": f"{number} ä" * 500}
                    made = client.post(f"/api/conversations/{talk}/messages", json=body).json()
                    known[talk][made["id"]] = made["text"]
                time.sleep(0.05)
        except httpx.TransportError:
            pass


def copy_until_it_dies(server, models):
    with server.client() as client:
        try:
            number = len(models)
            while True:
                number += 1
                client.post("/api/models/story/copy", json={"name": f"copy-{number}"})
                models.add(f"copy-{number}")
                client.post(
                    "/api/models/story/copy", json={"name": "over", "overwrite": True}
                ).raise_for_status()
                models.add("over")
                time.sleep(0.1)
        except httpx.TransportError:
            pass


def upload_until_it_dies(server):
    """Always in the middle of handing in a file."""

    def slowly():
        while True:
            yield b"some text\n" * 1000
            time.sleep(0.01)

    with server.client() as client, pytest.raises(httpx.TransportError):
        client.post("/api/uploads?name=a.txt", content=slowly())


def everything_hidden(home):
    return [path for path in home.rglob(".*") if path.name != ".gitignore"]


def test_killed_in_the_middle_of_writing_it_has_what_it_said_it_has(workspace, home):
    known, models = {}, {"story"}
    before = None
    for num_more in (3, 10):
        with serving(home) as server, server.client() as client:
            before = before or scores(client, "story")
            work = [
                threading.Thread(target=talk_until_it_dies, args=(server, known)),
                threading.Thread(target=talk_until_it_dies, args=(server, known)),
                threading.Thread(target=copy_until_it_dies, args=(server, models)),
                threading.Thread(target=upload_until_it_dies, args=(server,)),
            ]
            for thread in work:
                thread.start()
            at_least = len(known) + num_more, len(models) + 2
            wait_for(
                lambda at_least=at_least: len(known) >= at_least[0] and len(models) >= at_least[1],
                "some writing",
            )
            os.kill(server.child.pid, signal.SIGKILL)
            for thread in work:
                thread.join(60)
                assert not thread.is_alive()
        with serving(home) as server, server.client() as client:
            for talk, messages in known.items():
                assert messages.items() <= messages_of(client, talk).items()
            assert models <= set(workspace.models.names())
            for name in workspace.models.names():
                workspace.models.check(name)
                assert scores(client, name) == before
            assert everything_hidden(home) == []
            assert client.get("/api/uploads").json() == []
            assert server.stop() == ""


def test_a_training_goes_on_without_its_server_and_the_next_one_finds_it(workspace, home):
    with serving(home) as server, server.client() as client:
        settings = QUICK | {"train.steps": 1_000_000}
        body = {"name": "made", "text": some_text(), "settings": settings}
        run = client.post("/api/runs", json=body).json()["id"]
        wait_for(lambda: client.get(f"/api/runs/{run}").json()["step"], "a step")
        os.kill(server.child.pid, signal.SIGKILL)
        server.child.wait(30)
    with serving(home) as server, server.client() as client:
        found = client.get(f"/api/runs/{run}").json()
        assert (found["state"], found["has_crashed"]) == ("training", False)
        wait_for(
            lambda: client.get(f"/api/runs/{run}").json()["step"] > found["step"], "more steps"
        )
        assert client.post("/api/runs", json=body | {"name": "other"}).status_code == 409
        client.post(f"/api/runs/{run}/stop").raise_for_status()
        wait_for(
            lambda: client.get(f"/api/runs/{run}").json()["state"] == "finished", "the end of it"
        )
        assert client.get(f"/api/runs/{run}").json()["step"] > found["step"]
        assert scores(client, "made")
    workspace.models.check("made")


def test_two_servers_over_one_home_do_each_other_no_harm(workspace, home):
    known = ({}, {})
    with (
        serving(home) as one,
        serving(home) as other,
        one.client() as first,
        other.client() as second,
    ):
        work = [
            threading.Thread(target=talk_until_it_dies, args=(server, kept))
            for server, kept in zip((one, other), known, strict=True)
        ]
        work.append(threading.Thread(target=copy_until_it_dies, args=(one, set())))
        for thread in work:
            thread.start()
        expected = scores(first, "story")
        assert scores(second, "story") == expected
        # The one that starts now clears away nothing that the others are writing.
        with serving(home) as third, third.client() as client:
            assert scores(client, "story") == expected
        assert first.post("/api/models/story/copy", json={"name": "mine"}).status_code == 201
        assert second.post("/api/models/story/copy", json={"name": "mine"}).status_code == 409
        assert second.post("/api/models/mine/rename", json={"name": "ours"}).status_code == 200
        assert scores(first, "ours") == scores(second, "ours") == expected
        assert first.get("/api/models/mine").status_code == 404
        one.child.kill()
        other.child.kill()
        for thread in work:
            thread.join(60)
    with serving(home) as server, server.client() as client:
        for talk, messages in (known[0] | known[1]).items():
            assert messages.items() <= messages_of(client, talk).items()
        assert len(known[0]) > 1 and len(known[1]) > 1
        for name in workspace.models.names():
            workspace.models.check(name)
