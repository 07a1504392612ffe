"""Clients that are slow, gone, too many, or send too much; and time that runs out."""

import asyncio
import contextlib
import json
import logging
import re
import socket
import sys
import threading
import time

import httpx
import pytest
from tests.loops import in_a_loop
from tests.server.conftest import LIMITS, Running
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cllm.jobs.serve import address_of, listen, make_server
from cllm.server.access import make_access
from cllm.server.app import create_app

ENDLESS = {"prompt": "The river", "max_tokens": 8000, "logit_bias": {"0": -100}, "stream": True}


def eventually(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def num_running(served):
    return served.service.metrics.running._value.get()


def slow_down(served, seconds=0.01):
    """Let the model write a token at a time, and rest after each."""
    with served.client() as client:
        assert _text(client, 1) is not None
    (model,) = served.service.pool.loaded()
    decoder = model.slots.decoder
    write = decoder.write

    def write_slowly(streams, *, max_seconds, cancelled=None):
        time.sleep(seconds)
        return write(streams, max_seconds=0.0, cancelled=cancelled)

    decoder.write = write_slowly
    return model


def open_raw(served, body, *, path="/v1/completions"):
    """A connection that has asked and reads nothing."""
    place = served.address.removeprefix("http://")
    host, port = place.split(":")
    raw = socket.socket()
    # A small window, so that what is not read is soon not taken either.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.connect((host, int(port)))
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\n"
    raw.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return raw


def test_a_client_that_goes_ends_its_text(bounded):
    served = bounded()
    model = slow_down(served)
    with served.client() as client:
        with client.stream("POST", "/v1/completions", json=ENDLESS) as answer:
            # A generator that nobody holds closes the connection.
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            assert num_running(served) == 1
        eventually(lambda: num_running(served) == 0)
        assert model.num_users == 0
        # It is written no further.
        eventually(lambda: _is_at_rest(model))


def _is_at_rest(model):
    """Whether every slot is free."""
    return all(slot.holder is None for slot in model.slots._slots)


def _text(client, max_tokens):
    body = {"prompt": "The mill", "max_tokens": max_tokens}
    answer = client.post("/v1/completions", json=body)
    return answer.json()["choices"][0]["text"] if answer.status_code == 200 else None


def test_a_client_that_goes_before_its_answer_ends_its_text(bounded):
    served = bounded()
    slow_down(served)
    raw = open_raw(served, ENDLESS | {"stream": False})
    eventually(lambda: num_running(served) == 1)
    raw.close()
    eventually(lambda: num_running(served) == 0)


@pytest.fixture
def complaints():
    """What the server that runs the application complains about."""
    found: list[str] = []

    class Note(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    log, note = logging.getLogger("uvicorn.error"), Note(logging.WARNING)
    log.addHandler(note)
    yield found
    log.removeHandler(note)


def test_a_client_that_reads_nothing_blocks_nobody_and_is_cut_off(bounded, complaints):
    served = bounded(send_s=1.0, most_slots=2)
    body = ENDLESS | {"logprobs": 20}
    stuck = [open_raw(served, body) for _ in range(2)]
    try:
        with served.client() as client:
            eventually(lambda: num_running(served) == 2)
            begun = time.monotonic()
            # The decoder does not wait for them: their texts end, and others have their slots.
            assert _text(client, 5) is not None
            assert time.monotonic() - begun < 60
            eventually(lambda: num_running(served) == 0)
        for raw in stuck:
            # What had been sent may still come, but the connection has ended in the middle.
            assert not _all_that_comes(raw).endswith(b"0\r\n\r\n")
    finally:
        for raw in stuck:
            raw.close()
    assert complaints == []


def _all_that_comes(raw):
    raw.settimeout(30)
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := raw.recv(65536):
            data += part
    return data


def test_an_answer_that_is_never_taken_does_not_keep_its_connection(workspace, complaints):
    app = create_app(workspace, make_access("127.0.0.1", api_key=None), LIMITS)
    server = make_server(app, idle_s=1)
    body = ENDLESS | {"model": "story", "stream": False, "logprobs": 100, "max_tokens": 2000}
    with listen("127.0.0.1", 0) as place:
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            eventually(lambda: server.started)
            raw = open_raw(Running(address_of(place), app.state.service, app.state.access), body)
            eventually(lambda: server.server_state.connections)
            eventually(lambda: not server.server_state.connections)
            head, _, rest = _all_that_comes(raw).partition(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head)[1])
            assert length > 1_000_000
            assert len(rest) < length
            raw.close()
        finally:
            server.should_exit = True
            thread.join(30)
    assert complaints == []


@pytest.fixture(params=["httptools", "h11"])
def hasty(request, workspace, monkeypatch):
    """A server, by either of uvicorn's protocols, whose connections may be idle for a second."""
    protocols = {"httptools": HttpToolsProtocol, "h11": H11Protocol}
    monkeypatch.setattr(auto, "AutoHTTPProtocol", protocols[request.param])
    monkeypatch.delitem(sys.modules, "cllm.server.connection", raising=False)
    app = create_app(
        workspace, make_access("127.0.0.1", api_key=None), LIMITS, default_model="story"
    )
    server = make_server(app, idle_s=1)
    assert issubclass(server.config.http, protocols[request.param])
    with listen("127.0.0.1", 0) as place:
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        try:
            eventually(lambda: server.started)
            yield Running(address_of(place), app.state.service, app.state.access)
        finally:
            server.should_exit = True
            thread.join(30)


def _connect(served):
    host, port = served.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


WHOLE = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _answer(raw):
    """The status of an answer of which the whole has come."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = raw.recv(65536)
        assert part, "the connection has ended"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(body) < length:
        body += raw.recv(65536)
    return int(head.split()[1])


@pytest.mark.parametrize("sent", [b"", b"G", WHOLE[:-2]])
def test_a_connection_on_which_no_request_comes_is_cut(hasty, sent):
    with _connect(hasty) as raw:
        raw.sendall(sent)
        begun = time.monotonic()
        assert _all_that_comes(raw) == b""
        assert time.monotonic() - begun > 0.5


def test_a_head_that_trickles_in_is_cut(hasty):
    with _connect(hasty) as raw, contextlib.suppress(ConnectionError):
        for at in range(len(WHOLE) - 1):
            raw.sendall(WHOLE[at : at + 1])
            time.sleep(0.2)
        pytest.fail("it was waited for")


def test_a_second_request_that_does_not_come_whole_is_cut(hasty):
    with _connect(hasty) as raw:
        raw.sendall(WHOLE)
        assert _answer(raw) == 200
        raw.sendall(WHOLE[:-2])
        assert _all_that_comes(raw) == b""


def test_a_slow_request_and_those_after_it_are_answered(hasty):
    with _connect(hasty) as raw:
        for _ in range(4):
            for part in (WHOLE[:10], WHOLE[10:-2], WHOLE[-2:]):
                time.sleep(0.2)
                raw.sendall(part)
            assert _answer(raw) == 200
        raw.sendall(WHOLE * 3)


def test_what_takes_longer_than_a_head_may_is_not_cut(hasty):
    slow_down(hasty, seconds=0.1)
    with hasty.client() as client:
        body = ENDLESS | {"model": "story", "max_tokens": 30}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            assert list(answer.iter_lines())[-2] == "data: [DONE]"

        def trickle():
            for part in (b'{"model": "story", ', b'"prompt": "x", ', b'"max_tokens": 1', b"}"):
                time.sleep(0.5)
                yield part

        headers = {"Content-Type": "application/json"}
        answer = client.post("/v1/completions", content=trickle(), headers=headers)
        assert answer.status_code == 200


def test_many_stream_at_once_and_each_gets_the_text_that_it_gets_alone(bounded):
    served = bounded(most_slots=4, most_waiting=64)
    body = {"prompt": "The river", "max_tokens": 30}
    with served.client() as client:
        alone = [
            client.post("/v1/completions", json=body | {"seed": seed}).json()["choices"][0]["text"]
            for seed in range(4)
        ]

    async def read(client, seed):
        text = ""
        async with client.stream(
            "POST", "/v1/completions", json=body | {"seed": seed, "stream": True}
        ) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
        return text

    async def all_at_once():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=served.address, timeout=120, limits=limits) as client:
            return await asyncio.gather(*(read(client, number % 4) for number in range(32)))

    assert in_a_loop(all_at_once()) == alone * 8
    assert num_running(served) == 0


def test_one_who_streams_gets_each_token_when_it_comes(bounded):
    served = bounded()
    slow_down(served, seconds=0.05)
    with served.client() as client:
        body = ENDLESS | {"max_tokens": 20, "logprobs": 0}
        with client.stream("POST", "/v1/completions", json=body) as answer:
            pieces = [
                json.loads(line[6:])["choices"][0]
                for line in answer.iter_lines()
                if line.startswith("data: {")
            ]
    tokens = [len(piece["logprobs"]["tokens"]) for piece in pieces]
    assert sum(tokens) == 20
    # A busy machine may bring two at a time.
    assert max(tokens) <= 3
    assert len(pieces) >= 10


def test_too_many_are_asked_to_come_again(bounded):
    served = bounded(most_slots=1, most_waiting=1)
    model = slow_down(served)
    with served.client() as client:
        eventually(lambda: _is_at_rest(model))
        streams = [open_raw(served, ENDLESS)]
        try:
            # One is written before the next one waits.
            eventually(lambda: not _is_at_rest(model))
            streams.append(open_raw(served, ENDLESS))
            eventually(lambda: num_running(served) == 2)
            answer = client.post("/v1/completions", json={"prompt": "x", "n": 2})
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["type"] == "rate_limit_error"
        finally:
            for raw in streams:
                raw.close()
        eventually(lambda: _text(client, 2) is not None)


def test_time_and_tokens_are_bounded(bounded):
    served = bounded(most_seconds=3.0, most_tokens=1_000_000)
    endless = ENDLESS | {"stream": False, "max_tokens": 1_000_000}
    with served.client() as client:
        answer = client.post("/v1/completions", json=endless).json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert 0 < answer["usage"]["completion_tokens"] < 1_000_000
    short = bounded(most_tokens=5)
    with short.client() as client:
        answer = client.post("/v1/completions", json=ENDLESS | {"stream": False}).json()
        assert answer["usage"]["completion_tokens"] == 5


def test_a_stream_that_waits_is_kept_alive(bounded):
    served = bounded(ping_s=0.05, most_slots=1)
    slow_down(served)
    with (
        served.client() as client,
        served.client() as other,
        client.stream("POST", "/v1/completions", json=ENDLESS) as first,
    ):
        held = first.iter_lines()
        assert next(held).startswith("data: ")
        with other.stream("POST", "/v1/completions", json=ENDLESS) as second:
            # It waits for the only slot.
            assert next(second.iter_lines()).startswith(": ping")


def test_large_bodies_are_refused_whether_they_say_so_or_not(bounded):
    served = bounded(body_bytes=10_000)
    body = json.dumps({"prompt": "x" * 20_000}).encode()
    headers = {"Content-Type": "application/json"}
    with served.client() as client:
        answer = client.post("/v1/completions", content=body, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "invalid_request_error"
        pieces = (body[at : at + 1000] for at in range(0, len(body), 1000))
        answer = client.post("/v1/completions", content=pieces, headers=headers)
        assert answer.status_code == 413
        assert _text(client, 1) is not None


def test_a_body_that_never_comes_is_not_waited_for(bounded):
    served = bounded(body_s=0.3)
    place = served.address.removeprefix("http://")
    host, port = place.split(":")
    with socket.create_connection((host, int(port))) as raw:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {place}\r\nContent-Length: 100\r\n\r\n"
        raw.sendall(head.encode() + b'{"prompt"')
        raw.settimeout(30)
        assert raw.recv(65536).split()[1] == b"408"
    idle = [socket.create_connection((host, int(port))) for _ in range(50)]
    try:
        for raw in idle:
            raw.sendall(b"POST /v1/comp")
        with served.client() as client:
            assert _text(client, 1) is not None
    finally:
        for raw in idle:
            raw.close()


def test_what_fails_in_the_middle_is_told_and_the_stream_ends(bounded, monkeypatch):
    served = bounded()
    with served.client() as client:
        _text(client, 1)
        (model,) = served.service.pool.loaded()

        def fail(*_, **__):
            raise MemoryError("no memory at the secret place")

        monkeypatch.setattr(model.slots.decoder, "write", fail, raising=False)
        with client.stream("POST", "/v1/completions", json=ENDLESS) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("data:")]
        assert json.loads(lines[-2][6:])["error"]["type"] == "server_error"
        assert "secret" not in lines[-2]
        assert lines[-1] == "data: [DONE]"
        assert client.post("/v1/completions", json={"prompt": "x"}).status_code == 500
        monkeypatch.undo()
        assert _text(client, 2) is not None
