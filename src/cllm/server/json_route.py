"""Routes that are asked for often: a body of JSON becomes their arguments without detours."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine
from typing import Any, final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError


@final
class JsonRoute(APIRoute):
    """A route whose function takes `body` and `request`, and returns the response itself.

    A body that is as described is read in one go, which takes a tenth of a millisecond less, and
    whatever type it is announced as, such as the one that `curl -d` sends by itself: such a route
    changes nothing that is kept, and the guard has turned away what other sites ask. Any other
    body is left to FastAPI, which knows how to refuse it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        thorough = super().get_route_handler()
        endpoint = self.endpoint
        assert set(inspect.signature(endpoint).parameters) == {"body", "request"}
        kind = typing.get_type_hints(endpoint)["body"]
        assert issubclass(kind, BaseModel)

        async def answer(request: Request) -> Response:
            try:
                body = kind.model_validate_json(await request.body())
            except ValidationError:
                return await thorough(request)
            found = await endpoint(body=body, request=request)
            assert isinstance(found, Response)
            return found

        return answer
