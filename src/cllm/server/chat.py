"""`/v1/chat/completions`: the model's turn in a conversation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from cllm.errors import SettingsError
from cllm.infer.passage import TokenScore
from cllm.server.conversation import Messages, plain_messages, prompt_of
from cllm.server.forms import grammar_of, refuse_calls
from cllm.server.pool import ServedModel
from cllm.server.requests import Asking, Sampling, new_id
from cllm.server.score_forms import chat_logprobs
from cllm.server.streaming import DONE, STREAMED, Chunks, EventStream, event
from cllm.server.texts import Order, Writing, begin, is_short, service_in

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class ResponseFormat(Asking):
    """The form that the text must have: `text`, `json_object` or `json_schema`."""

    type: str = "text"
    json_schema: dict[str, Any] | None = None


class ChatBody(Sampling):
    """A conversation whose next turn is the model's."""

    messages: Messages
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=100)] | None = None
    response_format: ResponseFormat | None = None
    tool_choice: str | dict[str, Any] | None = None
    function_call: str | dict[str, Any] | None = None

    def check(self) -> None:
        """Raises: SettingsError for what can't be had."""
        if self.top_logprobs is not None and not self.logprobs:
            raise SettingsError("top_logprobs needs logprobs", where="top_logprobs")
        refuse_calls(self.tool_choice, where="tool_choice")
        refuse_calls(self.function_call, where="function_call")

    def order(self, model: ServedModel, *, most_tokens: int) -> Order:
        """What is asked of a model. Raises: InputError, SettingsError."""
        wanted = self.max_completion_tokens or self.max_tokens
        messages = plain_messages(self.messages)
        length = min(wanted or model.defaults.max_tokens, most_tokens)
        prompt = prompt_of(model, messages, max_tokens=length)
        form = self.response_format or ResponseFormat()
        schema = (form.json_schema or {}).get("schema")
        grammar = grammar_of(model, form.type, schema, where="response_format")
        # A form has an end of its own, and line breaks, at which a turn may end, inside it.
        stops = () if grammar else prompt.stops
        settings = self.settings(
            model.defaults, most_tokens=most_tokens, max_tokens=wanted, stops=stops
        )
        num_alternatives = (self.top_logprobs or 0) if self.logprobs else None
        return Order([prompt.ids], settings, self.n or 1, grammar, num_alternatives)


@router.post("/chat/completions", response_model=None, responses=STREAMED)
async def chat(body: ChatBody, request: Request) -> Response:
    """Write the model's turn; a model that knows no dialogue goes on with a transcript."""
    began, service = time.perf_counter(), service_in(request)
    body.check()

    def make_order(model: ServedModel) -> Order:
        return body.order(model, most_tokens=service.limits.most_tokens)

    writing = await begin(
        service,
        body.model,
        make_order,
        endpoint="chat",
        began=began,
        # A form takes a while to be understood.
        is_quick=is_short(request) and body.response_format is None,
    )
    if body.stream:
        return EventStream(_events(body, writing), close=writing.close, limits=service.limits)
    try:
        await writing.wait(request)
        return JSONResponse(_whole(body, writing))
    finally:
        writing.close()


def _whole(body: ChatBody, writing: Writing) -> dict[str, Any]:
    choices = []
    for number, answer in enumerate(writing.answers):
        # The blank after "Name:" belongs to the format, not to what is said.
        message = {"role": "assistant", "content": answer.passage.text.lstrip(), "refusal": None}
        choices.append(
            {
                "index": number,
                "message": message,
                "logprobs": _logprobs(body, writing, answer.passage.scores),
                "finish_reason": writing.finish_of(number),
            }
        )
    head = _head("chat.completion", writing.model.name)
    return head | {"choices": choices, "usage": writing.usage()}


async def _events(body: ChatBody, writing: Writing) -> AsyncIterator[bytes]:
    head = _head("chat.completion.chunk", writing.model.name)
    chunks = Chunks(head, {"usage": None} if body.has_usage else {})

    def chunk(number: int, delta: dict[str, str], **rest: Any) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": None} | rest
        return chunks.of(choice)

    count = len(writing.answers)
    yield b"".join(chunk(number, {"role": "assistant", "content": ""}) for number in range(count))
    is_begun = [False] * count
    async for pieces, is_last in writing.pieces():
        data = b""
        for number, piece in pieces:
            text = piece.text if is_begun[number] else piece.text.lstrip()
            is_begun[number] = is_begun[number] or bool(text)
            if text or piece.scores:
                logprobs = _logprobs(body, writing, piece.scores)
                data += chunk(number, {"content": text}, logprobs=logprobs)
            if piece.finish is not None:
                data += chunk(number, {}, finish_reason=piece.finish)
        if is_last and body.has_usage:
            data += event(head | {"choices": [], "usage": writing.usage()})
        yield data + DONE if is_last else data


def _logprobs(
    body: ChatBody, writing: Writing, scores: Sequence[TokenScore]
) -> dict[str, Any] | None:
    return chat_logprobs(scores, writing.model.tokenizer.spellings) if body.logprobs else None


def _head(kind: str, model: str) -> dict[str, Any]:
    head = {"id": f"chatcmpl-{new_id()}", "object": kind, "created": int(time.time())}
    return head | {"model": model, "system_fingerprint": None}
