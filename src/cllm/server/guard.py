"""The door of the server: asks `Access.decide` before anything else sees a request or WebSocket."""

from __future__ import annotations

from typing import final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cllm.server.access import Access, Asked, Entry, Refusal
from cllm.server.errors import error_body
from cllm.server.refusal_page import POLICY, cookie_theme, refusal_page

# A page of another origin, and be it of this machine, neither frames nor embeds what is ours;
# nothing is taken for another type than it says, and no other site hears of our addresses.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}


@final
class AccessGuard:
    """ASGI: answers, lets in, or passes on; every answer carries what browsers should know."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, let in, or pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        verdict = self._decide(scope, headers)
        if scope["type"] == "websocket":
            if verdict is None:
                await self._app(scope, receive, send)
            else:
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    told.setdefault(name, value)
            await send(message)

        if verdict is None:
            await self._app(scope, receive, send_on)
        elif isinstance(verdict, Entry):
            await self._let_in(verdict)(scope, receive, send_on)
        else:
            await self._refuse(verdict, scope, headers)(scope, receive, send_on)

    def _decide(self, scope: Scope, headers: Headers) -> Refusal | Entry | None:
        # Of two names one could be ours and the other believed elsewhere.
        if len(headers.getlist("host")) > 1:
            return Refusal(403, "a request has one host", "name")
        return self._access.decide(
            Asked(
                method=scope.get("method", "GET"),
                path=scope["path"],
                query=scope["query_string"].decode("latin-1"),
                headers=headers,
                is_websocket=scope["type"] == "websocket",
            )
        )

    def _let_in(self, entry: Entry) -> Response:
        session = self._access.session
        assert session is not None, "a link makes one"
        response = RedirectResponse(entry.location, 303, {"Cache-Control": "no-store"})
        response.set_cookie(
            self._access.cookie, session, path="/", httponly=True, samesite="strict"
        )
        return response

    def _refuse(self, refusal: Refusal, scope: Scope, headers: Headers) -> Response:
        """A page for a person, JSON for a program."""
        told = {"Cache-Control": "no-store"}
        if refusal.status == 401:
            told["WWW-Authenticate"] = "Bearer"
        is_person = scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept", "")
        if not is_person:
            return JSONResponse(error_body(refusal.status, refusal.message), refusal.status, told)
        theme = cookie_theme(cookie_parser(headers.get("cookie", "")))
        told["Content-Security-Policy"] = POLICY
        page = refusal_page(refusal, theme=theme, is_app=self._access.session is not None)
        return HTMLResponse(page, refusal.status, told)
