"""How much, and for how long, a client may send."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cllm.server.errors import error_body
from cllm.server.limits import Limits

# Uploads go to the disk block by block and have bounds of their own.
_UPLOADS = "/api/uploads"


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@final
class BodyGuard:
    """ASGI: refuses bodies that are too large (413) or arrive too slowly (408)."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is within bounds."""
        if scope["type"] != "http" or scope["path"].startswith(_UPLOADS):
            await self._app(scope, receive, send)
            return
        try:
            self._check_length(Headers(scope=scope))
        except _RefusedError as refused:
            await _refuse(refused, scope, receive, send)
            return
        body = _Body(receive, self._limits)
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            # A framework that meets the refusal makes an answer of its own of it.
            if body.refused is None or has_begun:
                has_begun = True
                await send(message)

        with suppress(_RefusedError):
            await self._app(scope, body.receive, send_on)
        if body.refused is not None and not has_begun:
            await _refuse(body.refused, scope, receive, send)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise _RefusedError(400, "Content-Length is not a number")
        if int(length) > self._limits.body_bytes:
            raise _too_large(self._limits)
        if headers.get("content-encoding", "identity") != "identity":
            raise _RefusedError(415, "a body is taken as it is, without Content-Encoding")


class _Body:
    """What arrives, as long as it is within bounds."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self.refused: _RefusedError | None = None
        self._receive, self._limits = receive, limits
        self._num_bytes, self._is_whole = 0, False
        self._deadline = asyncio.get_running_loop().time() + limits.body_s

    async def receive(self) -> Message:
        """The next part."""
        if self._is_whole:
            # What comes now is only that the client has gone.
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.refused = _RefusedError(408, "the request did not arrive in time")
            raise self.refused from None
        self._num_bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._num_bytes > self._limits.body_bytes:
            self.refused = _too_large(self._limits)
            raise self.refused
        return message


def _too_large(limits: Limits) -> _RefusedError:
    return _RefusedError(413, f"more than {limits.body_bytes:,} bytes are not taken")


async def _refuse(refused: _RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    body = error_body(refused.status, refused.message)
    await JSONResponse(body, refused.status, {"Connection": "close"})(scope, receive, send)
