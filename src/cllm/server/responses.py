"""`/v1/responses`, the least of it: one text, nothing kept."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from cllm.errors import SettingsError
from cllm.server.conversation import Message, plain_messages, prompt_of
from cllm.server.forms import grammar_of, refuse_calls
from cllm.server.pool import ServedModel
from cllm.server.requests import Asking, Sampling, new_id
from cllm.server.streaming import STREAMED, EventStream, event
from cllm.server.texts import Order, Writing, begin, is_short, service_in

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class TextFormat(Asking):
    """The form that the text must have: `text`, `json_object` or `json_schema`."""

    type: str = "text"
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextSettings(Asking):
    """What the text is to be like."""

    format: TextFormat | None = None


class ResponseBody(Sampling):
    """A text or messages, and instructions that come before them."""

    input: str | Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    previous_response_id: str | None = None
    text: TextSettings | None = None
    tool_choice: str | dict[str, Any] | None = None

    @property
    def form(self) -> TextFormat:
        """The form asked for."""
        return (self.text and self.text.format) or TextFormat()

    def order(self, model: ServedModel, *, most_tokens: int) -> Order:
        """What is asked of a model. Raises: InputError, SettingsError."""
        said = self.input
        messages = [Message(role="user", content=said)] if isinstance(said, str) else list(said)
        if self.instructions:
            messages.insert(0, Message(role="system", content=self.instructions))
        length = min(self.max_output_tokens or model.defaults.max_tokens, most_tokens)
        prompt = prompt_of(model, plain_messages(messages), max_tokens=length)
        grammar = grammar_of(model, self.form.type, self.form.schema_, where="text")
        settings = self.settings(
            model.defaults,
            most_tokens=most_tokens,
            max_tokens=self.max_output_tokens,
            # A form knows itself where it ends, and what ends a turn may well stand in it.
            stops=() if grammar else prompt.stops,
        )
        return Order([prompt.ids], settings, grammar=grammar)


@router.post("/responses", response_model=None, responses=STREAMED)
async def respond(body: ResponseBody, request: Request) -> Response:
    """Answer an input."""
    began, service = time.perf_counter(), service_in(request)
    if body.previous_response_id:
        hint = "Send the whole conversation as input."
        raise SettingsError("responses are not kept", where="previous_response_id", hint=hint)
    refuse_calls(body.tool_choice, where="tool_choice")

    def make_order(model: ServedModel) -> Order:
        return body.order(model, most_tokens=service.limits.most_tokens)

    writing = await begin(
        service,
        body.model,
        make_order,
        endpoint="responses",
        began=began,
        # A form takes a while to be understood.
        is_quick=is_short(request) and body.form.type == "text",
    )
    result = _Result(body, writing)
    if body.stream:
        return EventStream(result.events(), close=writing.close, limits=service.limits)
    try:
        await writing.wait(request)
        text = writing.answers[0].passage.text.lstrip()
        return JSONResponse(result.response(text, writing.finish_of(0)))
    finally:
        writing.close()


class _Result:
    def __init__(self, body: ResponseBody, writing: Writing) -> None:
        self._body, self._writing = body, writing
        self._id, self._item_id = f"resp_{new_id()}", f"msg_{new_id()}"
        self._created = int(time.time())
        self._number = -1

    def response(self, text: str, finish: str | None) -> dict[str, Any]:
        """The whole object; `finish` is None while it is being written."""
        is_cut = finish == "length"
        status = "in_progress" if finish is None else "incomplete" if is_cut else "completed"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": _sendable(self._body.instructions),
            "max_output_tokens": self._body.max_output_tokens,
            "model": self._writing.model.name,
            "output": [] if finish is None else [self._item(text, status)],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": self._body.temperature,
            "text": {"format": _given(self._body.form)},
            "tool_choice": "none",
            "tools": [],
            "top_p": self._body.top_p,
            "truncation": "auto",
            "usage": None if finish is None else self._usage(),
            "metadata": {},
        }

    async def events(self) -> AsyncIterator[bytes]:
        """The same bit by bit."""
        yield self._event("response.created", response=self.response("", None))
        yield self._event("response.in_progress", response=self.response("", None))
        item = {"item_id": self._item_id, "output_index": 0}
        begun = self._item("", "in_progress") | {"content": []}
        yield self._event("response.output_item.added", output_index=0, item=begun)
        part = item | {"content_index": 0}
        yield self._event("response.content_part.added", **part, part=_part(""))
        text, finish = "", "stop"
        async for pieces, _ in self._writing.pieces():
            for _, piece in pieces:
                new = piece.text if text else piece.text.lstrip()
                text += new
                finish = piece.finish or finish
                if new:
                    yield self._event("response.output_text.delta", **part, delta=new, logprobs=[])
        yield self._event("response.output_text.done", **part, text=text, logprobs=[])
        yield self._event("response.content_part.done", **part, part=_part(text))
        whole = self.response(text, finish)
        yield self._event("response.output_item.done", output_index=0, item=whole["output"][0])
        yield self._event(f"response.{whole['status']}", response=whole)

    def _event(self, name: str, **fields: Any) -> bytes:
        self._number += 1
        return event({"type": name, "sequence_number": self._number} | fields, name=name)

    def _item(self, text: str, status: str) -> dict[str, Any]:
        item = {"id": self._item_id, "type": "message", "role": "assistant", "status": status}
        return item | {"content": [_part(text)]}

    def _usage(self) -> dict[str, Any]:
        used = self._writing.usage()
        return {
            "input_tokens": used["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": used["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used["total_tokens"],
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _given(form: TextFormat) -> dict[str, Any]:
    """A form as it came. Its schema was understood, so that it can be sent."""
    if form.type != "json_schema":
        return {"type": form.type}
    given = form.model_dump(by_alias=True, exclude_unset=True)
    words = {name: _sendable(given[name]) for name in ("name", "description") if name in given}
    return given | words


def _sendable(text: str | None) -> str | None:
    """What is sent back as it came: half of a surrogate pair can't be."""
    return None if text is None else text.encode("utf-8", errors="replace").decode()
