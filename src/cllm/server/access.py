"""Who may ask: one function decides for every route, page and WebSocket."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cllm.errors import SettingsError
from cllm.server.errors import error_body

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LINK_FIELD = "token"
# Tells nothing but that a server runs.
_OPEN_PATHS = frozenset({"/health"})


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A one-time link was opened: `location` is the same address without its token."""

    location: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    is_websocket: bool = False


@final
@dataclass(slots=True, eq=False)
class Access:
    """The rules of one server, and its secrets.

    Without `api_key` and `session` everyone on this machine may ask; with either, a client
    shows the key (`Authorization: Bearer`) or the cookie that a one-time link gave it. `hosts`
    are the names by which the server may be called.
    """

    api_key: str | None = field(default=None, repr=False)
    hosts: frozenset[str] = _LOOPBACK_NAMES
    session: str | None = field(default=None, repr=False)
    cookie: str = "cllm"
    _links: set[str] = field(default_factory=set, repr=False)

    def new_link(self, address: str) -> str:
        """An address that opens the pages once: its token becomes the cookie."""
        self.session = self.session or secrets.token_urlsafe(32)
        token = secrets.token_urlsafe(32)
        self._links.add(token)
        return f"{address}?{_LINK_FIELD}={token}"

    def decide(self, asked: Asked) -> Refusal | Entry | None:
        """Refuse, let in through a one-time link, or (None) answer.

        A foreign name in `Host` is a rebound DNS name; a foreign `Origin`, or a browser that
        says that another site asks, is a page that the person did not open here.
        """
        host = asked.headers.get("host", "")
        if not self._is_known(host):
            return Refusal(403, "this server does not answer to that name")
        if _is_foreign(asked, host):
            return Refusal(403, "another site may not ask here")
        if asked.path in _OPEN_PATHS and asked.method in _SAFE_METHODS:
            return None
        if (entry := self._enter(asked)) is not None:
            return entry
        if self._is_authorised(asked.headers):
            return None
        return Refusal(401, "a valid API key is needed: Authorization: Bearer …")

    def _is_known(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        if name in self.hosts:
            return True
        # No DNS name can be rebound to a bare address; with a key, any of ours will do.
        return self.api_key is not None and _is_address(name) and not self.hosts <= _LOOPBACK_NAMES

    def _enter(self, asked: Asked) -> Entry | None:
        if asked.method != "GET" or asked.is_websocket or not self._links:
            return None
        fields = parse_qsl(asked.query, keep_blank_values=True)
        given = next((value for name, value in fields if name == _LINK_FIELD), "")
        found = next((link for link in self._links if _equal(given, link)), None)
        if found is None:
            return None
        self._links.discard(found)
        rest = urlencode([(name, value) for name, value in fields if name != _LINK_FIELD])
        # Never "//name", which a browser takes for another host.
        path = quote("/" + asked.path.lstrip("/\\"))
        return Entry(f"{path}?{rest}" if rest else path)

    def _is_authorised(self, headers: Mapping[str, str]) -> bool:
        if self.api_key is None and self.session is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if self.api_key and kind.lower() == "bearer" and _equal(given.strip(), self.api_key):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        shown = cookies.get(self.cookie)
        return self.session is not None and shown is not None and _equal(shown.value, self.session)


def make_access(host: str, *, api_key: str | None, names: tuple[str, ...] = ()) -> Access:
    """The rules for a server at an address; `names` are more by which it may be called.

    Raises: SettingsError where others could reach it without a key.
    """
    if api_key is not None and (len(api_key) < 8 or not api_key.isascii()):
        message = "a key of at least 8 ASCII characters is needed"
        raise SettingsError(message, where="--api-key", hint="A long random one is best.")
    hosts = _LOOPBACK_NAMES | {name.lower() for name in names}
    if not is_loopback(host):
        if api_key is None:
            raise SettingsError(
                "other machines could reach this address, so a key is needed",
                where="--host",
                hint="Give --api-key (or CLLM_API_KEY), or leave --host out.",
            )
        hosts |= {host.strip("[]").lower()}
    return Access(api_key=api_key, hosts=frozenset(hosts))


def _host_name(host: str) -> str | None:
    """The name in a `Host` header, without its port; None if it is malformed."""
    try:
        found = urlsplit(f"//{host}")
        _ = found.port
    except ValueError:
        return None
    if found.username is not None or found.path or found.query or found.fragment:
        return None
    return found.hostname


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_foreign(asked: Asked, host: str) -> bool:
    """Whether a browser asks for a page of another origin."""
    changes = asked.method not in _SAFE_METHODS or asked.is_websocket
    origin = asked.headers.get("origin")
    if changes and origin is not None:
        scheme, _, place = origin.partition("://")
        if scheme not in ("http", "https") or place.lower() != host.lower():
            return True
    site = asked.headers.get("sec-fetch-site", "none")
    if site in ("none", "same-origin"):
        return False
    # A link on another page may be followed, but nothing else of it reaches us.
    return changes or asked.headers.get("sec-fetch-mode") != "navigate"


def _equal(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "replace"), other.encode())


@final
class AccessGuard:
    """ASGI: asks `Access.decide` before anything else sees a request or WebSocket."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, let in, or pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_websocket = scope["type"] == "websocket"
        verdict = self._access.decide(
            Asked(
                method=scope.get("method", "GET"),
                path=scope["path"],
                query=scope["query_string"].decode("latin-1"),
                headers=Headers(scope=scope),
                is_websocket=is_websocket,
            )
        )
        if verdict is None:
            await self._app(scope, receive, send)
        elif is_websocket:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif isinstance(verdict, Entry):
            response = RedirectResponse(verdict.location, 303, {"Cache-Control": "no-store"})
            session = self._access.session
            assert session is not None, "a link makes one"
            response.set_cookie(self._access.cookie, session, httponly=True, samesite="strict")
            await response(scope, receive, send)
        else:
            headers = {"WWW-Authenticate": "Bearer"} if verdict.status == 401 else None
            body = error_body(verdict.status, verdict.message)
            await JSONResponse(body, verdict.status, headers)(scope, receive, send)
