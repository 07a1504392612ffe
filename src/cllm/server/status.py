"""What the server says of itself: models, health, properties, figures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from cllm import __version__
from cllm.errors import NotFoundError
from cllm.jobs.models import list_models
from cllm.server.conversation import TRANSCRIPT
from cllm.server.texts import Service, service_of
from cllm.workspace.models import ModelRecord

router = APIRouter()

Served = Annotated[Service, Depends(service_of)]


@router.get("/v1/models", tags=["OpenAI"])
def models(service: Served) -> dict[str, Any]:
    """Every model; the name `cllm` stands for the default one."""
    records = list_models(service.pool.workspace)
    return {"object": "list", "data": [_model(record) for record in records]}


@router.get("/v1/models/{name}", tags=["OpenAI"])
def model(name: str, service: Served) -> dict[str, Any]:
    """One model."""
    pool = service.pool
    return _model(pool.workspace.models.describe(pool.resolve(name)))


@router.get("/health", tags=["server"])
async def health() -> dict[str, str]:
    """Whether the server runs."""
    return {"status": "ok"}


@router.get("/props", tags=["server"])
def props(service: Served) -> dict[str, Any]:
    """The default model, the open ones, and the bounds."""
    pool, limits = service.pool, service.limits
    try:
        default: str | None = pool.default_name()
    except NotFoundError:
        default = None
    loaded = pool.loaded()
    return {
        "version": __version__,
        "default_model": default,
        "loaded_models": [
            {
                "name": model.name,
                "context": model.context,
                "vocab_size": model.vocab_size,
                "total_slots": model.slots.decoder.num_slots,
                "num_bytes": model.num_bytes,
                "is_chat": model.chat is not None,
                "uses_one_thread": model.is_calm,
                "chat_template": (model.chat or TRANSCRIPT).chat_template,
                "notice": model.notice,
                "default_generation_settings": model.defaults.model_dump(mode="json"),
            }
            for model in loaded
        ],
        "limits": {
            "memory_bytes": limits.memory_bytes,
            "max_tokens": limits.most_tokens,
            "max_seconds": limits.most_seconds,
            "max_waiting": limits.most_waiting,
            "max_body_bytes": limits.body_bytes,
        },
    }


@router.get("/metrics", tags=["server"], response_class=Response)
def metrics(service: Served) -> Response:
    """The server's figures, as Prometheus reads them."""
    loaded = service.pool.loaded()
    counts = [model.scheduler.counts() for model in loaded]
    service.metrics.texts_running.set(sum(going for going, _ in counts))
    service.metrics.texts_waiting.set(sum(waiting for _, waiting in counts))
    service.metrics.models.set(len(loaded))
    service.metrics.model_bytes.set(sum(model.num_bytes for model in loaded))
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _model(record: ModelRecord) -> dict[str, Any]:
    return {
        "id": record.name,
        "object": "model",
        "created": int(record.modified),
        "owned_by": "cllm",
        "context_length": record.context,
        "num_parameters": record.num_parameters,
        "is_chat": record.is_chat,
    }
