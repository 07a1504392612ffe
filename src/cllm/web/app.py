"""The browser app: its pages on the server's FastAPI app, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from cllm.files import storage_errors, temporary_path, write_atomic
from cllm.workspace.workspace import Workspace

if TYPE_CHECKING:
    from fastapi import FastAPI

# Each registers its pages when it is imported.
PAGES = (
    "first_page",
    "models_page",
    "training_page",
    "chat_page",
    "write_page",
    "inside_page",
    "benchmarks_page",
)
# What lies below is asked for by programs, whatever they take.
_OF_PROGRAMS = ("/v1/", "/api/", "/_nicegui", "/static/")


def mount_pages(api: FastAPI, workspace: Workspace) -> None:
    """Put the pages on the server's app, at `/`; the model used last is loaded at the start.

    Once a process. Raises: StorageError.
    """
    # What the toolkit keeps of a browser's visit; it reads this when it is imported.
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(workspace.home / "browser"))
    from nicegui import ui

    from cllm.web.state import AppState, set_state
    from cllm.web.theme import serve_static
    from cllm.web.writers import Writers

    writers = Writers(workspace, api.state.service.pool)
    state = AppState(workspace, writers)
    set_state(state)
    serve_static()
    for name in PAGES:
        importlib.import_module(f"cllm.web.{name}")
    _load_first(api, state.begin, writers.close)
    _answer_unknown()
    ui.run_with(
        api,
        title="cllm",
        favicon=_ICON,
        dark=None,
        tailwind=False,
        reconnect_timeout=20.0,
        storage_secret=storage_secret(workspace),
        show_welcome_message=False,
        session_middleware_kwargs={"same_site": "strict", "session_cookie": "cllm-session"},
    )


def _answer_unknown() -> None:
    """Say on a page of ours, not the toolkit's, that nothing is at an address."""
    from fastapi import Request
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from nicegui import app as pages

    from cllm.server.errors import error_body
    from cllm.server.refusal_page import POLICY, cookie_theme, unknown_page

    async def on_unknown(request: Request, _: Exception) -> Response:
        is_person = "text/html" in request.headers.get("accept", "")
        if not is_person or request.url.path.startswith(_OF_PROGRAMS):
            return JSONResponse(error_body(404, "nothing is at this address"), 404)
        page = unknown_page(theme=cookie_theme(request.cookies))
        return HTMLResponse(page, 404, {"Content-Security-Policy": POLICY})

    pages.add_exception_handler(404, on_unknown)


def storage_secret(workspace: Workspace) -> str:
    """The key that signs the pages' cookies: made once, in a file that only its owner reads.

    Raises: StorageError.
    """
    path = workspace.home / "browser.key"
    with storage_errors(path):
        if path.exists():
            if known := path.read_text(encoding="ascii"):
                return known
            # Without a key nothing is signed.
            path.unlink(missing_ok=True)
        made = temporary_path(path)
        write_atomic(made, secrets.token_urlsafe(32), is_private=True)
        try:
            # Of several apps that start at once, all take the first one's.
            os.link(made, path)
        except FileExistsError:
            pass
        except OSError:
            # A disk that knows no links.
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
        return path.read_text(encoding="ascii")


def _load_first(api: FastAPI, load: Callable[[], None], close: Callable[[], None]) -> None:
    """Load at the start, in a thread so that pages are served at once, and close at the end."""
    inner = api.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        threading.Thread(target=load, name="cllm-first-model", daemon=True).start()
        async with inner(app) as told:
            yield told
        await asyncio.to_thread(close)

    api.router.lifespan_context = lifespan


_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
    '<rect width="64" height="64" rx="14" fill="#0c1020"/>'
    '<path d="M11 47A32 32 0 0 1 43 15A19.8 19.8 0 0 1 54 34.8A12.2 12.2 0 0 1 41.8 47'
    'A7.5 7.5 0 0 1 34.3 39.5A4.6 4.6 0 0 1 38.9 34.9" fill="none" stroke="#e08a3c" '
    'stroke-width="4" stroke-linecap="round"/></svg>'
)
