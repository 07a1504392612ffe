"""The form that a text must have, as OpenAI's API asks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cllm.errors import SettingsError
from cllm.infer.constraints import Grammar
from cllm.server.pool import ServedModel


def refuse_calls(choice: str | Mapping[str, Any] | None, *, where: str) -> None:
    """Raises: SettingsError where a call is demanded: a text would be no answer."""
    if choice is not None and choice not in ("none", "auto"):
        hint = "Leave it out, or ask for JSON of some form."
        raise SettingsError("models here write text and call no tools", where=where, hint=hint)


def grammar_of(
    model: ServedModel, kind: str, schema: Mapping[str, Any] | None, *, where: str
) -> Grammar | None:
    """`kind` is text (None), json_object or json_schema; `where` is the field that errors name.

    Raises: SettingsError, InputError where no token of the model begins such a text.
    """
    if kind == "text":
        return None
    if kind == "json_object":
        schema = {"type": "object"}
    elif kind != "json_schema":
        hint = "json_object, json_schema, text"
        raise SettingsError(f"there is no form {kind!r}", where=where, hint=hint)
    elif schema is None:
        message = "the form json_schema needs a schema"
        raise SettingsError(message, where=where, hint="Give it as the field `schema`.")
    written = json.dumps(schema)
    return Grammar(
        model.tokenizer, "json schema", written, vocab_size=model.vocab_size, where=where
    )
