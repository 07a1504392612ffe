"""A real server on this machine's own address, over a home with small models."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.random_models import random_weights, small_spec

from cllm.files import write_json
from cllm.jobs.serve import address_of, listen, make_server
from cllm.model import save_model
from cllm.server.access import Access, make_access
from cllm.server.app import create_app
from cllm.server.limits import Limits
from cllm.server.texts import Service
from cllm.text.dialogue import detect_dialogue
from cllm.text.tokenizers import train_tokenizer
from cllm.workspace.workspace import Workspace

TEXT = "The river ran past the old mill, and the mill stood still beside the river.\n" * 20
DIALOGUE = (
    "Anna: How is the mill?\nBert: It stands.\n\nAnna: And the river?\nBert: It runs.\n\n" * 200
)
# What a client may write where a name stands.
NAMES = [
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fcllm.db",
    "..%5c..%5cx",
    "%00",
    "story%00",
    "story%2f..%2fstory",
    "%2fetc%2fpasswd",
    "%c0%ae%c0%ae",
    "%e2%80%ae",
    "st%C3%B6ry",
    "%EF%BC%8E%EF%BC%8E",
    "~",
    ".hidden",
    "con",
    "a" * 5000,
    "%f0%9f%90%8d" * 400,
]
LIMITS = Limits(memory_bytes=1 << 28, most_slots=4, most_waiting=8)


@dataclass(frozen=True)
class Running:
    """A server that runs in a thread of this process."""

    address: str
    service: Service
    access: Access

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=60, **more)


def make_model(workspace: Workspace, name: str, *, context: int = 96, seed: int = 0) -> Path:
    """A model with random weights whose tokens are pieces of `TEXT`."""
    tokenizer = train_tokenizer(
        "bpe", lambda: iter([TEXT]), vocab_size=290, num_characters=len(TEXT), progress=None
    )
    spec = small_spec(tokenizer.vocab_size, context=context)
    dialogue = detect_dialogue(iter([DIALOGUE])) if name == "talk" else None
    with workspace.models.write(name) as folder:
        save_model(folder, spec, random_weights(spec, seed))
        tokenizer.save(folder, context=spec.context)
        write_json(folder / "training.json", {"dialogue": dialogue.to_json() if dialogue else None})
    return workspace.models.path(name)


def ask_raw(address, request):
    """What comes back for the very bytes of a request."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(request)
        return b"".join(iter(lambda: raw.recv(65536), b""))


@contextlib.contextmanager
def running(
    workspace: Workspace, *, limits: Limits = LIMITS, access: Access | None = None, **more: Any
) -> Iterator[Running]:
    """Serve a workspace while the block lasts."""
    access = access or make_access("127.0.0.1", api_key=None)
    app = create_app(workspace, access, limits, **more)
    with listen("127.0.0.1", 0) as place:
        server = make_server(app)
        thread = threading.Thread(target=server.run, args=([place],))
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield Running(address_of(place), app.state.service, access)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A home with `story`, which knows no dialogue, and `talk`, which does."""
    made = Workspace(tmp_path_factory.mktemp("served"))
    make_model(made, "story")
    make_model(made, "talk", seed=1)
    return made


@pytest.fixture(scope="session")
def served(workspace: Workspace) -> Iterator[Running]:
    """A server for everyone on this machine, whose default model is `story`."""
    with running(workspace, default_model="story") as found:
        yield found


@pytest.fixture
def client(served: Running) -> Iterator[httpx.Client]:
    with served.client() as found:
        yield found


@pytest.fixture
def bounded(workspace: Workspace):
    """Make a server with other bounds: `bounded(most_waiting=0)`."""
    with contextlib.ExitStack() as stack:

        def make(**bounds: Any) -> Running:
            access = bounds.pop("access", None)
            limits = replace(LIMITS, **bounds)
            return stack.enter_context(
                running(workspace, limits=limits, access=access, default_model="story")
            )

        yield make
