"""`/v1/completions`: a text goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from cllm.errors import InputError, SettingsError
from cllm.infer.passage import TokenScore
from cllm.server.json_route import JsonRoute
from cllm.server.pool import ServedModel
from cllm.server.prompt_scores import score_prompt
from cllm.server.requests import Sampling, Texts, new_id
from cllm.server.score_forms import completion_logprobs
from cllm.server.streaming import DONE, STREAMED, Chunks, EventStream, event
from cllm.server.texts import Order, Service, Writing, begin, ids_of, is_short, service_in, usage

router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=JsonRoute)

TokenId = Annotated[int, Field(ge=0)]


class CompletionBody(Sampling):
    """A prompt, or several, as text or as token ids."""

    prompt: str | list[TokenId] | list[str] | list[list[TokenId]] | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=100)] | bool | None = None
    echo: bool | None = None
    best_of: Texts | None = None

    @property
    def num_alternatives(self) -> int | None:
        """How many likeliest tokens are told; None without log-probabilities."""
        # In JSON some clients say true and false.
        if isinstance(self.logprobs, bool):
            return 1 if self.logprobs else None
        return self.logprobs

    @property
    def num_samples(self) -> int:
        """Texts that are written for each prompt."""
        return self.best_of or self.n or 1

    def check(self) -> None:
        """Raises: SettingsError for fields that do not go together."""
        if self.suffix:
            raise SettingsError(
                "a text that comes after can't be taken into account", where="suffix"
            )
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise SettingsError("best_of is at least n", where="best_of")
        if self.stream and self.num_samples > (self.n or 1):
            raise SettingsError("the best is known only at the end: not streamed", where="best_of")

    def prompts(self, model: ServedModel) -> list[list[int]]:
        """The tokens of each prompt. Raises: InputError."""
        given = self.prompt if self.prompt is not None else ""
        if isinstance(given, str):
            return [ids_of(model, given)]
        if not given:
            raise InputError("the list is empty", where="prompt")
        if isinstance(given[0], int):
            given = [given]
        return [_tokens(model, prompt) for prompt in given]


def _tokens(model: ServedModel, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, str):
        return ids_of(model, prompt)
    if any(token >= model.tokenizer.vocab_size for token in prompt):
        message = f"the model's tokens end at {model.tokenizer.vocab_size - 1}"
        raise InputError(message, where="prompt")
    return prompt or [model.tokenizer.eos_id]


@router.post("/completions", response_model=None, responses=STREAMED)
async def complete(body: CompletionBody, request: Request) -> Response:
    """Continue one or several prompts."""
    began, service = time.perf_counter(), service_in(request)
    body.check()
    if body.max_tokens == 0:
        return await _only_read(body, service)

    def make_order(model: ServedModel) -> Order:
        settings = body.settings(
            model.defaults, most_tokens=service.limits.most_tokens, max_tokens=body.max_tokens
        )
        wanted = body.num_alternatives
        # The best is known by the log-probabilities.
        if wanted is None and body.num_samples > (body.n or 1):
            wanted = 0
        prompts = body.prompts(model)
        return Order(prompts, settings, body.num_samples, num_alternatives=wanted)

    writing = await begin(
        service,
        body.model,
        make_order,
        endpoint="completions",
        began=began,
        is_quick=is_short(request),
    )
    try:
        echoes = await _echoes(body, writing.model)
        result = _Result(body, writing, echoes)
        if body.stream:
            return EventStream(result.events(), close=writing.close, limits=service.limits)
    except BaseException:
        writing.close()
        raise
    try:
        await writing.wait(request)
        return JSONResponse(result.whole())
    finally:
        writing.close()


class _Echo:
    """A prompt as it is repeated before its text."""

    def __init__(
        self, model: ServedModel, ids: Sequence[int], num_alternatives: int | None
    ) -> None:
        decode = model.tokenizer.decode
        self.text = decode(list(ids))
        self.texts = [decode([token]) for token in ids]
        self.scores: list[TokenScore | None] = []
        if num_alternatives is not None:
            self.scores = score_prompt(model, ids, num_alternatives)


async def _echoes(body: CompletionBody, model: ServedModel) -> list[_Echo]:
    if not body.echo:
        return []

    def read() -> list[_Echo]:
        return [_Echo(model, ids, body.num_alternatives) for ids in body.prompts(model)]

    return await asyncio.to_thread(read)


class _Result:
    def __init__(self, body: CompletionBody, writing: Writing, echoes: list[_Echo]) -> None:
        self._body, self._writing, self._echoes = body, writing, echoes
        self._head = _head(writing.model.name)

    def whole(self) -> dict[str, Any]:
        """The answer in one."""
        samples, wanted = self._body.num_samples, self._body.n or 1
        choices: list[dict[str, Any]] = []
        for prompt in range(len(self._writing.answers) // samples):
            numbers = list(range(prompt * samples, (prompt + 1) * samples))
            if samples > wanted:
                numbers = sorted(numbers, key=self._mean_score, reverse=True)[:wanted]
            for number in numbers:
                passage = self._writing.answers[number].passage
                finish = self._writing.finish_of(number)
                choices.append(
                    self._choice(len(choices), prompt, passage.text, passage.scores, finish)
                )
        return self._head | {"choices": choices, "usage": self._writing.usage()}

    async def events(self) -> AsyncIterator[bytes]:
        """The answer bit by bit."""
        samples, has_usage = self._body.num_samples, self._body.has_usage
        chunks = Chunks(self._head, {"usage": None} if has_usage else {})
        begun: dict[int, int] = {}
        async for pieces, is_last in self._writing.pieces():
            data = b""
            for number, piece in pieces:
                at = begun.get(number)
                choice = self._choice(
                    number, number // samples, piece.text, piece.scores, piece.finish, at=at
                )
                begun[number] = (at or self._start(number // samples)) + len(piece.text)
                data += chunks.of(choice)
            if is_last and has_usage:
                data += event(self._head | {"choices": [], "usage": self._writing.usage()})
            yield data + DONE if is_last else data

    def _start(self, prompt: int) -> int:
        return len(self._echoes[prompt].text) if self._echoes else 0

    def _choice(
        self,
        index: int,
        prompt: int,
        text: str,
        scores: Sequence[TokenScore],
        finish: str | None,
        *,
        at: int | None = None,
    ) -> dict[str, Any]:
        """A choice; the prompt stands before it where `at` (characters so far) is None."""
        echo = self._echoes[prompt] if self._echoes and at is None else None
        logprobs = None
        if self._body.num_alternatives is not None:
            known: list[TokenScore | None] = [*(echo.scores if echo else ()), *scores]
            texts = [*(echo.texts if echo else ()), *(score.text for score in scores)]
            logprobs = completion_logprobs(known, texts, at or 0)
        whole = (echo.text if echo else "") + text
        return {"index": index, "text": whole, "logprobs": logprobs, "finish_reason": finish}

    def _mean_score(self, number: int) -> float:
        scores = self._writing.answers[number].passage.scores
        return sum(score.log_probability for score in scores) / max(len(scores), 1)


async def _only_read(body: CompletionBody, service: Service) -> Response:
    """Nothing is to be written: what the prompt is worth, if it is echoed."""
    model = await service.pool.take(body.model)
    try:
        prompts = await asyncio.to_thread(body.prompts, model)
        echoes = await _echoes(body, model)
    finally:
        service.pool.give_back(model)
    choices: list[dict[str, Any]] = []
    for number in range(len(prompts) * body.num_samples):
        echo = echoes[number // body.num_samples] if echoes else None
        is_scored = echo is not None and body.num_alternatives is not None
        choices.append(
            {
                "index": number,
                "text": echo.text if echo else "",
                "logprobs": completion_logprobs(echo.scores, echo.texts, 0)
                if echo is not None and is_scored
                else None,
                "finish_reason": "length",
            }
        )
    whole = _head(model.name) | {"choices": choices, "usage": usage(sum(map(len, prompts)), 0)}
    if not body.stream:
        return JSONResponse(whole)

    async def events() -> AsyncIterator[bytes]:
        yield event(whole)
        yield DONE

    return EventStream(events(), close=lambda: None, limits=service.limits)


def _head(model: str) -> dict[str, Any]:
    return {
        "id": f"cmpl-{new_id()}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }
