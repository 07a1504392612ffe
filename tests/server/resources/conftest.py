"""The whole application on the loopback, over a fresh home."""

import pytest
from tests.server.conftest import running

from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(home):
    return Workspace(home)


@pytest.fixture
def client(workspace):
    with running(workspace) as served, served.client(trust_env=False) as made:
        yield made
