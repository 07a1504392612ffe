"""Run the browser app: the API and the pages in one process, on this machine alone."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING

from cllm.errors import CllmError, InputError
from cllm.jobs.model_service import note_used
from cllm.jobs.running_app import noted, running_app
from cllm.jobs.serve import address_of, listen, make_server
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    import socket

    import uvicorn

HOST = "127.0.0.1"
PORT = 8642
# A port that is taken is passed over so many times before any free one is used.
_TRIES = 10

OnReady = Callable[[str], None]


def open_running(
    workspace: Workspace,
    *,
    port: int | None = None,
    model: str | None = None,
    opens_browser: bool = True,
    on_ready: OnReady | None = None,
) -> bool:
    """Open the app that runs on this home, where one does; `on_ready` gets a fresh address.

    `port`: only one that listens there. Raises: NotFoundError for `model`.
    """
    from cllm.server.access import OPENER_PATH

    if model is not None:
        workspace.models.path(model)
    found = running_app(workspace)
    if found is None or (port is not None and not found.address.endswith(f":{port}/")):
        return False
    address = found.link(OPENER_PATH, model=model)
    if address is None:
        return False
    if on_ready is not None:
        on_ready(address)
    if opens_browser:
        webbrowser.open(address)
    return True


def run_app(
    workspace: Workspace,
    *,
    port: int | None = None,
    model: str | None = None,
    opens_browser: bool = True,
    on_ready: OnReady | None = None,
) -> None:
    """Serve until told to stop; `on_ready` gets the address, which opens the app once.

    The address holds a token that becomes the browser's cookie: nobody else on this machine
    gets in. `port`: exactly this one; None takes 8642 or the next that is free. Trainings go on
    when the app ends. Raises: SettingsError, InputError for a port that is taken,
    NotFoundError for `model`.
    """
    from cllm.server.access import make_access
    from cllm.server.app import create_app
    from cllm.server.limits import default_limits
    from cllm.server.opener import add_opener
    from cllm.web.app import mount_pages
    from cllm.web.state import app_state

    if model is not None:
        note_used(workspace, model)
    with _listen(port) as place:
        address = address_of(place) + "/"
        access = make_access(HOST, api_key=None)
        # Browsers keep cookies by host alone: two apps on two homes would take them for one.
        access.cookie = f"cllm-{place.getsockname()[1]}"
        access.opener = secrets.token_urlsafe(32)
        api = create_app(workspace, access, default_limits())
        add_opener(api, access, address, lambda name: _in_background(app_state().use, name))
        mount_pages(api, workspace)
        link = access.new_link(address)
        server = make_server(api)

        def tell() -> None:
            if on_ready is not None:
                on_ready(link)
            if opens_browser:
                webbrowser.open(link)

        threading.Thread(target=_when_started, args=(server, tell), daemon=True).start()
        with noted(workspace, address, access.opener):
            server.run([place])


def _in_background(act: Callable[[str], None], name: str) -> None:
    def quietly() -> None:
        # The header says what is wrong with a model.
        with contextlib.suppress(CllmError):
            act(name)

    threading.Thread(target=quietly, daemon=True).start()


def _listen(port: int | None) -> socket.socket:
    if port is not None:
        return listen(HOST, port)
    for number in range(PORT, PORT + _TRIES):
        try:
            return listen(HOST, number)
        except InputError:
            continue
    return listen(HOST, 0)


def _when_started(server: uvicorn.Server, act: Callable[[], None]) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.02)
    act()
