"""The application: every route behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

from cllm import __version__
from cllm.jobs.opening import Decoding
from cllm.jobs.training_service import is_training
from cllm.server import chat, completions, embeddings, responses, status
from cllm.server.access import Access
from cllm.server.bodies import BodyGuard
from cllm.server.direct_routes import DirectRoutes
from cllm.server.errors import ERROR_ANSWERS, FailureGuard, add_error_answers
from cllm.server.guard import AccessGuard
from cllm.server.head_requests import HeadRequests
from cllm.server.limits import Limits
from cllm.server.metrics import Metrics
from cllm.server.pool import Pool
from cllm.server.resources import ROUTERS
from cllm.server.texts import Service
from cllm.workspace.leftovers import clear_leftovers
from cllm.workspace.workspace import Workspace

# Most wait: for a model that is being opened, or for their turn with it.
_NUM_THREADS = 32


def create_app(
    workspace: Workspace,
    access: Access,
    limits: Limits,
    *,
    default_model: str | None = None,
    decoding: Decoding | None = None,
) -> FastAPI:
    """The API over a workspace; pages may be added to it.

    Its state holds `workspace`, `service` (models, bounds, figures) and `access`.
    """
    pool = Pool(
        workspace,
        limits,
        default=default_model,
        decoding=decoding,
        is_training=lambda: is_training(workspace),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        workers = ThreadPoolExecutor(_NUM_THREADS, "cllm-worker")
        asyncio.get_running_loop().set_default_executor(workers)
        await asyncio.to_thread(clear_leftovers, workspace.home)
        yield
        await asyncio.to_thread(pool.close)

    # The usual pages of documentation fetch their scripts from elsewhere.
    app = FastAPI(
        title="CLLM",
        version=__version__,
        summary="Your own language models, as OpenAI's clients speak to them.",
        docs_url=None,
        redoc_url=None,
        responses=ERROR_ANSWERS,
        lifespan=lifespan,
        # Nobody is told what is asked here, whatever else is installed.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.workspace, app.state.access = workspace, access
    app.state.service = Service(pool, limits, Metrics())
    asked_often = [module.router for module in (completions, chat, embeddings, responses)]
    for router in (*asked_often, status.router, *ROUTERS):
        app.include_router(router)
    add_error_answers(app)
    # The last one added is asked first.
    app.add_middleware(DirectRoutes, routers=asked_often)
    app.add_middleware(HeadRequests)
    app.add_middleware(BodyGuard, limits=limits)
    app.add_middleware(FailureGuard)
    app.add_middleware(AccessGuard, access=access)
    return app
