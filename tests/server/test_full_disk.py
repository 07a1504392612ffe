"""A full disk: every refusal says so, nothing that is there is harmed, and all goes on after."""

import contextlib
import os
import resource
import subprocess

import pytest
from tests.server.conftest import TEXT, make_model
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


class SmallDisk:
    """A file system of 24 MB in memory; whoever may not mount one uses `NoMoreBytes`."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True)

    def fill(self, server):
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def free(self, server):
        (self.folder / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


class NoMoreBytes:
    """No process of the server may make a file longer: as full as a disk, for everybody."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def fill(self, server):
        self._limit(server, 0)

    def free(self, server):
        self._limit(server, resource.RLIM_INFINITY)

    def close(self):
        pass

    def _limit(self, server, most):
        for process in (server.process, *server.process.children(recursive=True)):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


@pytest.fixture(params=[SmallDisk, NoMoreBytes])
def disk(request, tmp_path):
    try:
        made = request.param(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        made = NoMoreBytes(tmp_path / "limited")
    home = made.folder / "home"
    try:
        make_model(Workspace(home), "story")
        make_model(Workspace(home), "talk", seed=1)
        make_model(Workspace(home), "spare", seed=2)
        yield made
    finally:
        end_trainings(Workspace(home))
        made.close()


def refused(answer):
    """It is said that the disk is full, and what to do; no path, no bare failure."""
    assert answer.status_code == 507, (answer.request.url, answer.status_code, answer.text)
    error = answer.json()["error"]
    assert "disk" in error["message"] and "Free some" in error["hint"], error
    return True


def test_what_does_not_fit_is_refused_and_nothing_is_harmed(disk):
    home = disk.folder / "home"
    with serving(home) as server, server.client() as client:
        talk = client.post("/api/conversations", json={"title": "x", "model": "story"}).json()["id"]
        messages = f"/api/conversations/{talk}/messages"
        first = client.post(messages, json={"role": "user", "text": "kept"}).json()["id"]
        expected = {name: scores(client, name) for name in ("story", "talk")}
        client.put("/api/models/story/defaults", json={"temperature": 0.5}).raise_for_status()
        disk.fill(server)
        long = {"role": "user", "text": "y" * 500_000}
        assert refused(client.post(messages, json=long))
        assert refused(client.post("/api/conversations", json={"title": "x" * 900}))
        assert refused(client.patch(f"{messages}/{first}", json={"text": "z" * 500_000}))
        assert refused(client.delete(f"/api/conversations/{talk}"))
        assert refused(client.post("/api/models/story/copy", json={"name": "more"}))
        over = {"name": "talk", "overwrite": True}
        assert refused(client.post("/api/models/story/copy", json=over))
        assert refused(client.post("/api/models/story/duplicate"))
        assert refused(client.post("/api/models/story/rename", json={"name": "other"}))
        assert refused(client.delete("/api/models/talk"))
        assert refused(client.put("/api/models/story/defaults", json={"temperature": 0.7}))
        assert refused(client.post("/api/uploads?name=a.txt", content=b"some text " * 300_000))
        assert refused(client.post("/api/models/story/export", json={"to": "numpy"}))
        body = {"folder": os.fspath(home / "models"), "name": "made", "settings": QUICK}
        assert refused(client.post("/api/runs", json=body))
        # What needs no room goes on.
        assert scores(client, "story") == expected["story"]
        assert client.get("/health").status_code == 200
        assert messages_of(client, talk) == {first: "kept"}
        assert client.get("/api/models/story/defaults").json() == {"temperature": 0.5}
        assert client.get("/api/runs").json() == []
        gone = client.delete("/api/models/spare", params={"for_good": True})
        assert (gone.status_code, gone.json()) == (200, None)
        assert not (home / "models" / "spare").exists()
        disk.free(server)
        assert client.post(messages, json=long).status_code == 201
        assert client.post("/api/models/story/copy", json={"name": "more"}).status_code == 201
        assert {name: scores(client, name) for name in ("story", "talk")} == expected
        assert scores(client, "more") == expected["story"]
        assert client.get("/api/trash").json() == []
        models = client.get("/api/models").json()["models"]
        assert {model["name"]: model["problem"] for model in models} == dict.fromkeys(
            ["story", "talk", "more"]
        )
        assert not [path for path in home.rglob(".*") if path.is_dir()]
        assert "Traceback" not in server.stop()


@pytest.mark.long
def test_a_training_that_meets_a_full_disk_goes_on_when_there_is_room(disk):
    home = disk.folder / "home"
    with serving(home) as server, server.client() as client:
        settings = QUICK | {"train.steps": 1_000_000}
        body = {"name": "made", "text": some_text() + TEXT, "settings": settings}
        run = client.post("/api/runs", json=body).json()["id"]

        def status():
            return client.get(f"/api/runs/{run}").json()

        wait_for(lambda: (status()["step"] or 0) > 5, "some steps")
        wait_for(lambda: [*(home / "runs" / run / "checkpoints").glob("step-*")], "a checkpoint")
        disk.fill(server)
        stopped = wait_for(lambda: (found := status())["can_continue"] and found, "its end")
        assert stopped["state"] in ("failed", "interrupted")
        assert stopped["error"] is not None
        assert refused(client.post(f"/api/runs/{run}/continue"))
        again = client.post("/api/runs", json=body | {"name": "more"})
        assert refused(again)
        disk.free(server)
        assert client.post(f"/api/runs/{run}/continue").status_code == 200
        more = wait_for(
            lambda: (found := status())["state"] == "training" and found["step"] and found, "steps"
        )
        wait_for(lambda: status()["step"] > more["step"], "more steps")
        assert client.post(f"/api/runs/{run}/stop").status_code == 200
        wait_for(lambda: status()["state"] == "finished", "its end")
        assert scores(client, "made")
        Workspace(home).models.check("made")
