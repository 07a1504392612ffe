"""The app that runs on a home: found by a second start, so that no second server is begun."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final
from urllib.parse import urlsplit

from cllm.files import write_atomic
from cllm.processes import is_alive, this_process
from cllm.workspace.workspace import Workspace

_FILE = "app.json"
_PATIENCE_S = 5.0


@final
@dataclass(frozen=True, slots=True)
class RunningApp:
    """An app's address, the secret that gets a link to it, and its process."""

    address: str
    opener: str
    pid: int
    started: float

    def is_alive(self) -> bool:
        """Whether the very process is there, not another that got its number."""
        return is_alive(self.pid, self.started)

    def link(self, path: str, *, model: str | None = None) -> str | None:
        """Ask it at `path` for a fresh link, and to use a model; None where it does not answer."""
        place = urlsplit(self.address)
        body = json.dumps({"model": model})
        headers = {"Authorization": f"Bearer {self.opener}", "Content-Type": "application/json"}
        try:
            asked = http.client.HTTPConnection(
                place.hostname or "", place.port, timeout=_PATIENCE_S
            )
            with contextlib.closing(asked):
                asked.request("POST", path, body, headers)
                answer = asked.getresponse()
                told = json.loads(answer.read(65_536))
            link = told["address"] if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return None
        return link if isinstance(link, str) and link.startswith(self.address) else None


@contextlib.contextmanager
def noted(workspace: Workspace, address: str, opener: str) -> Iterator[None]:
    """Let others find this process' app while the block lasts.

    What it takes to open it lies in a file that only its owner reads. Raises: StorageError.
    """
    path = workspace.home / _FILE
    app = RunningApp(address, opener, *this_process())
    write_atomic(path, json.dumps({"version": 1, **asdict(app)}), is_private=True)
    try:
        yield
    finally:
        # Another may have been started beside this one since.
        if _read(path) == app:
            path.unlink(missing_ok=True)


def running_app(workspace: Workspace) -> RunningApp | None:
    """The app that runs on this home, if one does."""
    found = _read(workspace.home / _FILE)
    return found if found is not None and found.is_alive() else None


def _read(path: Path) -> RunningApp | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return RunningApp(
            str(told["address"]), str(told["opener"]), int(told["pid"]), float(told["started"])
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
