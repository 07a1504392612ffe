"""Files that are handed in, streamed to disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel

from cllm.jobs import uploads as service
from cllm.server.resources.parameters import Line, Place
from cllm.workspace.uploads import UploadRecord

router = APIRouter(prefix="/api/uploads", tags=["uploads"])

_Held = TypeVar("_Held")
_BLOCK_BYTES = 1 << 20
# Whoever sends nothing for so long has gone.
IDLE_S = 30.0


class UploadOut(BaseModel):
    """A file that was handed in; `kind` is what it holds, `created` seconds since 1970."""

    id: str
    name: str
    kind: str
    num_bytes: int
    created: float


@router.get("")
def list_uploads(workspace: Place) -> list[UploadOut]:
    """Every file, the newest first."""
    return [_shown(record) for record in service.list_uploads(workspace)]


@router.post(
    "",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def upload(
    request: Request,
    workspace: Place,
    name: Annotated[Line, Query(description="What the file is called.")],
    purpose: Annotated[
        Literal["text", "model"], Query(description="To be trained on, or imported.")
    ] = "text",
) -> UploadOut:
    """Hand in a file: its bytes are the body. It is typed by its content and has a size limit."""
    arrival = service.begin_upload(workspace, name, purpose=purpose)
    block = bytearray()
    async with _in_threads(arrival) as coming:
        async for part in _parts(request):
            block += part
            if len(block) >= _BLOCK_BYTES:
                await asyncio.to_thread(coming.write, bytes(block))
                block.clear()
        await asyncio.to_thread(coming.write, bytes(block))
    assert coming.record is not None, "the block above has ended"
    return _shown(coming.record)


@router.delete("/{upload}", status_code=204)
def remove_upload(upload: str, workspace: Place) -> None:
    """Remove a file for good."""
    service.remove_upload(workspace, upload)


@contextlib.asynccontextmanager
async def _in_threads(
    context: contextlib.AbstractContextManager[_Held],
) -> AsyncIterator[_Held]:
    """A context that may wait for the disk when it is entered and left."""
    held = await asyncio.to_thread(context.__enter__)
    try:
        yield held
    except BaseException as error:
        await asyncio.to_thread(context.__exit__, type(error), error, error.__traceback__)
        raise
    await asyncio.to_thread(context.__exit__, None, None, None)


async def _parts(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises: HTTPException where nothing comes for a while."""
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                part = await anext(stream, None)
        except TimeoutError:
            raise HTTPException(408, f"nothing came for {IDLE_S:g} s") from None
        if part is None:
            return
        yield part


def _shown(record: UploadRecord) -> UploadOut:
    return UploadOut(
        id=record.id,
        name=record.name,
        kind=record.kind,
        num_bytes=record.num_bytes,
        created=record.created,
    )
