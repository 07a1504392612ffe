"""Serve models over HTTP until told to stop."""

from __future__ import annotations

import errno
import gc
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cllm.errors import InputError, SettingsError
from cllm.jobs.models import model_path
from cllm.jobs.opening import DEFAULT, Decoding
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

# So long may texts still be written after a request to stop.
_GRACE_S = 10
_IDLE_S = 30
_TURN_S = 0.0005
_GC_THRESHOLDS = (10_000, 20, 20)


@dataclass(frozen=True, slots=True)
class Serving:
    """Where, and for whom: `names` are more names by which the server may be called.

    `memory_bytes` is for all open models: half of this machine's unless given.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    model: str | None = None
    names: tuple[str, ...] = ()
    memory_bytes: int | None = None


def serve(
    workspace: Workspace,
    serving: Serving,
    *,
    decoding: Decoding = DEFAULT,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until a signal to stop; `on_ready` gets the address.

    Raises: SettingsError, NotFoundError, InputError where the port is taken.
    """
    from cllm.server.access import make_access
    from cllm.server.app import create_app
    from cllm.server.limits import default_limits

    access = make_access(serving.host, api_key=serving.api_key, names=serving.names)
    if serving.model is not None:
        model_path(workspace, serving.model)
    limits = default_limits(serving.memory_bytes)
    app = create_app(workspace, access, limits, default_model=serving.model, decoding=decoding)
    with listen(serving.host, serving.port) as place:
        if on_ready is not None:
            on_ready(address_of(place))
        make_server(app).run([place])


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises: InputError, SettingsError."""
    host = host.strip("[]")
    if not 0 <= port < 65536:
        raise SettingsError(f"there is no port {port}", where="--port")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = "Choose another with --port; 0 takes any that is free."
            message = f"something listens on port {port} already"
            raise InputError(message, where="--port", hint=hint) from error
        message = f"{host}:{port} can't be used ({error.strerror})"
        raise InputError(message, where="--host") from error


def address_of(place: socket.socket) -> str:
    """The address of a socket, as a browser takes it."""
    host, port = place.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: FastAPI, *, idle_s: int = _IDLE_S) -> uvicorn.Server:
    """What runs an application; no line of its log holds an address or a header.

    `idle_s`: so long may a connection be kept on which nothing is asked or taken.
    """
    import uvicorn

    from cllm.server.connection import Connection

    _settle()
    config = uvicorn.Config(
        app,
        http=Connection,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=idle_s,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return uvicorn.Server(config)


def _settle() -> None:
    """Ready this process for many short requests."""
    # The thread that writes texts and the one that sends them take turns in Python; where each
    # may hold on for the usual 5 ms, the cores wait for them.
    sys.setswitchinterval(_TURN_S)
    # What is here by now stays: not to be looked through again and again for what is unused.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
