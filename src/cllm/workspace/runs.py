"""The training runs: a folder each for what they write, a row in the database for finding them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cllm.errors import ExistsError, NotFoundError
from cllm.files import removing, storage_errors
from cllm.processes import is_alive, start_of, this_process
from cllm.workspace.names import check_name, nearest_names

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cllm.workspace.database import Database, RunRow

RunState = Literal["preparing", "training", "paused", "finished", "interrupted", "failed"]
ACTIVE: frozenset[str] = frozenset({"preparing", "training", "paused"})


@dataclasses.dataclass(frozen=True, slots=True)
class RunRecord:
    """One training run as the database knows it; `folder` holds what it wrote."""

    id: str
    model: str
    state: RunState
    folder: Path
    started: float
    updated: float
    command: tuple[str, ...]
    settings: dict[str, Any]
    figures: dict[str, Any]
    # Its process has ended without a word: killed, or the machine went off.
    has_crashed: bool = False

    @property
    def is_active(self) -> bool:
        """Whether a living process is at work on it."""
        return self.state in ACTIVE


class RunStore:
    """Runs by id below `CLLM_HOME/runs`."""

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root
        self._database = database

    def create(
        self,
        model: str,
        settings_json: dict[str, Any],
        command: Sequence[str] = (),
        *,
        is_alone: bool = False,
    ) -> RunRecord:
        """Make a run's folder and row; this process is the one at work on it.

        Raises: InvalidNameError, StorageError, IntegrityError; with `is_alone` ExistsError where
        another run is at work.
        """
        from cllm.workspace.database import RunRow

        now = time.time()
        folder = self._make_folder(check_name(model, "model"), now)
        pid, pid_started = this_process()
        row = RunRow(
            id=folder.name,
            model=model,
            state="preparing",
            pid=pid,
            pid_started=pid_started,
            started=now,
            updated=now,
            command=[*command],
            settings=settings_json,
            figures={},
        )
        try:
            with self._database.write() as session:
                if is_alone:
                    self._refuse_second(session)
                session.add(row)
        except BaseException:
            folder.rmdir()
            raise
        return self.get(folder.name)

    def get(self, run: str) -> RunRecord:
        """The run with this id, the only one whose id begins so, or the "latest".

        Raises: NotFoundError with the nearest ids.
        """
        exact = self._find(run)
        if exact is not None:
            return exact
        runs = self.list()
        if run == "latest":
            if not runs:
                raise NotFoundError("there is no run yet", hint="Start one with `cllm train`.")
            return runs[0]
        found = [record for record in runs if run and record.id.startswith(run)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(record.id for record in found[:5])
            raise NotFoundError(f"{len(found)} runs begin with {run!r}", hint=f"They are: {ids}.")
        hint = nearest_names(run, [record.id for record in runs])
        raise NotFoundError(f"there is no run {run!r}", hint=hint)

    def list(self, *, offset: int = 0, limit: int | None = None) -> Sequence[RunRecord]:
        """Every run, the newest first, or `limit` of them from the `offset`-th on."""
        import sqlalchemy as sa

        from cllm.workspace.database import RunRow

        newest = sa.select(RunRow).order_by(RunRow.started.desc(), RunRow.id)
        with self._database.read() as session:
            rows = session.scalars(newest.offset(offset).limit(limit))
            return [self._record(row) for row in rows]

    def active(self) -> Sequence[RunRecord]:
        """The runs that living processes are at work on, the newest first."""
        with self._database.read() as session:
            return self._active(session)

    def hand_over(self, run_id: str, pid: int) -> RunRecord:
        """Make the process `pid` the one at work on a run. Raises: NotFoundError."""
        from cllm.workspace.database import RunRow

        with self._database.write() as session:
            row = session.get(RunRow, run_id)
            if row is None:
                raise NotFoundError(f"there is no run {run_id!r}", hint="See `cllm runs list`.")
            # It may have ended, or taken the run over itself, in the meantime.
            if row.state in ACTIVE and row.pid != pid:
                row.pid, row.pid_started = pid, start_of(pid)
            return self._record(row)

    def take_up(self, run_id: str, *, is_alone: bool = False) -> RunRecord:
        """Make this process the one at work on a run at rest.

        Raises: NotFoundError, ExistsError where it, or with `is_alone` any run, is at work.
        """
        from cllm.workspace.database import RunRow

        with self._database.write() as session:
            row = session.get(RunRow, run_id)
            if row is None:
                raise NotFoundError(f"there is no run {run_id!r}", hint="See `cllm runs list`.")
            if self._record(row).is_active:
                raise ExistsError("this run is at work in another process", where=run_id)
            if is_alone:
                self._refuse_second(session)
            row.state, row.updated = "preparing", time.time()
            row.pid, row.pid_started = this_process()
            row.figures = {key: value for key, value in row.figures.items() if key != "error"}
            return self._record(row)

    def update(self, run_id: str, *, state: RunState | None = None, **figures: Any) -> RunRecord:
        """Note a run's new state and figures; an active state makes this process its worker.

        Raises: NotFoundError, StorageError.
        """
        from cllm.workspace.database import RunRow

        with self._database.write() as session:
            row = session.get(RunRow, run_id)
            if row is None:
                raise NotFoundError(f"there is no run {run_id!r}", hint="See `cllm runs list`.")
            if state is not None:
                row.state = state
                row.pid, row.pid_started = this_process() if state in ACTIVE else (None, None)
            row.figures = {**row.figures, **figures}
            row.updated = time.time()
            return self._record(row)

    def remove(self, run_id: str, *, by_worker: bool = False) -> None:
        """Forget a run and all it wrote.

        Raises: NotFoundError, StorageError, ExistsError while a process is at work on it, with
        `by_worker` while another than this one is.
        """
        from cllm.workspace.database import RunRow

        # Out of sight while its row goes, and removed from the disk once that is certain.
        with contextlib.ExitStack() as stack, self._database.write() as session:
            row = session.get(RunRow, run_id)
            if row is None:
                raise NotFoundError(f"there is no run {run_id!r}", hint="See `cllm runs list`.")
            record = self._record(row)
            if record.is_active and not (by_worker and row.pid == os.getpid()):
                raise ExistsError("this run is at work", where=run_id, hint="Stop it first.")
            stack.enter_context(removing(record.folder))
            session.delete(row)

    def _find(self, run_id: str) -> RunRecord | None:
        from cllm.workspace.database import RunRow

        with self._database.read() as session:
            row = session.get(RunRow, run_id)
            return None if row is None else self._record(row)

    def _active(self, session: Session) -> Sequence[RunRecord]:
        import sqlalchemy as sa

        from cllm.workspace.database import RunRow

        chosen = sa.select(RunRow).where(RunRow.state.in_(sorted(ACTIVE)))
        rows = session.scalars(chosen.order_by(RunRow.started.desc(), RunRow.id))
        return [record for record in map(self._record, rows) if record.is_active]

    def _refuse_second(self, session: Session) -> None:
        for other in self._active(session):
            raise ExistsError(
                f"the model {other.model!r} is being trained already",
                where=other.id,
                hint="Stop that training first, or wait until it has ended.",
            )

    def _record(self, row: RunRow) -> RunRecord:
        state = row.state
        has_crashed = state in ACTIVE and not is_alive(row.pid, row.pid_started)
        if has_crashed:
            state = "interrupted"
        return RunRecord(
            id=row.id,
            model=row.model,
            state=cast("RunState", state),
            folder=self.root / row.id,
            started=row.started,
            updated=row.updated,
            command=tuple(row.command),
            settings=dict(row.settings),
            figures=dict(row.figures),
            has_crashed=has_crashed,
        )

    def _make_folder(self, model: str, now: float) -> Path:
        base = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{model}"
        number = 1
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            while True:
                folder = self.root / (base if number == 1 else f"{base}-{number}")
                try:
                    folder.mkdir()
                    return folder
                except FileExistsError:
                    number += 1
