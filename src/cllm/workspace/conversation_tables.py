"""The tables of conversations and preferences, and the index that finds words in messages."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SEARCH = "message_search"
# SQLite's index of all runs of three characters: it finds any part of a word, in any language.
_INDEX = (
    f"CREATE VIRTUAL TABLE {SEARCH} USING fts5("
    "text, content='messages', content_rowid='id', tokenize='trigram')",
    f"CREATE TRIGGER messages_added AFTER INSERT ON messages BEGIN "
    f"INSERT INTO {SEARCH}(rowid, text) VALUES (new.id, new.text); END",
    f"CREATE TRIGGER messages_removed AFTER DELETE ON messages BEGIN "
    f"INSERT INTO {SEARCH}({SEARCH}, rowid, text) VALUES ('delete', old.id, old.text); END",
    f"CREATE TRIGGER messages_changed AFTER UPDATE OF text ON messages BEGIN "
    f"INSERT INTO {SEARCH}({SEARCH}, rowid, text) VALUES ('delete', old.id, old.text); "
    f"INSERT INTO {SEARCH}(rowid, text) VALUES (new.id, new.text); END",
)


class Base(DeclarativeBase):
    """The tables of this file at the newest schema version."""


class ConversationRow(Base):
    """A conversation; `leaf` is the message at whose branch the person looks."""

    __tablename__ = "conversations"
    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    title: Mapped[str] = mapped_column(sa.Text)
    model: Mapped[str | None] = mapped_column(sa.String(64))
    mode: Mapped[str] = mapped_column(sa.String(8))
    settings: Mapped[dict[str, object]] = mapped_column(sa.JSON)
    leaf: Mapped[int | None]
    created: Mapped[float] = mapped_column(sa.Double)
    updated: Mapped[float] = mapped_column(sa.Double, index=True)
    deleted: Mapped[float | None] = mapped_column(sa.Double)


class MessageRow(Base):
    """A message below its `parent`; those of one parent are each other's alternatives."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation: Mapped[str] = mapped_column(sa.String(32))
    parent: Mapped[int | None]
    role: Mapped[str] = mapped_column(sa.String(16))
    text: Mapped[str] = mapped_column(sa.Text)
    tokens: Mapped[int | None]
    alternatives: Mapped[list[object] | None] = mapped_column(sa.JSON)
    details: Mapped[dict[str, object]] = mapped_column(sa.JSON)
    created: Mapped[float] = mapped_column(sa.Double)
    __table_args__ = (
        sa.Index("messages_below", "conversation", "parent", "id"),
        sa.Index("messages_of", "conversation", "id"),
    )


class PreferenceRow(Base):
    """Something remembered, as JSON."""

    __tablename__ = "preferences"
    key: Mapped[str] = mapped_column(sa.String(128), primary_key=True)
    value: Mapped[object] = mapped_column(sa.JSON)


def create_conversations(connection: sa.Connection) -> None:
    """Schema version 2. Written out, not taken from the rows, which will change later."""
    metadata = sa.MetaData()
    sa.Table(
        "conversations",
        metadata,
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("model", sa.String(64)),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("leaf", sa.Integer),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False, index=True),
        sa.Column("deleted", sa.Double),
    )
    sa.Table(
        "messages",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("conversation", sa.String(32), nullable=False),
        sa.Column("parent", sa.Integer),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("tokens", sa.Integer),
        sa.Column("alternatives", sa.JSON),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Index("messages_below", "conversation", "parent", "id"),
        sa.Index("messages_of", "conversation", "id"),
        # Never a number twice: a page that is open still means the message that was removed.
        sqlite_autoincrement=True,
    )
    sa.Table(
        "preferences",
        metadata,
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )
    metadata.create_all(connection)
    if connection.dialect.name == "sqlite" and _has_trigrams(connection):
        for statement in _INDEX:
            connection.exec_driver_sql(statement)


def _has_trigrams(connection: sa.Connection) -> bool:
    """Whether this SQLite was built with FTS5 and its trigrams; without them, LIKE searches."""
    try:
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE temp.trial USING fts5(text, tokenize='trigram')"
        )
        connection.exec_driver_sql("DROP TABLE temp.trial")
    except sa.exc.DatabaseError:
        return False
    return True
