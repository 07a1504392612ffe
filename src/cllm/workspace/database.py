"""The database: runs, conversations and preferences, for all processes in one workspace.

SQLite in WAL mode (readers never wait for a writer), or another database by the URL in
`CLLM_DATABASE_URL`. The schema has a version; opening an older one brings it up to date.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from cllm.errors import IntegrityError, StorageError
from cllm.files import DISK_FULL, FULL_HINT
from cllm.workspace.conversation_tables import create_conversations

BUSY_SECONDS = 30.0


class Base(DeclarativeBase):
    """The tables as they are at the newest schema version."""


class RunRow(Base):
    """One training run: times are seconds since 1970, settings and figures are JSON."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(sa.String(128), primary_key=True)
    model: Mapped[str] = mapped_column(sa.String(64), index=True)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    pid: Mapped[int | None]
    pid_started: Mapped[float | None]
    started: Mapped[float]
    updated: Mapped[float]
    command: Mapped[list[str]] = mapped_column(sa.JSON)
    settings: Mapped[dict[str, object]] = mapped_column(sa.JSON)
    figures: Mapped[dict[str, object]] = mapped_column(sa.JSON)


def _create_runs(connection: sa.Connection) -> None:
    """Version 1. Written out, not taken from `RunRow`, which will change with later versions."""
    table = sa.Table(
        "runs",
        sa.MetaData(),
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False, index=True),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("pid", sa.Integer),
        sa.Column("pid_started", sa.Double),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("command", sa.JSON, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
    )
    table.create(connection)


# Migration number n brings version n to n + 1. Never change one that was released: add one.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    _create_runs,
    create_conversations,
)
_VERSION = sa.Table("schema_version", sa.MetaData(), sa.Column("version", sa.Integer))


class Database:
    """A database at the newest schema version, opened at first use."""

    def __init__(self, path: Path, *, url: str | None = None) -> None:
        self.path = path
        self.url = url or os.environ.get("CLLM_DATABASE_URL", "").strip() or None
        self._engine: sa.Engine | None = None

    @property
    def where(self) -> str:
        """The file or URL, without a password, for messages."""
        if self.url is None:
            return str(self.path)
        return sa.make_url(self.url).render_as_string(hide_password=True)

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads. Raises: IntegrityError, StorageError."""
        with self._errors(), Session(self._open()) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are kept together, or not at all, when the block ends."""
        with (
            self._errors(),
            Session(self._open().execution_options(writes=True)) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _open(self) -> sa.Engine:
        if self._engine is None:
            if self.url is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Conversations are nobody else's; what SQLite puts beside it is made alike.
                if not self.path.exists():
                    self.path.touch(mode=0o600)
            engine = sa.create_engine(self.url or f"sqlite:///{self.path}")
            if engine.dialect.name == "sqlite":
                _tune_sqlite(engine)
            self._migrate(engine)
            self._engine = engine
        return self._engine

    def _migrate(self, engine: sa.Engine) -> None:
        newest = len(MIGRATIONS)
        with engine.connect() as connection:
            version = _version(connection)
        if version < newest:
            # Read once more inside the write lock: another process may have been first.
            with engine.execution_options(writes=True).begin() as connection:
                version = _version(connection)
                for number in range(version, newest):
                    MIGRATIONS[number](connection)
                if version < newest:
                    _set_version(connection, newest)
                    version = newest
        if version > newest:
            engine.dispose()
            raise IntegrityError(
                f"the database has schema version {version}; this cllm knows up to {newest}",
                where=self.where,
                hint="Update cllm, or choose another workspace with CLLM_HOME.",
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the database's refusals into errors that a person can act on."""
        try:
            yield
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageError(DISK_FULL, where=self.where, hint=FULL_HINT) from error
            message = str(error.orig)
            hint = "Free some space or get write access there, or set CLLM_HOME elsewhere."
            raise StorageError(f"the database: {message}", where=self.where, hint=hint) from error
        except (sa.exc.DatabaseError, sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
            message = str(getattr(error, "orig", error))
            hint = "Move it away to start a new one: models, corpora and run folders stay."
            raise IntegrityError(f"the database: {message}", where=self.where, hint=hint) from error
        except OSError as error:
            hint = "Give yourself write access, or point CLLM_HOME at another folder."
            message = f"can't be written: {error.strerror}"
            raise StorageError(message, where=self.where, hint=hint) from error


def _version(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table("schema_version"):
        return 0
    return connection.scalar(sa.select(_VERSION.c.version)) or 0


def _set_version(connection: sa.Connection, version: int) -> None:
    _VERSION.create(connection, checkfirst=True)
    connection.execute(_VERSION.delete())
    connection.execute(_VERSION.insert().values(version=version))


def _tune_sqlite(engine: sa.Engine) -> None:
    """WAL, patience with other writers, and a write lock taken where a change begins."""

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # "begin" below decides, not the driver
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        _enter_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _enter_wal(connection: sqlite3.Connection) -> None:
    # Two processes that create the file at once: SQLite refuses one without waiting.
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
