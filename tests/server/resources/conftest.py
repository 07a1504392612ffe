"""The routes below /api in a real server on the loopback, without the rest of the application."""

import socket
import threading
import time

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from cllm.server.errors import add_error_answers
from cllm.server.resources import ROUTERS
from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(home):
    return Workspace(home)


@pytest.fixture
def client(workspace):
    app = FastAPI()
    app.state.workspace = workspace
    add_error_answers(app)
    for router in ROUTERS:
        app.include_router(router)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as made:
        yield made
    server.should_exit = True
    thread.join()
