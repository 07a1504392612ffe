"""`cllm models trash` and `restore`: what was deleted, brought back or removed for good."""

import json
from pathlib import Path

import pytest

from cllm.cli.main import run
from cllm.cli.output import Output
from cllm.files import write_folder, write_json
from cllm.jobs.model_service import delete_model
from cllm.workspace.workspace import Workspace


def delete_one(workspace: Workspace, name: str, context: int) -> str:
    with write_folder(workspace.models.root / name) as folder:
        write_json(folder / "config.json", {"max_position_embeddings": context})
    return delete_model(workspace, name).id


def test_the_trash_lists_gives_back_and_is_emptied(
    capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    workspace = Workspace(home)
    first = delete_one(workspace, "tales", 32)
    delete_one(workspace, "tales", 64)
    assert run(["models", "trash"]) == 0
    shown = capfd.readouterr().out
    assert shown.count("tales") == 2
    assert first in shown
    # Of two with a name the one deleted last comes back.
    assert run(["models", "restore", "tales"]) == 0
    assert workspace.models.describe("tales").context == 64
    # The other by its id, under a name that is free.
    assert run(["models", "restore", first]) == 0
    assert workspace.models.describe("tales-2").context == 32
    delete_model(workspace, "tales-2")
    capfd.readouterr()
    # Nobody is there to be asked.
    assert run(["models", "trash", "--empty"]) != 0
    assert "--yes" in capfd.readouterr().err
    assert run(["models", "trash", "--empty", "--yes", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"removed": 1}
    assert run(["models", "trash", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == []
    assert run(["models", "restore", "tales"]) != 0
    assert workspace.models.names() == ["tales"]


def test_only_the_models_that_were_counted_are_removed(
    capfd: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(home)
    first = delete_one(workspace, "first", 32)
    later = []

    def confirm(_output: Output, question: str) -> bool:
        assert "1 deleted models" in question
        later.append(delete_one(workspace, "later", 32))
        return True

    monkeypatch.setattr(Output, "confirm", confirm)
    assert run(["models", "trash", "--empty", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"removed": 1}
    assert [entry.id for entry in workspace.trash.list()] == later != [first]
