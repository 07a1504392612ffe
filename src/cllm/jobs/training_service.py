"""Training as a service: started in a process of its own, watched and steered from anywhere.

The process does what `cllm train` does for a person, at low priority, and outlives whoever
started it. All that is known of it lies in its run's folder and in the database.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cllm.config import Settings, resolve
from cllm.errors import ExistsError, InputError, NoTextError, NotFoundError, StorageError
from cllm.jobs.child_process import end_process, run_command, start_detached
from cllm.jobs.request import Request
from cllm.jobs.steering import Wish, set_wish
from cllm.jobs.train import RUN_VARIABLE, make_request
from cllm.jobs.training_record import LOG
from cllm.jobs.training_status import TrainingStatus, describe_run
from cllm.jobs.uploads import save_text
from cllm.workspace.runs import RunRecord
from cllm.workspace.workspace import Workspace

PLAN_SECONDS = 600.0
_END_S = 10.0
# Asked before every piece of a text that is written.
_REMEMBER_S = 0.5
_busy: dict[Path, tuple[float, bool]] = {}
_busy_lock = threading.Lock()
# Runs that did not come to life here, and whose end the database could not take.
_unnoted: list[tuple[Path, str, bool]] = []


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What to train: text from one kind of source, a name, and settings by dotted name.

    `uploads` are ids of `cllm.jobs.uploads`; `folder` is a file or folder on this machine.
    `from_model` goes on with a model. Without a name it is made from the text's.
    """

    name: str | None = None
    text: str | None = None
    uploads: tuple[str, ...] = ()
    folder: str | None = None
    corpus: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    from_model: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class _Work:
    """A checked request: the places as the command is given them."""

    places: list[str]
    name: str
    settings: Settings
    request: Request

    def arguments(self) -> list[str]:
        """What stands after `cllm train`."""
        request = self.request
        words = [*self.places, "--name", self.name, *flags_of(self.settings)]
        words += ["--from", request.from_model] if request.from_model else []
        return words + (["--overwrite"] if request.overwrite else [])


def plan_training(
    workspace: Workspace,
    request: TrainingRequest,
    *,
    timeout_s: float = PLAN_SECONDS,
    on_stage: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """What would be trained: the `name`, and the `plan` as `cllm train --plan --json` tells it.

    The text is read in a process of its own, nothing is trained; `on_stage` is told, in a thread,
    what that is at, such as "Reading the text …". `replaces` describes the model that would be
    lost. Pasted text stays as an upload, named in `uploads`.
    Raises: CllmError.
    """
    from cllm.jobs.model_service import what_is_lost

    uploads = _pasted(workspace, request)
    work = _check(workspace, request, uploads, is_plan=True)
    arguments = ["train", *work.arguments(), "--plan", "--json"]

    def on_line(line: str) -> None:
        if on_stage is not None and line.endswith(" …"):
            on_stage(line)

    plan = run_command(arguments, home=workspace.home, timeout_s=timeout_s, on_line=on_line)
    return {
        "name": work.name,
        "plan": plan,
        "settings": work.settings.model_dump(mode="json", exclude_unset=True),
        "uploads": list(uploads),
        "replaces": what_is_lost(workspace, work.name),
    }


def start_training(
    workspace: Workspace, request: TrainingRequest, *, beside_others: bool = False
) -> TrainingStatus:
    """Start a training in a process of its own; returns as soon as that is on its way.

    Raises: ExistsError while another is at work (unless `beside_others`) or the name is taken,
    CllmError for what can be seen to be wrong before the text is read.
    """
    _note_ends(workspace)
    work = _check(workspace, request, _pasted(workspace, request), is_plan=False)
    arguments = ["train", *work.arguments()]
    run = workspace.runs.create(
        work.name,
        work.settings.model_dump(mode="json", exclude_unset=True),
        ["cllm", *arguments],
        is_alone=not beside_others,
    )
    try:
        work.request.save(run.folder)
        return _start(workspace, run, arguments)
    except BaseException:
        _unnoted.append((workspace.home, run.id, True))
        _note_ends(workspace)
        raise


def continue_training(
    workspace: Workspace, run: str, *, beside_others: bool = False
) -> TrainingStatus:
    """Go on with a run that was interrupted, crashed or failed, exactly where it was.

    Raises: NotFoundError, ExistsError when it has finished, or something is at work.
    """
    return _continue(workspace, workspace.runs.get(run), "go", beside_others=beside_others)


def pause_training(workspace: Workspace, run: str) -> TrainingStatus:
    """Let a run stand still after its present step, with everything saved.

    It keeps its memory and its process. Raises: NotFoundError, InputError when not at work.
    """
    record = _at_work(workspace, run)
    set_wish(record.folder, "pause")
    return describe_run(record)


def resume_training(workspace: Workspace, run: str) -> TrainingStatus:
    """Let a paused run go on. Raises: NotFoundError, InputError when not at work."""
    record = _at_work(workspace, run)
    set_wish(record.folder, "go")
    return describe_run(record)


def stop_training(workspace: Workspace, run: str) -> TrainingStatus:
    """End a run with what it has reached: its model is measured and saved.

    One that is interrupted is taken up for that. A run that is still reading text has reached
    nothing: it becomes "interrupted". Raises: NotFoundError, ExistsError when it has finished.
    """
    record = workspace.runs.get(run)
    if record.is_active:
        set_wish(record.folder, "stop")
        return describe_run(record)
    return _continue(workspace, record, "stop", beside_others=True)


def discard_training(workspace: Workspace, run: str) -> None:
    """Forget a run and all it wrote; its model, if it made one, stays.

    Raises: NotFoundError, ExistsError while it is at work.
    """
    workspace.runs.remove(workspace.runs.get(run).id)


def training_status(workspace: Workspace, run: str) -> TrainingStatus:
    """How a run stands, by its id or "latest". Raises: NotFoundError."""
    _note_ends(workspace)
    return describe_run(workspace.runs.get(run))


def list_trainings(
    workspace: Workspace, *, offset: int = 0, limit: int | None = 100
) -> list[TrainingStatus]:
    """How the runs stand, the newest first."""
    _note_ends(workspace)
    return [describe_run(record) for record in workspace.runs.list(offset=offset, limit=limit)]


def active_training(workspace: Workspace) -> TrainingStatus | None:
    """The run that is at work (preparing, training or paused), the newest if there are more."""
    active = workspace.runs.active()
    return describe_run(active[0]) if active else None


def is_training(workspace: Workspace) -> bool:
    """Whether a run is using the processor now; a paused one does not.

    Meant to be asked often: the answer may be half a second old. While it is true, decoding
    uses one thread that does not spin.
    """
    now, home = time.monotonic(), workspace.home
    with _busy_lock:
        asked_at, answer = _busy.get(home, (-_REMEMBER_S, False))
        if now - asked_at < _REMEMBER_S:
            return answer
        answer = any(record.state != "paused" for record in workspace.runs.active())
        _busy[home] = (time.monotonic(), answer)
        return answer


def flags_of(settings: Settings) -> list[str]:
    """Settings as they are written after `cllm train`."""
    words: list[str] = []
    for section, values in settings.model_dump(mode="json", exclude_unset=True).items():
        for name, value in values.items():
            flag = f"--{section}.{name.replace('_', '-')}"
            if isinstance(value, list):
                words += [f"{flag}={item}" for item in value]
            elif isinstance(value, bool):
                words.append(f"{flag}={str(value).lower()}")
            elif value is not None:
                words.append(f"{flag}={value}")
    return words


def _start(workspace: Workspace, run: RunRecord, arguments: list[str]) -> TrainingStatus:
    pid = start_detached(
        arguments,
        home=workspace.home,
        log=run.folder / LOG,
        variables={RUN_VARIABLE: run.id},
    )
    with _busy_lock:
        _busy.pop(workspace.home, None)
    try:
        handed = workspace.runs.hand_over(run.id, pid)
    except BaseException:
        # Nobody knows of it, and its run is about to be noted as at rest.
        end_process(pid)
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).wait(_END_S)
        raise
    return describe_run(handed)


def _continue(
    workspace: Workspace, run: RunRecord, wish: Wish, *, beside_others: bool
) -> TrainingStatus:
    if run.state == "finished":
        hint = "To train further, start a training that goes on with its model."
        raise ExistsError("this run has finished", where=run.id, hint=hint)
    _note_ends(workspace)
    taken = workspace.runs.take_up(run.id, is_alone=not beside_others)
    try:
        set_wish(run.folder, wish)
        return _start(workspace, taken, ["runs", "resume", run.id])
    except BaseException:
        _unnoted.append((workspace.home, run.id, False))
        _note_ends(workspace)
        raise


def _note_ends(workspace: Workspace) -> None:
    """Note that runs of this process are not at work; on a full disk the next call does."""
    for entry in [entry for entry in _unnoted if entry[0] == workspace.home]:
        _, run, is_new = entry
        try:
            # Whoever takes it away notes it: by the time of a second note the run may go on.
            _unnoted.remove(entry)
        except ValueError:
            continue
        try:
            if is_new:
                workspace.runs.remove(run, by_worker=True)
            else:
                workspace.runs.update(run, state="interrupted")
        except StorageError:
            _unnoted.append(entry)
        except (NotFoundError, ExistsError):
            pass


def _at_work(workspace: Workspace, run: str) -> RunRecord:
    record = workspace.runs.get(run)
    if not record.is_active:
        message = f"this run is not at work: it is {record.state}"
        hint = None if record.state == "finished" else "Continue it instead."
        raise InputError(message, where=record.id, hint=hint)
    return record


def _pasted(workspace: Workspace, request: TrainingRequest) -> tuple[str, ...]:
    """The uploads, with pasted text as one more."""
    if request.text is None:
        return request.uploads
    return (*request.uploads, save_text(workspace, request.text).id)


def _check(
    workspace: Workspace, request: TrainingRequest, uploads: tuple[str, ...], *, is_plan: bool
) -> _Work:
    """Everything that can be seen to be wrong before text is read. Raises: CllmError."""
    settings = resolve(Settings, request.settings, environment=os.environ)
    records = [workspace.uploads.get(upload) for upload in uploads]
    places = [str(record.path) for record in records]
    stem = Path(records[0].name).stem if records else ""
    if request.folder is not None:
        if places:
            message = "a folder does not go together with other text"
            raise InputError(message, hint="Choose either the folder or the other text.")
        places.append(_existing(request.folder))
        stem = stem or Path(places[-1]).stem
    if request.corpus is not None:
        corpus = workspace.corpora.path(request.corpus)
        if places:
            message = "a prepared corpus does not go together with other text"
            raise InputError(message, hint="Choose either the corpus or the other text.")
        # As a folder: its bare name could be that of a file where this process stands.
        places, stem = [str(corpus)], request.corpus
    if not places:
        hint = "Paste some, upload a file, or choose a folder or a corpus."
        raise NoTextError("there is no text to train on", hint=hint)
    name = request.name or workspace.models.free_name(stem or "model")
    checked = make_request(
        places,
        name,
        settings,
        workspace,
        from_model=request.from_model,
        overwrite=request.overwrite or is_plan,
    )
    return _Work(places, name, settings, checked)


def _existing(folder: str) -> str:
    try:
        path = Path(folder).expanduser()
    except RuntimeError as error:
        raise NotFoundError("there is no such home folder", where=folder) from error
    if not path.is_absolute():
        raise InputError("not a full path", where=folder, hint="Begin with / or ~.")
    if not path.exists():
        raise NotFoundError("there is no such file or folder", where=folder)
    return str(path)
