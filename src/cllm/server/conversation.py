"""A conversation as the model wants it written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from cllm.errors import InputError
from cllm.jobs.chat import ChatFormat
from cllm.server.pool import ServedModel
from cllm.server.requests import Asking
from cllm.server.texts import ids_of
from cllm.text.chat_template import render_chat

# For a model that knows no dialogue: a transcript, which it goes on with.
TRANSCRIPT = ChatFormat(
    chat_template=(
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ message['content'] | trim + '\\n\\n' }}"
        "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] | trim + '\\n' }}"
        "{% else %}{{ 'Assistant: ' + message['content'] | trim + '\\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    ),
    stop=("\nUser:",),
    user="User",
    assistant="Assistant",
)


class Part(Asking):
    """A part of a message; only text is understood."""

    type: str = "text"
    text: str | None = None
    refusal: str | None = None


class Message(Asking):
    """What someone said."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


Messages = Annotated[list[Message], Field(min_length=1, max_length=10_000)]

_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})
_ROLES = {"developer": "system", "tool": "user", "function": "user"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens of a conversation as far as it fits, and the strings that end the reply.

    `num_dropped` of its oldest turns are not among them.
    """

    ids: list[int]
    stops: tuple[str, ...]
    num_dropped: int = 0


def plain_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Roles and texts as templates take them. Raises: InputError for what is not text."""
    return [
        {"role": _ROLES.get(message.role, message.role), "content": _text(message, number)}
        for number, message in enumerate(messages)
    ]


def _text(message: Message, number: int) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    for part in message.content:
        if part.type not in _TEXT_PARTS:
            where = f"messages.{number}.content"
            message_ = f"a part of the type {part.type!r} can't be read in {where}: only text can"
            raise InputError(message_, where="messages")
    return "".join(part.text or part.refusal or "" for part in message.content)


def prompt_of(
    model: ServedModel, messages: Sequence[Mapping[str, str]], *, max_tokens: int
) -> Prompt:
    """The conversation before the model's turn; the oldest turns drop out where it is too long.

    At most half of the context is kept free for the reply; system messages stay.
    Raises: InputError where the model's template refuses the messages.
    """
    form = model.chat or TRANSCRIPT
    room = model.context - min(max_tokens, model.context // 2)
    system = [message for message in messages if message["role"] == "system"]
    turns = [message for message in messages if message["role"] != "system"]
    ids = _render(model, form, messages)
    dropped = 0
    while len(ids) > room and dropped + 1 < len(turns):
        # Half of what is left at a time: rendering thousands of turns takes a while.
        dropped += max((len(turns) - dropped) // 2, 1) if len(ids) > 4 * room else 1
        while dropped + 1 < len(turns) and turns[dropped]["role"] == "assistant":
            dropped += 1
        ids = _render(model, form, [*system, *turns[dropped:]])
    return Prompt(ids, form.stop, dropped)


def _render(
    model: ServedModel, form: ChatFormat, messages: Sequence[Mapping[str, Any]]
) -> list[int]:
    eos_token = model.tokenizer.eos_token
    text = render_chat(
        form.chat_template, messages, add_generation_prompt=True, eos_token=eos_token
    )
    return ids_of(model, text, is_rendered=True)
