"""Models from and for other programs, and smaller ones made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import Field

from cllm.errors import InputError
from cllm.jobs import model_exchange as service
from cllm.jobs.uploads import upload_path
from cllm.server.resources.parameters import Body, Line, Place

router = APIRouter(prefix="/api", tags=["models"])


class Importing(Body):
    """Where the model is: a path on this machine, or an uploaded GGUF file."""

    path: Line | None = Field(None, description="A Hugging Face folder or a GGUF file.")
    upload: Line | None = Field(None, description="The id of an uploaded GGUF file.")
    name: Line | None = None
    overwrite: bool = False


class Exporting(Body):
    """For which program, and in which number format."""

    to: Literal["hf", "gguf", "onnx", "numpy"]
    dtype: Line | None = None


class Quantising(Body):
    """How many bits a weight, and what the new model is called."""

    bits: Literal[8, 4, 3, 2] = 4
    method: Literal["nearest", "gptq", "lattice"] | None = None
    name: Line | None = None
    overwrite: bool = False


@router.post("/imports", status_code=201)
def import_model(body: Importing, workspace: Place) -> dict[str, Any]:
    """Take in a model; answers when it is whole."""
    if (body.path is None) == (body.upload is None):
        raise InputError("give either a path or an upload")
    name = body.name
    if body.upload is not None:
        source = upload_path(workspace, body.upload)
        stem = Path(workspace.uploads.get(body.upload).name).stem
        name = name or workspace.models.free_name(stem or "model")
    else:
        source = Path(body.path or "")
        if not source.is_absolute():
            raise InputError("not a full path", where=body.path, hint="Begin with /.")
    return service.import_model(workspace, source, name=name, overwrite=body.overwrite)


@router.post("/models/{name}/export", status_code=201)
def export_model(name: str, body: Exporting, workspace: Place) -> dict[str, Any]:
    """Write it for another program, compared with that program; `file` can be downloaded."""
    return service.export_model(workspace, name, body.to, dtype=body.dtype)


@router.get("/exports/{file}", response_class=FileResponse)
def download(file: str, workspace: Place) -> FileResponse:
    """An exported file."""
    path = service.export_path(workspace, file)
    return FileResponse(path, filename=path.name, media_type="application/octet-stream")


@router.post("/models/{name}/quantise", status_code=201)
def quantise_model(name: str, body: Quantising, workspace: Place) -> dict[str, Any]:
    """Make a smaller model of it; answers with the figures before and after."""
    return service.quantise_model(
        workspace,
        name,
        bits=body.bits,
        method=body.method,
        new_name=body.name,
        overwrite=body.overwrite,
    )
