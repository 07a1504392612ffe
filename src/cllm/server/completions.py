"""`/v1/completions`: a text goes on."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from cllm.errors import InputError, SettingsError
from cllm.server.pool import ServedModel
from cllm.server.prompt_scores import score_prompt
from cllm.server.requests import Sampling, Texts, new_id
from cllm.server.score_forms import PlacedToken, Places, completion_logprobs
from cllm.server.streaming import DONE, STREAMED, Chunks, EventStream, event, watching
from cllm.server.texts import (
    Order,
    Piece,
    Writing,
    begin,
    check_number,
    ids_of,
    is_short,
    service_in,
    usage,
)

router = APIRouter(prefix="/v1", tags=["OpenAI"])

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
        return await _only_read(body, request)

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
        echoes = await _echoes(body, writing.model, writing.prompts, request)
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
        self.tokens: list[PlacedToken] = []
        if num_alternatives is not None:
            places = Places(model.tokenizer)
            scores = score_prompt(model, ids, num_alternatives)
            self.tokens = [
                PlacedToken(token, decode([token]), places.next(token), score)
                for token, score in zip(ids, scores, strict=True)
            ]


async def _echoes(
    body: CompletionBody, model: ServedModel, prompts: Sequence[Sequence[int]], request: Request
) -> list[_Echo]:
    """The prompts as they are repeated. Raises: ClientLeftError between two."""
    found = []
    async with watching(request.receive) as check:
        for ids in prompts if body.echo else ():
            found.append(await asyncio.to_thread(_Echo, model, ids, body.num_alternatives))
            check()
    return found


class _Result:
    def __init__(self, body: CompletionBody, writing: Writing, echoes: list[_Echo]) -> None:
        self._body, self._writing, self._echoes = body, writing, echoes
        self._head = _head(writing.model.name)
        self._places: dict[int, Places] = {}

    def whole(self) -> dict[str, Any]:
        """The answer in one."""
        samples, wanted = self._body.num_samples, self._body.n or 1
        choices: list[dict[str, Any]] = []
        for prompt in range(len(self._writing.answers) // samples):
            numbers = list(range(prompt * samples, (prompt + 1) * samples))
            if samples > wanted:
                numbers = sorted(numbers, key=self._mean_score, reverse=True)[:wanted]
            for number in numbers:
                choice = self._choice(number, self._writing.piece_of(number))
                choices.append(choice | {"index": len(choices)})
        return self._head | {"choices": choices, "usage": self._writing.usage()}

    async def events(self) -> AsyncIterator[bytes]:
        """The answer bit by bit."""
        has_usage = self._body.has_usage
        chunks = Chunks(self._head, {"usage": None} if has_usage else {})
        async for pieces, is_last in self._writing.pieces():
            data = b"".join(chunks.of(self._choice(number, piece)) for number, piece in pieces)
            if is_last and has_usage:
                data += event(self._head | {"choices": [], "usage": self._writing.usage()})
            yield data + DONE if is_last else data

    def _choice(self, number: int, piece: Piece) -> dict[str, Any]:
        """What a text has grown by; the prompt stands before its first piece."""
        text, tokens = piece.text, []
        places = self._places.get(number)
        if places is None:
            echo = self._echoes[number // self._body.num_samples] if self._echoes else None
            if echo is not None:
                text, tokens = echo.text + text, list(echo.tokens)
            places = Places(self._writing.model.tokenizer, 0 if echo is None else len(echo.text))
            self._places[number] = places
        logprobs = None
        if self._body.num_alternatives is not None:
            tokens += [
                PlacedToken(score.token_id, score.text, places.next(score.token_id), score)
                for score in piece.chosen
            ]
            logprobs = completion_logprobs(tokens, self._writing.model.tokenizer.spellings)
        finish = piece.finish
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _mean_score(self, number: int) -> float:
        """How likely a text is, by its tokens; that of the end is one of them."""
        scores = self._writing.piece_of(number).chosen
        if not scores:
            return -math.inf
        return sum(score.log_probability for score in scores) / len(scores)


async def _only_read(body: CompletionBody, request: Request) -> Response:
    """Nothing is to be written: what the prompt is worth, if it is echoed."""
    service, num_choices = service_in(request), body.n or 1
    with service.metrics.counting("completions"):
        model = await service.pool.take(body.model)
        try:
            prompts = await asyncio.to_thread(body.prompts, model)
            check_number(service.limits, len(prompts) * num_choices)
            echoes = await _echoes(body, model, prompts, request)
        finally:
            service.pool.give_back(model)
    service.metrics.prompt_tokens.inc(sum(map(len, prompts)))
    is_scored, spellings = body.num_alternatives is not None, model.tokenizer.spellings
    choices: list[dict[str, Any]] = []
    for number in range(len(prompts) * num_choices):
        echo = echoes[number // num_choices] if echoes else None
        choices.append(
            {
                "index": number,
                "text": echo.text if echo else "",
                "logprobs": completion_logprobs(echo.tokens, spellings)
                if echo and is_scored
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
