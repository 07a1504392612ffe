"""Turns a conversation into text by a chat template, as transformers does it.

A template comes with a model folder, perhaps from elsewhere, so it runs in a sandbox.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cllm.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template

Message = Mapping[str, str]

# The work on a message, however short, in characters.
_MESSAGE = 400


def render_chat(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    eos_token: str,
) -> str:
    """The text of `messages` (each with "role" and "content").

    With `add_generation_prompt` it ends where the assistant begins to speak.
    Raises: InputError when the template is malformed, refuses the messages or never ends.
    """
    from cllm.text.chat_sandbox import bounded

    try:
        with bounded(sum(map(_size, messages))):
            return _compile(template).render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                eos_token=eos_token,
                bos_token="",
            )
    # A template divides by zero or calls itself without end: all of it is its own fault.
    except Exception as error:
        raise InputError(
            "the model's chat template can't render this conversation: "
            f"{str(error) or type(error).__name__}"
        ) from error


def _size(message: Message) -> int:
    return _MESSAGE + sum(len(str(part)) for part in message.values())


@functools.lru_cache(maxsize=4)
def _compile(template: str) -> Template:
    from cllm.text.chat_sandbox import Sandbox, bounded

    # What is compiled is worked out in part.
    with bounded(0):
        return Sandbox().from_string(template)
