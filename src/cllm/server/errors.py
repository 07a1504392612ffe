"""What goes wrong, as HTTP: one place that knows the status of each error, in OpenAI's form."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any, final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cllm.errors import (
    CllmError,
    ExistsError,
    InputError,
    IntegrityError,
    InterruptedRunError,
    InvalidNameError,
    NativeError,
    NotFoundError,
    SettingsError,
    StorageError,
    TrainingError,
)
from cllm.infer.scheduler import BusyError

_log = logging.getLogger("cllm.server")

# Of a class that is not named, that of its nearest parent holds.
_STATUS: dict[type[CllmError], int] = {
    BusyError: 429,
    NotFoundError: 404,
    ExistsError: 409,
    InterruptedRunError: 409,
    InvalidNameError: 400,
    SettingsError: 400,
    InputError: 400,
    IntegrityError: 500,
    NativeError: 500,
    TrainingError: 500,
    StorageError: 507,
    CllmError: 400,
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_RETRY_AFTER_S = "1"
# How pydantic calls what a field may be, behind the field's name.
_KINDS = frozenset({"str", "int", "float", "bool", "dict", "list", "none"})


class ClientLeftError(Exception):
    """Whoever asked has left: what was to be answered is given up."""


class ErrorDetail(BaseModel):
    """What happened, and of which kind; `hint` says what to do."""

    message: str
    type: str
    param: str | None
    code: str | None
    hint: str | None = None


class ErrorAnswer(BaseModel):
    """Every answer that is not a success, in OpenAI's form."""

    error: ErrorDetail


# For the description of the API: any route may answer so.
ERROR_ANSWERS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer, "description": "The request can't be answered as it is"},
    "5XX": {"model": ErrorAnswer, "description": "The server can't answer, such as on a full disk"},
}


def status_of(error: CllmError) -> int:
    """The HTTP status that tells of an error."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def error_body(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    hint: str | None = None,
) -> dict[str, Any]:
    """An error as OpenAI's clients read it; `hint` is ours."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": body | ({} if hint is None else {"hint": hint})}


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body of any error; one of our own bugs is told without details."""
    if not isinstance(error, CllmError):
        _log.error("a request failed", exc_info=error)
        return 500, error_body(500, "the server failed; its log says how")
    status = status_of(error)
    param = _param(error.where)
    code = {404: "not_found", 429: "server_busy"}.get(status)
    if status == 404 and param == "model":
        code = "model_not_found"
    return status, error_body(status, error.message, param=param, code=code, hint=error.hint)


def _param(where: str | None) -> str | None:
    """A flag as the field of a request that stands for it; paths stay inside."""
    if where is None or not where.startswith("--"):
        return where if where is not None and where.isidentifier() else None
    return where[2:].replace("-", "_")


def answer(error: Exception) -> Response:
    """The response that tells of an error."""
    if isinstance(error, ClientLeftError):
        # What proxies write into their logs; nobody gets it.
        return Response(status_code=499)
    status, body = describe(error)
    headers = {"Retry-After": _RETRY_AFTER_S} if status == 429 else None
    return JSONResponse(body, status, headers)


def _field(place: Sequence[str | int]) -> str:
    """The field of a mistake, such as messages.0.content, without the kinds that it may have."""
    parts = list(itertools.dropwhile(lambda part: part in ("body", "query", "path"), place))
    named = itertools.takewhile(
        lambda part: isinstance(part, int) or (part.isidentifier() and part not in _KINDS), parts
    )
    return ".".join(map(str, named))


@final
class FailureGuard:
    """ASGI: answers for our own bugs, so that the connection lives on and no detail leaves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer what nobody else did."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            if has_begun:
                raise
            await answer(error)(scope, receive, send)


def add_error_answers(app: FastAPI) -> None:
    """Let every route of an application answer errors so."""

    async def on_error(_: Request, error: Exception) -> Response:
        return answer(error)

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        if isinstance(first["input"], bytes):
            hint = "Send JSON, with the header Content-Type: application/json."
            return JSONResponse(error_body(400, "the body is not JSON", hint=hint), 400)
        place = _field(first["loc"])
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        return JSONResponse(error_body(400, message, param=place or None), 400)

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        body = error_body(error.status_code, str(error.detail))
        return JSONResponse(body, error.status_code, error.headers)

    app.add_exception_handler(CllmError, on_error)
    app.add_exception_handler(ClientLeftError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
