"""`/v1/embeddings`: a text as one vector, the mean of the model's last hidden states."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from cllm.errors import InputError, SettingsError
from cllm.server.completions import TokenId
from cllm.server.pool import ServedModel
from cllm.server.prompt_scores import mean_state
from cllm.server.requests import Asking
from cllm.server.streaming import watching
from cllm.server.texts import Service, ids_of, service_in

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class EmbeddingBody(Asking):
    """Texts, or their token ids."""

    model: str | None = None
    input: str | list[TokenId] | list[str] | list[list[TokenId]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


class Embedding(BaseModel):
    """The vector of one text; in base64 its numbers are float32, the lowest byte first."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors of all texts, in their order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


@router.post("/embeddings", response_model=None, responses={200: {"model": Embeddings}})
async def embed(body: EmbeddingBody, request: Request) -> Response:
    """The vector of each text; `dimensions` keeps the first numbers of each."""
    service = service_in(request)
    with service.metrics.counting("embeddings"):
        async with watching(request.receive) as check:
            found = await _vectors(body, service, check)
        return JSONResponse(found.model_dump())


async def _vectors(body: EmbeddingBody, service: Service, check: Callable[[], None]) -> Embeddings:
    """What is asked for; between two texts `check` may raise."""
    model = await service.pool.take(body.model)
    try:
        _check_width(model, body.dimensions)
        texts = await asyncio.to_thread(_texts, model, body)
        if len(texts) > service.limits.most_texts * 32:
            raise InputError("too many texts at once", where="input")
        data = []
        for number, ids in enumerate(texts):
            check()
            # One after the other: texts that are being written have their turns in between.
            vector = await asyncio.to_thread(mean_state, model, ids)
            kept = vector[: body.dimensions].astype("<f4")
            is_packed = body.encoding_format == "base64"
            shown = base64.b64encode(kept.tobytes()).decode() if is_packed else kept.tolist()
            data.append(Embedding(index=number, embedding=shown))
    finally:
        service.pool.give_back(model)
    num_tokens = sum(map(len, texts))
    service.metrics.prompt_tokens.inc(num_tokens)
    used = EmbeddingUsage(prompt_tokens=num_tokens, total_tokens=num_tokens)
    return Embeddings(data=data, model=model.name, usage=used)


def _check_width(model: ServedModel, dimensions: int | None) -> None:
    width = model.opened.spec.width
    if dimensions is not None and dimensions > width:
        message = f"{dimensions:,} numbers are wanted: the vectors of {model.name} have {width:,}"
        raise SettingsError(message, where="dimensions", hint=f"Ask for at most {width}.")


def _texts(model: ServedModel, body: EmbeddingBody) -> list[list[int]]:
    given = body.input
    if isinstance(given, list) and not given:
        raise InputError("the list is empty", where="input")
    items: list[Any] = [given] if isinstance(given, str) or isinstance(given[0], int) else [*given]
    if "" in items:
        raise InputError("an empty text has no vector", where="input")
    texts = [ids_of(model, item) if isinstance(item, str) else list(item) for item in items]
    if any(not ids or max(ids) >= model.tokenizer.vocab_size for ids in texts):
        raise InputError("no text, or a token that the model does not have", where="input")
    return texts
