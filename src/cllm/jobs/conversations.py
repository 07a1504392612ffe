"""Conversations as files and titles; the store itself is `Workspace.conversations`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

from cllm.jobs.models import iso_time
from cllm.workspace.conversations import Conversation, Message
from cllm.workspace.names import slug
from cllm.workspace.workspace import Workspace

Form = Literal["markdown", "json"]

_TITLE_CHARACTERS = 60
_HEADINGS = {"system": "System", "user": "You", "assistant": "Model", "document": "Text"}


def export_conversation(
    workspace: Workspace, conversation: str, form: Form = "markdown"
) -> tuple[str, str]:
    """A file's name and content: the branch that is looked at, or as JSON every branch.

    Raises: NotFoundError.
    """
    found = workspace.conversations.get(conversation)
    stem = slug(found.title or "conversation", "conversation")
    if form == "markdown":
        text = _markdown(found, workspace.conversations.branch(conversation))
        return f"{stem}.md", text
    messages = workspace.conversations.tree(conversation)
    value = {
        "version": 1,
        "conversation": describe_conversation(found),
        "messages": [describe_message(message) for message in messages],
    }
    return f"{stem}.json", json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def title_from(text: str) -> str:
    """A title made from the first words of a text."""
    line = " ".join(text.split())
    if len(line) <= _TITLE_CHARACTERS:
        return line
    return line[:_TITLE_CHARACTERS].rsplit(" ", 1)[0].rstrip(".,;:!?") + "…"


def describe_conversation(conversation: Conversation) -> dict[str, Any]:
    """Plain values, times as ISO 8601."""
    times = {"created": iso_time(conversation.created), "updated": iso_time(conversation.updated)}
    return dataclasses.asdict(conversation) | times


def describe_message(message: Message) -> dict[str, Any]:
    """Plain values, the time as ISO 8601."""
    value = dataclasses.asdict(message)
    return value | {"created": iso_time(message.created), "siblings": list(message.siblings)}


def _markdown(conversation: Conversation, messages: Sequence[Message]) -> str:
    about = f"{conversation.model or 'no model'}, {iso_time(conversation.created)}"
    parts = [f"# {conversation.title or 'Conversation'}", f"*{about}*"]
    if conversation.mode == "write":
        # The passages of a document, as they follow each other.
        parts.append("".join(message.text for message in messages).strip("\n"))
    else:
        for message in messages:
            parts += [f"## {_HEADINGS[message.role]}", message.text.strip("\n")]
    return "\n\n".join(parts) + "\n"
