"""HEAD: what GET would answer, without its body."""

from __future__ import annotations

from typing import final

from starlette.types import ASGIApp, Receive, Scope, Send

# A stream would have no end, and nobody who takes what it says.
_ENDLESS = "/events"


@final
class HeadRequests:
    """ASGI: lets GET's routes answer HEAD; the server itself leaves their bodies out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if is_head and not scope["path"].endswith(_ENDLESS):
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
