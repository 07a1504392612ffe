"""Write: texts that a model continues in place."""

from __future__ import annotations

from cllm.web.desk import desk_of
from cllm.web.layout import page
from cllm.web.state import app_state
from cllm.web.write_view import WriteView


@page("Write", "/write", wide=True)
async def write_page(conversation: str = "") -> None:
    """A text, or an empty sheet."""
    state = app_state()
    await WriteView(desk_of(state), lambda: state.model, conversation or None).build()
