"""What the routes have in common: the workspace, and parameters within bounds."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from cllm.workspace.workspace import Workspace

# The largest whole number that every JSON reader keeps exactly.
_MOST = 2**53 - 1


def workspace_of(request: Request) -> Workspace:
    """The workspace that the application was made with."""
    workspace = request.app.state.workspace
    assert isinstance(workspace, Workspace), "the application sets it"
    return workspace


def _is_text(value: str) -> str:
    """Raises: ValueError for half a character, or a zero byte, which no database keeps."""
    if "\0" in value:
        raise ValueError("a zero byte is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no text") from None
    return value


def _is_json(value: dict[str, Any]) -> dict[str, Any]:
    """Raises: ValueError for numbers that are not finite."""
    _is_text(json.dumps(value, allow_nan=False, ensure_ascii=False))
    return value


Place = Annotated[Workspace, Depends(workspace_of)]
Text = Annotated[str, AfterValidator(_is_text)]
Line = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_is_text)]
Table = Annotated[dict[str, Any], AfterValidator(_is_json)]
Number = Annotated[int, Path(ge=1, le=_MOST)]
Above = Annotated[int | None, Query(ge=1, le=_MOST)]
Offset = Annotated[int, Query(ge=0, le=_MOST, description="How many to leave out.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many to answer with at most.")]


class Body(BaseModel):
    """What is sent: unknown fields are refused, so that a slip is seen."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())
