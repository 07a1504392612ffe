"""Where a second `cllm app` gets a link to the one that runs."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cllm.server.access import OPENER_PATH, Access
from cllm.server.errors import error_body


def add_opener(app: FastAPI, access: Access, address: str, use: Callable[[str], None]) -> None:
    """Answer with a fresh link to `address`; `use` gets the model that is asked for, if one is.

    Only who shows `access.opener` is answered. To be called before pages are put on the app.
    """

    async def link(request: Request) -> JSONResponse:
        try:
            told = await request.json()
            model = told.get("model")
        except (ValueError, AttributeError):
            return JSONResponse(error_body(400, "a JSON object is needed"), 400)
        if isinstance(model, str):
            use(model)
        told = {"address": access.new_link(address)}
        return JSONResponse(told, headers={"Cache-Control": "no-store"})

    app.router.routes.append(Route(OPENER_PATH, link, methods=["POST"]))
