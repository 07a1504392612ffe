"""Finding words in messages: by the index where SQLite has one, else by reading them all."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from cllm.workspace.conversation_tables import SEARCH, ConversationRow, MessageRow

# The index knows runs of three characters; shorter words are looked for in the texts.
_INDEXED_CHARACTERS = 3
_BEFORE, _SNIPPET = 40, 160


def find_messages(session: Session, words: Sequence[str]) -> dict[str, int]:
    """The newest message of each conversation with all of the words in it."""
    newest = sa.select(MessageRow.conversation, sa.func.max(MessageRow.id))
    chosen = newest.where(_has(session, words)).group_by(MessageRow.conversation)
    return {row[0]: row[1] for row in session.execute(chosen)}


def in_words(session: Session, words: Sequence[str]) -> sa.ColumnElement[bool]:
    """Whether one message of a conversation has all of the words in it."""
    found = sa.select(MessageRow.conversation).where(_has(session, words))
    return ConversationRow.id.in_(found)


def snippet_of(text: str, words: Sequence[str]) -> str:
    """The part of a text around the first of the words, on one line."""
    folded = text.casefold()
    places = [place for word in words if (place := folded.find(word.casefold())) >= 0]
    start = max(0, min(places, default=0) - _BEFORE)
    part = " ".join(text[start : start + _SNIPPET].split())
    return ("…" if start else "") + part + ("…" if start + _SNIPPET < len(text) else "")


def _has(session: Session, words: Sequence[str]) -> sa.ColumnElement[bool]:
    indexed = [word for word in words if len(word) >= _INDEXED_CHARACTERS and _has_index(session)]
    conditions: list[sa.ColumnElement[bool]] = [
        MessageRow.text.icontains(word, autoescape=True) for word in words if word not in indexed
    ]
    if indexed:
        table = sa.table(SEARCH, sa.column("rowid"), sa.column(SEARCH))
        # Each word in quotes of its own: nothing a person types is an operator.
        query = " ".join('"' + word.replace('"', '""') + '"' for word in indexed)
        matching = sa.select(table.c.rowid).where(table.c[SEARCH].op("MATCH")(query))
        conditions.append(MessageRow.id.in_(matching))
    return sa.and_(*conditions)


def _has_index(session: Session) -> bool:
    bind = session.get_bind()
    return bind.dialect.name == "sqlite" and sa.inspect(session.connection()).has_table(SEARCH)
