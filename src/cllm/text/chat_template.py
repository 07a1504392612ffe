"""Turns a conversation into text by a chat template, as transformers does it.

A template comes with a model folder, perhaps from elsewhere, so it runs in a sandbox.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from cllm.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template

Message = Mapping[str, str]


def render_chat(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool,
    eos_token: str = "<|endoftext|>",
) -> str:
    """The text of `messages` (each with "role" and "content").

    With `add_generation_prompt` it ends where the assistant begins to speak.
    Raises: InputError when the template is malformed or refuses the messages.
    """
    from jinja2 import TemplateError

    try:
        return _compile(template).render(
            messages=list(messages),
            add_generation_prompt=add_generation_prompt,
            eos_token=eos_token,
            bos_token="",
        )
    except TemplateError as error:
        raise InputError(
            f"the model's chat template can't render this conversation: {error}"
        ) from error


@functools.lru_cache(maxsize=4)
def _compile(template: str) -> Template:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)
