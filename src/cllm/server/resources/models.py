"""Models: shown, named, copied, deleted and brought back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from cllm.jobs import model_service as service
from cllm.jobs.model_service import ModelCard
from cllm.server.resources.parameters import Body, Line, Place, Table
from cllm.server.texts import Service, service_of
from cllm.workspace.trash import TrashEntry

router = APIRouter(prefix="/api", tags=["models"])

Served = Annotated[Service, Depends(service_of)]


class Models(BaseModel):
    """Every model, the last made first, and the one that was used last."""

    models: list[ModelCard]
    last_used: str | None


class Renaming(Body):
    """A new name."""

    name: Line


class Copying(Body):
    """The name of a copy; what `overwrite` replaces goes to the trash."""

    name: Line
    overwrite: bool = False


class Restored(BaseModel):
    """The name under which something is back."""

    name: str


class Purged(BaseModel):
    """How many things are gone for good."""

    removed: int


@router.get("/models")
def list_models(workspace: Place) -> Models:
    """Every model with its size, data, bits per byte, date and a sample."""
    last_used = service.last_used_model(workspace)
    return Models(models=service.list_cards(workspace), last_used=last_used)


@router.get("/models/{name}")
def show_model(name: str, workspace: Place) -> ModelCard:
    """One model."""
    return service.model_card(workspace, name)


@router.delete("/models/{name}")
def delete_model(
    name: str,
    workspace: Place,
    served: Served,
    for_good: Annotated[bool, Query(description="Not to the trash, which needs room.")] = False,
) -> TrashEntry | None:
    """Move a model to the trash, from which it can be restored for some days; null for good."""
    entry = None
    if for_good:
        service.remove_model(workspace, name)
    else:
        entry = service.delete_model(workspace, name)
    served.pool.look()
    return entry


@router.post("/models/{name}/rename")
def rename_model(name: str, body: Renaming, workspace: Place, served: Served) -> ModelCard:
    """Give it another name; its conversations and defaults go with it."""
    card = service.rename_model(workspace, name, body.name)
    served.pool.look()
    return card


@router.post("/models/{name}/copy", status_code=201)
def copy_model(name: str, body: Copying, workspace: Place, served: Served) -> ModelCard:
    """Save it under another name too."""
    card = service.save_as(workspace, name, body.name, overwrite=body.overwrite)
    served.pool.look()
    return card


@router.post("/models/{name}/duplicate", status_code=201)
def duplicate_model(name: str, workspace: Place) -> ModelCard:
    """Copy it to a free name made from its own."""
    return service.duplicate_model(workspace, name)


@router.post("/models/{name}/use", status_code=204)
def use_model(name: str, workspace: Place) -> None:
    """Remember it as the model used last."""
    service.note_used(workspace, name)


@router.get("/models/{name}/defaults")
def show_defaults(name: str, workspace: Place) -> dict[str, Any]:
    """How it writes unless told otherwise: only what was chosen."""
    return service.read_defaults(workspace, name)


@router.put("/models/{name}/defaults")
def choose_defaults(name: str, body: Table, workspace: Place, served: Served) -> dict[str, Any]:
    """Choose how it writes, such as {"temperature": 0.7}; {} forgets the choice."""
    chosen = service.write_defaults(workspace, name, body)
    served.pool.read_defaults(name)
    return chosen


@router.get("/trash")
def list_trash(workspace: Place) -> list[TrashEntry]:
    """What was deleted and can be restored, the last first."""
    return service.list_trash(workspace)


@router.post("/trash/{entry}/restore")
def restore(entry: str, workspace: Place) -> Restored:
    """Bring it back; where its name is taken by now, under one with a number."""
    return Restored(name=service.restore(workspace, entry))


@router.delete("/trash")
def purge_trash(
    workspace: Place,
    days: Annotated[float, Query(ge=0, le=36_500, description="Deleted so long ago.")] = 30.0,
) -> Purged:
    """Remove for good what was deleted longer ago."""
    return Purged(removed=service.purge_trash(workspace, days=days))
