"""Server-sent events: to clients that may be slow, or gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cllm.server.errors import describe
from cllm.server.limits import Limits

DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


def event(value: object, *, name: str | None = None) -> bytes:
    """A value as one event."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"data: " + data + b"\n\n" if name is None else _named(name, data)


def _named(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


@final
class EventStream(Response):
    """Sends events as they come, and a comment where none came for a while.

    A client that leaves, or takes nothing for `send_s`, ends the events; `close` is called in
    any case. An error in the middle becomes an event, and `[DONE]` follows it.
    """

    def __init__(
        self, events: AsyncIterator[bytes], *, close: Callable[[], None], limits: Limits
    ) -> None:
        super().__init__()
        self.media_type = "text/event-stream"
        self._events, self._close, self._limits = events, close, limits
        self._is_sending = asyncio.Lock()

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        tasks = [
            asyncio.create_task(self._send_all(send)),
            asyncio.create_task(_until_gone(receive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
        await send(start)
        pinging = asyncio.create_task(self._ping(send))
        # A client that takes nothing: give up without a word to it.
        with suppress(TimeoutError):
            try:
                try:
                    async for data in self._events:
                        await self._send(send, data)
                except TimeoutError:
                    raise
                except Exception as error:
                    await self._send(send, event(describe(error)[1]) + DONE)
            finally:
                pinging.cancel()
            await self._send(send, b"", more=False)

    async def _ping(self, send: Send) -> None:
        with suppress(TimeoutError):
            while True:
                await asyncio.sleep(self._limits.ping_s)
                await self._send(send, _PING)

    async def _send(self, send: Send, data: bytes, *, more: bool = True) -> None:
        async with self._is_sending, asyncio.timeout(self._limits.send_s):
            await send({"type": "http.response.body", "body": data, "more_body": more})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
