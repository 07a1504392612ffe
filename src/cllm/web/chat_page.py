"""Chat: conversations with a model that has learned one."""

from __future__ import annotations

from cllm.web.chat_view import ChatView
from cllm.web.desk import desk_of
from cllm.web.layout import page
from cllm.web.state import app_state


@page("Chat", "/chat", wide=True)
async def chat_page(conversation: str = "") -> None:
    """A conversation, or a new one."""
    state = app_state()
    await ChatView(desk_of(state), lambda: state.model, conversation or None).build()
