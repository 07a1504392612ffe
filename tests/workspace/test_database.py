"""The database: brought up to date, shared by processes, refused when newer than we know."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from cllm.errors import IntegrityError, StorageError
from cllm.workspace import database
from cllm.workspace.database import Database, RunRow
from cllm.workspace.workspace import Workspace


def _row(number: int) -> RunRow:
    return RunRow(
        id=f"run-{number}",
        model="m",
        state="finished",
        started=float(number),
        updated=0.0,
        command=["cllm"],
        settings={"train": {"steps": number}},
        figures={},
    )


def test_a_new_file_has_the_newest_schema_and_keeps_rows(tmp_path: Path) -> None:
    path = tmp_path / "cllm.db"
    with Database(path).write() as session:
        session.add(_row(1))
    with Database(path).read() as session:
        row = session.get_one(RunRow, "run-1")
        assert row.settings == {"train": {"steps": 1}}
    plain = sqlite3.connect(path)
    assert plain.execute("SELECT version FROM schema_version").fetchall() == [
        (len(database.MIGRATIONS),)
    ]
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "cllm.db"
    with Database(path).write() as session:
        session.add(_row(1))
        session.flush()
        beside = sorted(found.name for found in tmp_path.iterdir())
        assert beside == ["cllm.db", "cllm.db-shm", "cllm.db-wal"]
        assert [oct(found.stat().st_mode & 0o777) for found in tmp_path.iterdir()] == ["0o600"] * 3


def test_the_migrated_schema_is_the_one_the_classes_describe(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db").write():
        pass
    fresh = sa.create_engine(f"sqlite:///{tmp_path / 'b.db'}")
    database.Base.metadata.create_all(fresh)
    migrated = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    shapes = [
        {
            (column["name"], str(column["type"]), column["nullable"])
            for column in sa.inspect(engine).get_columns("runs")
        }
        for engine in (migrated, fresh)
    ]
    assert shapes[0] == shapes[1]


def test_an_older_file_is_brought_up_to_date_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cllm.db"
    with Database(path).write() as session:
        session.add(_row(1))

    def add_note(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN note TEXT DEFAULT 'none'"))

    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, add_note))
    with Database(path).read() as session:
        notes = session.execute(sa.text("SELECT id, note FROM runs")).all()
    assert [tuple(row) for row in notes] == [("run-1", "none")]


def test_a_failing_migration_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cllm.db"
    with Database(path).write() as session:
        session.add(_row(1))

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN note TEXT"))
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, fail))
        with pytest.raises(ZeroDivisionError), Database(path).read():
            pass
    with Database(path).read() as session:
        columns = {column["name"] for column in sa.inspect(session.get_bind()).get_columns("runs")}
        assert "note" not in columns
        assert session.get(RunRow, "run-1") is not None


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cllm.db"
    with Database(path).write() as session:
        session.add(_row(1))
    plain = sqlite3.connect(path)
    plain.execute("UPDATE schema_version SET version = 99")
    plain.commit()
    with pytest.raises(IntegrityError, match="schema version 99") as caught, Database(path).read():
        pass
    assert "Update cllm" in str(caught.value)
    assert plain.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_a_file_that_is_no_database_is_reported_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cllm.db"
    path.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(IntegrityError) as caught, Database(path).read():
        pass
    assert caught.value.where == str(path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_place_that_is_no_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), Database(tmp_path / "file" / "cllm.db").read():
        pass


def test_a_failing_block_changes_nothing(tmp_path: Path) -> None:
    store = Database(tmp_path / "cllm.db")
    with pytest.raises(ZeroDivisionError), store.write() as session:
        session.add(_row(1))
        raise ZeroDivisionError
    with store.read() as session:
        assert session.get(RunRow, "run-1") is None


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "cllm.db"
    with Database(path).write() as session:
        session.add(_row(1))
    with Database(path).write() as writing:
        writing.add(_row(2))
        writing.flush()
        with Database(path).read() as reading:
            assert reading.get(RunRow, "run-2") is None
            assert reading.get(RunRow, "run-1") is not None


_WRITER = """
import sys
from pathlib import Path
from cllm.workspace.workspace import Workspace
runs = Workspace(Path(sys.argv[1])).runs
run = runs.create("model", {})
for step in range(40):
    runs.update(run.id, state="training", steps=step)
    runs.update(sys.argv[2], **{f"figure-{run.id}-{step}": step}) if len(sys.argv) > 2 else None
runs.update(run.id, state="finished", steps=40)
print(run.id)
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-c", _WRITER, str(home)]
    # The first ones also race to make the file; the later ones all change one row.
    first = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ids = [process.communicate(timeout=120)[0].strip() for process in first]
    assert [process.returncode for process in first] == [0, 0, 0]
    second = [subprocess.Popen([*command, ids[0]], stdout=subprocess.PIPE) for _ in range(2)]
    for process in second:
        process.communicate(timeout=120)
        assert process.returncode == 0
    runs = {run.id: run for run in Workspace(home).runs.list()}
    assert len(runs) == 5
    assert set(ids) <= set(runs)
    assert {run.state for run in runs.values()} == {"finished"}
    assert len([key for key in runs[ids[0]].figures if key.startswith("figure-")]) == 80
