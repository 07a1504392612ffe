"""What a person has, as resources below /api: runs, models, conversations, uploads.

Each file has a `router` that only calls services; `ROUTERS` are all of them. The application
sets `app.state.workspace`, turns `CllmError` into answers, and decides who may ask.
"""

from __future__ import annotations

from fastapi import APIRouter

from cllm.server.resources import conversations, exchange, models, runs, uploads

ROUTERS: tuple[APIRouter, ...] = (
    runs.router,
    models.router,
    exchange.router,
    conversations.router,
    uploads.router,
)
