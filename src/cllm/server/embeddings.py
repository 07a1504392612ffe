"""`/v1/embeddings`: a text as one vector, the mean of the model's last hidden states."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from cllm.errors import InputError
from cllm.server.completions import TokenId
from cllm.server.pool import ServedModel
from cllm.server.prompt_scores import mean_state
from cllm.server.requests import Asking
from cllm.server.texts import Service, ids_of, service_of

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class EmbeddingBody(Asking):
    """Texts, or their token ids."""

    model: str | None = None
    input: str | list[TokenId] | list[str] | list[list[TokenId]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


@router.post("/embeddings")
async def embed(
    body: EmbeddingBody, service: Annotated[Service, Depends(service_of)]
) -> dict[str, Any]:
    """The vector of each text; `dimensions` keeps the first ones."""
    model = await service.pool.take(body.model)
    try:
        texts = await asyncio.to_thread(_texts, model, body)
        if len(texts) > service.limits.most_texts * 32:
            raise InputError("too many texts at once", where="input")
        data = []
        for number, ids in enumerate(texts):
            # One after the other: texts that are being written have their turns in between.
            vector = await asyncio.to_thread(mean_state, model, ids)
            kept = vector[: body.dimensions].astype("<f4")
            is_packed = body.encoding_format == "base64"
            shown = base64.b64encode(kept.tobytes()).decode() if is_packed else kept.tolist()
            data.append({"object": "embedding", "index": number, "embedding": shown})
    finally:
        service.pool.give_back(model)
    num_tokens = sum(map(len, texts))
    service.metrics.prompt_tokens.inc(num_tokens)
    service.metrics.requests.labels("embeddings", "done").inc()
    used = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model.name, "usage": used}


def _texts(model: ServedModel, body: EmbeddingBody) -> list[list[int]]:
    given = body.input
    if isinstance(given, str):
        return [ids_of(model, given)]
    if not given:
        raise InputError("the list is empty", where="input")
    items: list[Any] = [given] if isinstance(given[0], int) else list(given)
    texts = [ids_of(model, item) if isinstance(item, str) else list(item) for item in items]
    if any(not ids or max(ids) >= model.tokenizer.vocab_size for ids in texts):
        raise InputError("no text, or a token that the model does not have", where="input")
    return texts
