"""`cllm serve` as a person starts and stops it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

COMMAND = [sys.executable, "-m", "cllm", "serve"]
KEY = "a-long-secret-key"


@pytest.fixture
def start(workspace, monkeypatch):
    """Start the command and wait until it serves: the process and its address."""
    monkeypatch.setenv("CLLM_HOME", str(workspace.home))
    with contextlib.ExitStack() as stack:

        def begin(*flags, **environment):
            child = stack.enter_context(
                subprocess.Popen(
                    [*COMMAND, "--port", "0", "--json", *flags],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **environment},
                )
            )
            stack.callback(child.kill)
            return child, json.loads(child.stdout.readline())["address"]

        yield begin


def test_it_serves_until_it_is_told_to_stop_and_loads_no_torch(start):
    child, address = start("--model", "talk")
    body = {"prompt": "The river", "max_tokens": 4}
    answer = httpx.post(f"{address}/v1/completions", json=body, timeout=60).json()
    assert answer["model"] == "talk"
    assert "libtorch" not in Path(f"/proc/{child.pid}/maps").read_text()
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=30)
    assert (out, err) == ("", "")


def test_a_text_that_is_being_written_is_finished_before_it_stops(start):
    child, address = start()
    body = {"prompt": "The river", "max_tokens": 3000, "stream": True, "seed": 1}
    with httpx.stream("POST", f"{address}/v1/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        child.send_signal(signal.SIGINT)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert child.wait(30) in (0, 130)


def test_the_key_may_come_from_the_environment_and_is_shown_nowhere(start):
    child, address = start(CLLM_API_KEY=KEY)
    assert httpx.get(f"{address}/v1/models").status_code == 401
    headers = {"Authorization": f"Bearer {KEY}"}
    assert httpx.get(f"{address}/v1/models", headers=headers).status_code == 200
    child.terminate()
    assert KEY not in "".join(child.communicate(timeout=30))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--host", "0.0.0.0"], "a key is needed"),
        (["--api-key", "short"], "8 ASCII characters"),
        (["--model", "nobody"], "no model named"),
        (["--memory", "much"], "not an amount of memory"),
        (["--port", "70000"], "no port 70000"),
    ],
)
def test_what_can_not_be_served_is_refused(home, flags, said):
    done = subprocess.run(
        [*COMMAND, *flags], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_a_port_that_is_taken_is_said_to_be(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port], check=False, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert "already" in done.stderr
