"""Who may ask: one function decides for every route, page and WebSocket."""

from __future__ import annotations

import functools
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from cllm.errors import SettingsError

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LINK_FIELD = "token"
_PAGE = "document"
# Tells nothing but that a server runs.
_OPEN_PATHS = frozenset({"/health"})
# Where whoever knows the `opener` gets a fresh link to an app that runs.
OPENER_PATH = "/app/link"
# Links that were never opened; of more the oldest are forgotten.
_MOST_LINKS = 8

# A name that is not ours, another site, no key or cookie, a link that is used up.
Reason = Literal["name", "site", "key", "link"]


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
    reason: Reason


@dataclass(frozen=True, slots=True)
class Entry:
    """A link of ours was opened: `location` is the same address without its token."""

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
    are the names by which the server may be called. `opener` is a secret of this person's files,
    for getting another link.
    """

    api_key: str | None = field(default=None, repr=False)
    hosts: frozenset[str] = _LOOPBACK_NAMES
    session: str | None = field(default=None, repr=False)
    cookie: str = "cllm"
    opener: str | None = field(default=None, repr=False)
    _links: list[str] = field(default_factory=list, repr=False)

    def new_link(self, address: str) -> str:
        """An address that opens the pages once: its token becomes the cookie."""
        self.session = self.session or secrets.token_urlsafe(32)
        token = secrets.token_urlsafe(32)
        self._links = [*self._links, token][-_MOST_LINKS:]
        return f"{address}?{_LINK_FIELD}={token}"

    def decide(self, asked: Asked) -> Refusal | Entry | None:
        """Refuse, let in through a one-time link, or (None) answer.

        A foreign name in `Host` is a rebound DNS name; a foreign `Origin`, or a browser that
        says that another site asks, is a page that the person did not open here.
        """
        host = asked.headers.get("host", "")
        if not self._is_known(host):
            return Refusal(403, "this server does not answer to that name", "name")
        if _is_foreign(asked, host):
            return Refusal(403, "another site may not ask here", "site")
        if asked.path in _OPEN_PATHS and asked.method in _SAFE_METHODS:
            return None
        if asked.path == OPENER_PATH:
            is_ours = self.opener is not None and _equal(_bearer(asked.headers), self.opener)
            return None if is_ours else Refusal(401, "this needs the secret of a file", "key")
        link = self._link_of(asked)
        if link is not None and link.is_fresh:
            self._links = [one for one in self._links if not _equal(link.token, one)]
            return Entry(link.location)
        if self._has_cookie(asked.headers):
            # A tab that opens a used link again is let in, and keeps no token in its address.
            return None if link is None else Entry(link.location)
        if self._is_authorised(asked.headers):
            return None
        return self._unknown(link)

    def _is_known(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        if name in self.hosts:
            return True
        # No DNS name can be rebound to a bare address; with a key, any of ours will do.
        return self.api_key is not None and _is_address(name) and not self.hosts <= _LOOPBACK_NAMES

    def _link_of(self, asked: Asked) -> _Link | None:
        """The link that was opened, if one was, be it used up."""
        if asked.method != "GET" or asked.is_websocket or self.session is None:
            return None
        fields = parse_qsl(asked.query, keep_blank_values=True)
        given = next((value for name, value in fields if name == _LINK_FIELD), None)
        if given is None:
            return None
        rest = urlencode([(name, value) for name, value in fields if name != _LINK_FIELD])
        # Never "//name", which a browser takes for another host.
        path = quote("/" + asked.path.lstrip("/\\"))
        is_fresh = any(_equal(given, link) for link in self._links)
        return _Link(given, f"{path}?{rest}" if rest else path, is_fresh)

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        if self.session is None:
            return False
        # Other servers of this machine share our jar, and what they put there may be malformed.
        pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        shown = [value for name, _, value in pairs if name == self.cookie]
        return any(_equal(value, self.session) for value in shown)

    def _is_authorised(self, headers: Mapping[str, str]) -> bool:
        if self.api_key is None:
            return self.session is None
        return _equal(_bearer(headers), self.api_key)

    def _unknown(self, link: _Link | None) -> Refusal:
        if link is not None:
            return Refusal(401, "this link has been opened before, and opens only once", "link")
        if self.api_key is None:
            message = "open the address that `cllm app` says: it lets one browser in"
            return Refusal(401, message, "key")
        return Refusal(401, "a valid API key is needed: Authorization: Bearer …", "key")


@dataclass(frozen=True, slots=True)
class _Link:
    token: str = field(repr=False)
    location: str
    is_fresh: bool


def make_access(host: str, *, api_key: str | None, names: tuple[str, ...] = ()) -> Access:
    """The rules for a server at an address; `names` are more by which it may be called.

    Raises: SettingsError where others could reach it without a key.
    """
    if api_key is not None and (len(api_key) < 8 or not api_key.isascii()):
        message = "a key of at least 8 ASCII characters is needed"
        raise SettingsError(message, where="--api-key", hint="A long random one is best.")
    hosts = _LOOPBACK_NAMES | {_canonical(name) for name in (host, *names)}
    if not is_loopback(host) and api_key is None:
        raise SettingsError(
            "other machines could reach this address, so a key is needed",
            where="--host",
            hint="Give --api-key (or CLLM_API_KEY), or leave --host out.",
        )
    return Access(api_key=api_key, hosts=frozenset(hosts))


# A client calls the server by one name all the time.
@functools.lru_cache(maxsize=64)
def _host_name(host: str) -> str | None:
    """The name in a `Host` header, without its port; None if it is malformed."""
    try:
        found = urlsplit(f"//{host}")
        _ = found.port
    except ValueError:
        return None
    if found.username is not None or found.path or found.query or found.fragment:
        return None
    return None if found.hostname is None else _canonical(found.hostname)


def _canonical(name: str) -> str:
    """A name or address as it is compared: ::1 may be written in several ways."""
    name = name.strip("[]").lower()
    return str(ipaddress.ip_address(name)) if _is_address(name) else name


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
    # A link on another page may be followed, but it shows nothing of ours inside itself.
    is_link = asked.headers.get("sec-fetch-mode") == "navigate"
    return changes or not is_link or asked.headers.get("sec-fetch-dest", _PAGE) != _PAGE


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else ""


def _equal(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "replace"), other.encode())
