"""`cllm runs` over runs in every state."""

import json
from pathlib import Path

import pytest

from cllm.cli.main import run
from cllm.workspace.workspace import Workspace


def test_a_paused_run_says_so_and_who_resumes_it(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    runs = Workspace(home).runs
    # This very process is the one at work on it.
    record = runs.create("tales", {})
    runs.update(record.id, state="paused", steps=12)
    assert run(["runs", "list"]) == 0
    shown = capfd.readouterr().out
    [line] = [line for line in shown.splitlines() if record.id in line]
    assert line.split()[1:4] == ["tales", "paused", "12"]
    assert "The training of tales is paused" in shown
    assert "cllm runs resume" not in shown
    assert run(["runs", "list", "--json"]) == 0
    [told] = json.loads(capfd.readouterr().out)
    assert told["state"] == "paused"
    runs.update(record.id, state="interrupted")
    assert run(["runs", "list"]) == 0
    shown = capfd.readouterr().out
    assert "is paused" not in shown
    assert f"cllm runs resume {record.id}" in shown
