"""Conversations as files."""

import json

import pytest

from cllm.errors import NotFoundError
from cllm.jobs.conversations import export_conversation, title_from
from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def test_markdown_has_the_branch_that_is_looked_at(workspace):
    store = workspace.conversations
    talk = store.create(title="Foxes & moons", model="m").id
    store.add(talk, "user", "Hello?")
    first = store.add(talk, "assistant", "Not this.")
    store.add(talk, "assistant", "Yes.\n\nIndeed.", beside=first.id)
    name, text = export_conversation(workspace, talk)
    assert name == "Foxes-moons.md"
    title, about, *rest = text.split("\n\n", 2)
    assert title == "# Foxes & moons" and about.startswith("*m, 20")
    assert rest == ["## You\n\nHello?\n\n## Model\n\nYes.\n\nIndeed.\n"]


def test_json_has_every_branch(workspace):
    store = workspace.conversations
    talk = store.create(settings={"seed": 1}).id
    first = store.add(talk, "user", "ä")
    other = store.add(talk, "user", "b", beside=first.id)
    name, text = export_conversation(workspace, talk, "json")
    value = json.loads(text)
    assert name == "conversation.json"
    assert [message["id"] for message in value["messages"]] == [first.id, other.id]
    assert value["conversation"]["settings"] == {"seed": 1}
    assert "ä" in text
    with pytest.raises(NotFoundError):
        export_conversation(workspace, "none")


def test_a_document_is_exported_as_it_stands(workspace):
    store = workspace.conversations
    talk = store.create(title="Tale", mode="write").id
    store.add(talk, "document", "Once")
    store.add(talk, "assistant", " upon a time")
    _, text = export_conversation(workspace, talk)
    assert text.endswith("\n\nOnce upon a time\n") and text.count("Once") == 1


def test_a_title_is_the_beginning_of_a_text():
    assert title_from("  What is\na fox? ") == "What is a fox?"
    long = title_from("word " * 40)
    assert len(long) <= 61 and long.endswith("word…")
