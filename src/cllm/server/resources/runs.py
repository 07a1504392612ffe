"""Trainings: planned, started, watched and steered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from cllm.jobs import training_record as record
from cllm.jobs import training_service as service
from cllm.jobs.training_record import Curve
from cllm.jobs.training_status import TrainingStatus
from cllm.server.resources.parameters import Body, Limit, Line, Offset, Place, Table, Text
from cllm.workspace.workspace import Workspace

router = APIRouter(prefix="/api", tags=["runs"])

_PING_S = 15


class TrainingBody(Body):
    """What to train: text from one kind of source, and settings by dotted name."""

    name: Line | None = Field(None, description="Name of the model; made from the text's.")
    text: Text | None = Field(None, description="Pasted text.")
    uploads: list[Line] = Field([], description="Ids of uploaded files.")
    folder: Line | None = Field(None, description="A file or folder on this machine.")
    corpus: Line | None = Field(None, description="A prepared corpus.")
    settings: Table = Field(
        {}, description='As after `cllm train`, such as {"train.minutes": 5, "model.width": 96}.'
    )
    from_model: Line | None = Field(None, description="Go on with this model.")
    overwrite: bool = Field(False, description="Replace a model of that name.")

    def request(self) -> service.TrainingRequest:
        """The same for the service."""
        values = self.model_dump() | {"uploads": tuple(self.uploads)}
        return service.TrainingRequest(**values)


@router.post("/plan")
def plan(body: TrainingBody, workspace: Place) -> dict[str, Any]:
    """What would be trained, without training it; reads all of the text."""
    return service.plan_training(workspace, body.request())


@router.get("/runs")
def list_runs(workspace: Place, offset: Offset = 0, limit: Limit = 100) -> list[TrainingStatus]:
    """The runs, the newest first. Times are seconds since 1970."""
    return service.list_trainings(workspace, offset=offset, limit=limit)


@router.post("/runs", status_code=201)
def start_run(body: TrainingBody, workspace: Place) -> TrainingStatus:
    """Start a training in a process of its own; one at a time."""
    return service.start_training(workspace, body.request())


@router.get("/runs/{run}")
def show_run(run: str, workspace: Place) -> TrainingStatus:
    """How a run stands; `latest` is the newest one."""
    return service.training_status(workspace, run)


@router.delete("/runs/{run}", status_code=204)
def discard_run(run: str, workspace: Place) -> None:
    """Forget a run that is not at work; its model stays."""
    service.discard_training(workspace, run)


@router.post("/runs/{run}/pause")
def pause_run(run: str, workspace: Place) -> TrainingStatus:
    """Let it stand still after its present step, with everything saved."""
    return service.pause_training(workspace, run)


@router.post("/runs/{run}/resume")
def resume_run(run: str, workspace: Place) -> TrainingStatus:
    """Let a paused run go on."""
    return service.resume_training(workspace, run)


@router.post("/runs/{run}/stop")
def stop_run(run: str, workspace: Place) -> TrainingStatus:
    """End it with what it has reached: its model is saved."""
    return service.stop_training(workspace, run)


@router.post("/runs/{run}/continue")
def continue_run(run: str, workspace: Place) -> TrainingStatus:
    """Go on with a run that was interrupted, crashed or failed."""
    return service.continue_training(workspace, run)


@router.get("/runs/{run}/curve")
def show_curve(
    run: str,
    workspace: Place,
    after_step: Offset = 0,
    max_points: Annotated[int, Query(ge=10, le=10_000)] = 600,
) -> Curve:
    """Bits per byte over steps, on the text trained on and on the part held out."""
    folder = workspace.runs.get(run).folder
    return record.read_curve(folder, after_step=after_step, max_points=max_points)


@router.get("/runs/{run}/samples")
def list_samples(run: str, workspace: Place) -> list[dict[str, Any]]:
    """What the model wrote along the way: step, prompt, text."""
    return record.read_samples(workspace.runs.get(run).folder)


@router.get("/runs/{run}/result")
def show_result(run: str, workspace: Place) -> dict[str, Any] | None:
    """How a finished run ended; null before."""
    return record.read_result(workspace.runs.get(run).folder)


@router.get(
    "/runs/{run}/log",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def show_log(run: str, workspace: Place) -> PlainTextResponse:
    """The end of what its process has printed."""
    return PlainTextResponse(record.read_log(workspace.runs.get(run).folder))


@router.get(
    "/runs/{run}/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
def watch_run(
    run: str,
    workspace: Place,
    offset: Offset = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventSourceResponse:
    """Every event of a run as it happens, until it is at rest, as server-sent events.

    The id of each is the offset to go on from, as browsers do by themselves.
    """
    found = workspace.runs.get(run)
    is_number = last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit()
    start = int(last_event_id[:16]) if last_event_id and is_number else offset
    return EventSourceResponse(_sent(workspace, found.id, start), ping=_PING_S)


async def _sent(workspace: Workspace, run: str, offset: int) -> AsyncIterator[ServerSentEvent]:
    async for event in record.events_async(workspace, run, offset=offset):
        data = json.dumps(event, ensure_ascii=False)
        yield ServerSentEvent(data, event=event["event"], id=str(event["offset"]))
