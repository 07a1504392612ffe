"""A training from the first request to the model, over HTTP."""

import json
import random
import time

import httpx
import pytest

QUICK = {
    "model.preset": "tiny",
    "model.context": 32,
    "train.batch_size": 4,
    "train.sample_tokens": 8,
    "train.precision": "float32",
}


def some_text():
    rng = random.Random(0)
    nouns = ["river", "lantern", "fox", "mountain"]
    return "\n".join(
        f"The {rng.choice(nouns)} waits by the {rng.choice(nouns)}." for _ in range(300)
    )


def sent_events(lines):
    """Server-sent events, read as the standard says: (id, event, data)."""
    fields = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def wait_for(client, run, states):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = client.get(f"/api/runs/{run}").json()
        if status["state"] in states:
            return status
        time.sleep(0.02)
    raise AssertionError(f"{status} never became one of {states}")


def test_planned_started_steered_watched(client):
    body = {"text": some_text(), "settings": QUICK | {"train.steps": 1_000_000}}
    plan = client.post("/api/plan", json=body)
    assert plan.status_code == 200, plan.text
    assert plan.json()["plan"]["total_steps"] == 1_000_000
    assert client.get("/api/runs").json() == []
    body = {
        "name": "mine",
        "uploads": plan.json()["uploads"],
        "settings": QUICK | {"train.steps": 1_000_000},
    }
    started = client.post("/api/runs", json=body)
    assert started.status_code == 201, started.text
    run = started.json()["id"]
    again = client.post("/api/runs", json=body | {"name": "other"})
    assert again.status_code == 409 and "trained already" in again.json()["error"]["message"]
    seen, last_id = [], None
    with client.stream("GET", f"/api/runs/{run}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for identity, event, data in sent_events(answer.iter_lines()):
            seen.append(event)
            assert data["event"] == event and str(data["offset"]) == identity
            if event == "stepped":
                last_id = identity
                break
    assert "prepared" in seen and "planned" in seen
    assert client.post(f"/api/runs/{run}/pause").json()["wanted"] == "pause"
    assert wait_for(client, run, {"paused"})["step"] >= 1
    assert client.delete(f"/api/runs/{run}").status_code == 409
    assert client.post(f"/api/runs/{run}/resume").status_code == 200
    wait_for(client, run, {"training"})
    assert client.post(f"/api/runs/{run}/stop").json()["wanted"] == "stop"
    headers = {"Last-Event-ID": last_id}
    with client.stream("GET", f"/api/runs/{run}/events", headers=headers) as answer:
        rest = [event for _, event, _ in sent_events(answer.iter_lines())]
    assert rest[-2:] == ["finished", "ended"]
    assert "planned" not in rest and "paused" in rest
    status = wait_for(client, run, {"finished"})
    assert status["progress"] == 1.0 and status["step"] > 1
    assert client.get("/api/models").json()["models"][0]["name"] == "mine"
    curve = client.get(f"/api/runs/{run}/curve", params={"max_points": 20}).json()
    assert 1 <= len(curve["train"]) <= 40 and curve["val"]
    assert client.get(f"/api/runs/{run}/samples").json()[0]["step"] == 0
    assert client.get(f"/api/runs/{run}/result").json()["state"] == "stopped"
    assert "cllm generate mine" in client.get(f"/api/runs/{run}/log").text
    assert client.post(f"/api/runs/{run}/continue").status_code == 409
    assert client.post(f"/api/runs/{run}/pause").status_code == 400
    assert client.delete(f"/api/runs/{run}").status_code == 204
    assert client.get(f"/api/runs/{run}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"text": "x", "settings": {"train.stepz": 1}}, 400),
        ({"text": "x", "name": "../up"}, 400),
        ({"text": "x", "unknown": 1}, 400),
        ({"folder": "~nobody-at-all/x"}, 404),
        ({"text": "x", "folder": "/etc"}, 400),
        ({"folder": "/nowhere/\u00e4"}, 404),
        ({"folder": "a\u0000b"}, 400),
        ({"uploads": ["../x"]}, 404),
        ({"corpus": "../x"}, 400),
        ({"text": "x", "from_model": "none"}, 404),
    ],
)
def test_what_can_not_be_trained_is_refused_at_once(client, body, status):
    for path in ("/api/runs", "/api/plan"):
        answer = client.post(path, json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message"]
    assert client.get("/api/runs").json() == []


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e999"])
def test_numbers_that_are_none_are_refused(client, number):
    content = f'{{"text": "x", "settings": {{"train.minutes": {number}}}}}'
    answer = client.post("/api/plan", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


@pytest.mark.parametrize("what", ["pause", "resume", "stop", "continue"])
def test_a_run_that_is_not_there_is_not_found(client, what):
    assert client.post(f"/api/runs/none/{what}").status_code == 404


def test_a_watcher_that_goes_away_leaves_the_server_in_peace(client, workspace):
    run = workspace.runs.create("m", {}).id
    for _ in range(5):
        with client.stream("GET", f"/api/runs/{run}/events"):
            pass
    with (
        pytest.raises(httpx.ReadTimeout),
        client.stream("GET", f"/api/runs/{run}/events", timeout=0.3) as answer,
    ):
        list(answer.iter_lines())
    workspace.runs.update(run, state="finished")
    with client.stream("GET", f"/api/runs/{run}/events") as answer:
        [(_, event, data)] = sent_events(answer.iter_lines())
    assert (event, data["state"]) == ("ended", "finished")
