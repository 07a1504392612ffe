"""Server-sent events: to clients that may be slow, or gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast, final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cllm.server.errors import ClientLeftError, describe
from cllm.server.limits import Limits

DONE = b"data: [DONE]\n\n"
# For the description of the API: a route may answer with a stream of such events.
_EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}}
}
_PING = b": ping\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _json(value: object) -> bytes:
    return _encode(value).encode("utf-8", "replace")


def event(value: object, *, name: str | None = None) -> bytes:
    """A value as one event."""
    data = b"data: " + _json(value) + b"\n\n"
    return data if name is None else b"event: " + name.encode() + b"\n" + data


@final
class Chunks:
    """Events of one stream in OpenAI's form, which differ in their choice alone."""

    def __init__(self, head: Mapping[str, object], more: Mapping[str, object]) -> None:
        self._before = b"data: " + _json(head)[:-1] + b',"choices":['
        rest = b"," + _json(more)[1:-1] if more else b""
        self._after = b"]" + rest + b"}\n\n"

    def of(self, choice: object) -> bytes:
        """The event with one choice."""
        return self._before + _json(choice) + self._after


@final
class EventStream(Response):
    """Sends events as they come, and a comment where none came for a while.

    `close` is called when it ends, and as soon as the client has gone; then the events must
    end too. The connection to a client that takes nothing for `send_s` is cut. An error in the
    middle becomes an event, and `[DONE]` follows it. What ends in `DONE` is the last.
    """

    def __init__(
        self, events: AsyncIterator[bytes], *, close: Callable[[], None], limits: Limits
    ) -> None:
        super().__init__()
        self.media_type = "text/event-stream"
        self._events, self._close, self._limits = events, close, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        async with watching(receive, self._close):
            line = _Line(send, self._limits, cut_of(scope))
            try:
                await line.begin()
                await self._send_all(line)
            finally:
                line.close()
                self._close()

    async def _send_all(self, line: _Line) -> None:
        is_over = False
        try:
            async for data in self._events:
                is_over = data.endswith(DONE)
                if data:
                    await line.send(data, more=not is_over)
        except Exception as error:
            if is_over:
                raise
            await line.send(event(describe(error)[1]) + DONE, more=False)
            return
        if not is_over:
            await line.send(b"", more=False)


@final
class _Line:
    """Sends to one client, pings it, and cuts it off where it takes nothing."""

    def __init__(self, send: Send, limits: Limits, cut: Callable[[], None]) -> None:
        self._send, self._limits, self._cut = send, limits, cut
        self._loop = asyncio.get_running_loop()
        self._is_sending = asyncio.Lock()
        # When the last thing was given to the client, and since when it has not been taken.
        self._sent_at, self._since = self._loop.time(), 0.0
        self._pinging: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(min(limits.ping_s, limits.send_s), self._look)

    async def begin(self) -> None:
        """The head of the answer."""
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})

    async def send(self, data: bytes, *, more: bool) -> None:
        """Some of the body; returns when there is room for more."""
        async with self._is_sending:
            self._since = self._loop.time()
            try:
                await self._send({"type": "http.response.body", "body": data, "more_body": more})
            finally:
                self._sent_at, self._since = self._since, 0.0

    def close(self) -> None:
        """There is nothing more to send."""
        self._timer.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    def _look(self) -> None:
        now, limits = self._loop.time(), self._limits
        if self._since:
            left = self._since + limits.send_s - now
            if left <= 0:
                self._cut()
                return
        else:
            left = min(self._sent_at + limits.ping_s - now, limits.send_s)
            if left <= 0:
                self._pinging = self._loop.create_task(self.send(_PING, more=True))
                left = min(limits.ping_s, limits.send_s)
        self._timer = self._loop.call_later(left, self._look)


def cut_of(scope: Scope) -> Callable[[], None]:
    """What ends the connection of a request at once, whatever is not sent yet."""
    cut = scope.get("state", {}).get("cut")
    if callable(cut):
        return cast("Callable[[], None]", cut)
    task = asyncio.current_task()
    assert task is not None

    def give_up() -> None:
        task.cancel()

    return give_up


async def until_gone(receive: Receive) -> None:
    """Until the client has left, or has its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def watching(
    receive: Receive, on_gone: Callable[[], None] = lambda: None
) -> AsyncIterator[Callable[[], None]]:
    """Watch for the client while the block runs: `on_gone` is called as soon as it has left.

    Gives what raises ClientLeftError from then on.
    """

    async def wait() -> None:
        await until_gone(receive)
        on_gone()

    def check() -> None:
        if leaving.done():
            raise ClientLeftError

    leaving = asyncio.create_task(wait())
    try:
        yield check
    finally:
        leaving.cancel()
