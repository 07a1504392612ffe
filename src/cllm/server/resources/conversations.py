"""Conversations and their messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from cllm.jobs.conversations import Form, export_conversation
from cllm.server.resources.parameters import (
    Above,
    Body,
    Limit,
    Line,
    Number,
    Offset,
    Place,
    Table,
    Text,
)
from cllm.workspace.conversations import (
    Conversation,
    ConversationPage,
    Message,
    MessagePage,
    Mode,
    Role,
)

router = APIRouter(prefix="/api/conversations", tags=["conversations"])

_MEDIA: dict[Form, str] = {"markdown": "text/markdown", "json": "application/json"}
_MOST_TOKENS = 2**31 - 1


class NewConversation(Body):
    """An empty conversation."""

    title: Line = ""
    model: Line | None = None
    mode: Mode = "chat"
    settings: Table = Field({}, description="How the model writes here.")


class Change(Body):
    """What is given is changed; the rest stays."""

    title: Line | None = None
    model: Line | None = None
    mode: Mode | None = None
    settings: Table | None = None


class NewMessage(Body):
    """A message below `parent` (the end of the branch unless given), or in `beside`'s place."""

    role: Role
    text: Text
    parent: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    beside: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    tokens: Annotated[int, Field(ge=0, le=_MOST_TOKENS)] | None = None
    details: Table = Field({}, description="Such as which model wrote it, and how fast.")


class MessageChange(Body):
    """What is given is changed; the rest stays."""

    text: Text | None = None
    tokens: Annotated[int, Field(ge=0, le=_MOST_TOKENS)] | None = None
    details: Table | None = None


@router.get("")
def list_conversations(
    workspace: Place,
    search: Annotated[Line, Query(description="Words, or parts of words, all to be found.")] = "",
    mode: Mode | None = None,
    offset: Offset = 0,
    limit: Limit = 50,
) -> ConversationPage:
    """The conversations, the last changed first; with `search` where the words stand."""
    return workspace.conversations.list(search=search, mode=mode, offset=offset, limit=limit)


@router.post("", status_code=201)
def create_conversation(body: NewConversation, workspace: Place) -> Conversation:
    """Begin a conversation."""
    return workspace.conversations.create(
        title=body.title, model=body.model, mode=body.mode, settings=body.settings
    )


@router.get("/{conversation}")
def show_conversation(conversation: str, workspace: Place) -> Conversation:
    """One conversation, without its messages."""
    return workspace.conversations.get(conversation)


@router.patch("/{conversation}")
def change_conversation(conversation: str, body: Change, workspace: Place) -> Conversation:
    """Rename it, or change its model, mode or settings."""
    return workspace.conversations.change(
        conversation, title=body.title, model=body.model, mode=body.mode, settings=body.settings
    )


@router.delete("/{conversation}", status_code=204)
def delete_conversation(conversation: str, workspace: Place) -> None:
    """Take it out of every list; it can be restored for some days."""
    workspace.conversations.delete(conversation)


@router.post("/{conversation}/restore")
def restore_conversation(conversation: str, workspace: Place) -> Conversation:
    """Bring a deleted one back."""
    return workspace.conversations.restore(conversation)


@router.get("/{conversation}/messages")
def list_messages(
    conversation: str, workspace: Place, before: Above = None, limit: Limit = 50
) -> MessagePage:
    """The end of the branch that is looked at, or what stands above the message `before`."""
    return workspace.conversations.messages(conversation, before=before, limit=limit)


@router.post("/{conversation}/messages", status_code=201)
def add_message(conversation: str, body: NewMessage, workspace: Place) -> Message:
    """Add a message; it becomes the end of the branch that is looked at."""
    return workspace.conversations.add(
        conversation,
        body.role,
        body.text,
        parent=body.parent,
        beside=body.beside,
        tokens=body.tokens,
        details=body.details,
    )


@router.patch("/{conversation}/messages/{message}")
def change_message(
    conversation: str, message: Number, body: MessageChange, workspace: Place
) -> Message:
    """Change a message in place."""
    return workspace.conversations.rewrite(
        conversation, message, text=body.text, tokens=body.tokens, details=body.details
    )


@router.delete("/{conversation}/messages/{message}")
def remove_message(conversation: str, message: Number, workspace: Place) -> Conversation:
    """Remove a message and all below it for good."""
    return workspace.conversations.remove_message(conversation, message)


@router.post("/{conversation}/messages/{message}/select")
def select_message(conversation: str, message: Number, workspace: Place) -> Conversation:
    """Look at the branch through this message."""
    return workspace.conversations.select(conversation, message)


@router.get("/{conversation}/export", response_class=Response)
def export(
    conversation: str, workspace: Place, form: Literal["markdown", "json"] = "markdown"
) -> Any:
    """The branch that is looked at as Markdown, or every branch as JSON."""
    name, text = export_conversation(workspace, conversation, form)
    told = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=_MEDIA[form], headers=told)
