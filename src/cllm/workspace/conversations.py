"""The conversations: trees of messages, of which one branch is looked at."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from cllm.errors import InputError, NotFoundError
from cllm.workspace.conversation_branches import below, depth, left_of, newest_end, upwards
from cllm.workspace.conversation_search import find_messages, in_words, snippet_of
from cllm.workspace.conversation_tables import ConversationRow, MessageRow

if TYPE_CHECKING:
    from cllm.workspace.database import Database

Mode = Literal["chat", "write"]
Role = Literal["system", "user", "assistant", "document"]

_DAY_S = 86_400.0
_TITLE_CHARACTERS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation; `leaf` is the last message of the branch that is looked at."""

    id: str
    title: str
    model: str | None
    mode: Mode
    settings: dict[str, Any]
    leaf: int | None
    created: float
    updated: float


@dataclasses.dataclass(frozen=True, slots=True)
class ConversationEntry:
    """A conversation in a list; where words were searched, the newest message that has them."""

    conversation: Conversation
    snippet: str | None = None
    message: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ConversationPage:
    """A part of a list of conversations, of `total`."""

    items: list[ConversationEntry]
    total: int


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A message; `siblings` are all that stand in its place, itself among them, oldest first."""

    id: int
    conversation: str
    parent: int | None
    role: Role
    text: str
    tokens: int | None
    alternatives: list[Any] | None
    details: dict[str, Any]
    created: float
    siblings: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class MessagePage:
    """A stretch of a branch, oldest first; `has_more` says whether it begins earlier."""

    items: list[Message]
    has_more: bool


class ConversationStore:
    """Conversations by id, in the database. Every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        *,
        title: str = "",
        model: str | None = None,
        mode: Mode = "chat",
        settings: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """An empty conversation. Raises: StorageError."""
        now = time.time()
        row = ConversationRow(
            id=uuid.uuid4().hex,
            title=_one_line(title),
            model=model,
            mode=mode,
            settings=dict(settings or {}),
            leaf=None,
            created=now,
            updated=now,
            deleted=None,
        )
        with self._database.write() as session:
            session.add(row)
            return _conversation(row)

    def get(self, conversation: str) -> Conversation:
        """The conversation of that id. Raises: NotFoundError, also for a deleted one."""
        with self._database.read() as session:
            return _conversation(_row(session, conversation))

    def list(
        self, *, search: str = "", mode: Mode | None = None, offset: int = 0, limit: int = 50
    ) -> ConversationPage:
        """Conversations, the last changed first.

        `search` keeps those with all of its words (or parts of words) in the title, or in one
        message. Takes some milliseconds with 100,000 messages.
        """
        rows = sa.select(ConversationRow).where(ConversationRow.deleted.is_(None))
        if mode is not None:
            rows = rows.where(ConversationRow.mode == mode)
        words = search.split()
        with self._database.read() as session:
            found = find_messages(session, words) if words else {}
            if words:
                named = [ConversationRow.title.icontains(word, autoescape=True) for word in words]
                rows = rows.where(sa.or_(sa.and_(*named), in_words(session, words)))
            total = session.scalar(sa.select(sa.func.count()).select_from(rows.subquery())) or 0
            newest = rows.order_by(ConversationRow.updated.desc(), ConversationRow.id)
            items = []
            for row in session.scalars(newest.offset(offset).limit(limit)):
                message = found.get(row.id)
                text = None
                if message is not None:
                    text = session.scalar(
                        sa.select(MessageRow.text).where(MessageRow.id == message)
                    )
                snippet = None if text is None else snippet_of(text, words)
                items.append(ConversationEntry(_conversation(row), snippet, message))
            return ConversationPage(items, total)

    def change(
        self,
        conversation: str,
        *,
        title: str | None = None,
        model: str | None = None,
        mode: Mode | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Change what is given; the rest stays. Raises: NotFoundError."""
        with self._database.write() as session:
            row = _row(session, conversation)
            if title is not None:
                row.title = _one_line(title)
            row.model = row.model if model is None else model
            row.mode = row.mode if mode is None else mode
            row.settings = row.settings if settings is None else dict(settings)
            row.updated = time.time()
            return _conversation(row)

    def rename_model(self, name: str, new_name: str) -> None:
        """Let the conversations with a model follow it to its new name. Raises: StorageError."""
        talking = sa.update(ConversationRow).where(ConversationRow.model == name)
        with self._database.write() as session:
            session.execute(talking.values(model=new_name))

    def count_with(self, model: str) -> int:
        """How many conversations are with a model."""
        count = sa.select(sa.func.count()).select_from(ConversationRow)
        with_it = count.where(ConversationRow.model == model, ConversationRow.deleted.is_(None))
        with self._database.read() as session:
            return session.scalar(with_it) or 0

    def delete(self, conversation: str) -> None:
        """Take it out of every list; `restore` brings it back. Raises: NotFoundError."""
        with self._database.write() as session:
            _row(session, conversation).deleted = time.time()

    def restore(self, conversation: str) -> Conversation:
        """Bring a deleted one back. Raises: NotFoundError once it is purged."""
        with self._database.write() as session:
            row = session.get(ConversationRow, conversation)
            if row is None:
                raise _missing(conversation)
            row.deleted = None
            return _conversation(row)

    def purge(self, *, days: float = 30.0) -> int:
        """Remove for good what was deleted longer ago; returns how many conversations."""
        oldest = time.time() - days * _DAY_S
        old = sa.select(ConversationRow.id).where(ConversationRow.deleted <= oldest)
        with self._database.write() as session:
            ids = list(session.scalars(old))
            for part in ids:
                session.execute(sa.delete(MessageRow).where(MessageRow.conversation == part))
                session.execute(sa.delete(ConversationRow).where(ConversationRow.id == part))
            return len(ids)

    def add(
        self,
        conversation: str,
        role: Role,
        text: str,
        *,
        parent: int | None = None,
        beside: int | None = None,
        tokens: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Message:
        """A new message below `parent` (default: the leaf), or in the place of `beside`.

        It becomes the leaf. `beside` is for an edited or a regenerated message: both stay.
        Raises: NotFoundError, InputError when both are given.
        """
        if parent is not None and beside is not None:
            raise InputError("a message has a parent or a sibling, not both given")
        with self._database.write() as session:
            row = _row(session, conversation)
            above = row.leaf
            if beside is not None:
                above = _message_row(session, conversation, beside).parent
            elif parent is not None:
                above = _message_row(session, conversation, parent).id
            made = MessageRow(
                conversation=conversation,
                parent=above,
                role=role,
                text=text,
                tokens=tokens,
                alternatives=None,
                details=dict(details or {}),
                created=time.time(),
            )
            session.add(made)
            session.flush()
            row.leaf, row.updated = made.id, made.created
            return _with_siblings(session, conversation, [made])[0]

    def rewrite(
        self,
        conversation: str,
        message: int,
        *,
        text: str | None = None,
        tokens: int | None = None,
        alternatives: Sequence[Any] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Message:
        """Change what is given in a message, such as while it is being written.

        `alternatives` is what the model weighed at each token. Raises: NotFoundError.
        """
        with self._database.write() as session:
            row = _message_row(session, conversation, message)
            row.text = row.text if text is None else text
            row.tokens = row.tokens if tokens is None else tokens
            if alternatives is not None:
                row.alternatives = [*alternatives]
            if details is not None:
                row.details = {**row.details, **details}
            _row(session, conversation).updated = time.time()
            return _with_siblings(session, conversation, [row])[0]

    def select(self, conversation: str, message: int) -> Conversation:
        """Look at the branch through this message, down to its newest end.

        Raises: NotFoundError.
        """
        with self._database.write() as session:
            row = _row(session, conversation)
            row.leaf = newest_end(session, _message_row(session, conversation, message))
            return _conversation(row)

    def messages(
        self, conversation: str, *, before: int | None = None, limit: int = 50
    ) -> MessagePage:
        """A stretch of the branch: up to `limit` messages above `before`, or up to the leaf.

        Costs `limit` look-ups, however long the branch is. Raises: NotFoundError.
        """
        with self._database.read() as session:
            last = _row(session, conversation).leaf
            if before is not None:
                last = _message_row(session, conversation, before).parent
            rows = upwards(session, last, limit)
            has_more = bool(rows) and rows[0].parent is not None
            return MessagePage(_with_siblings(session, conversation, rows), has_more)

    def branch(
        self, conversation: str, *, last: int | None = None, before: int | None = None
    ) -> Sequence[Message]:
        """The branch that is looked at, or what is above `before`; its `last` messages.

        Oldest first. For prompts: without siblings. Raises: NotFoundError.
        """
        with self._database.read() as session:
            end = _row(session, conversation).leaf
            if before is not None:
                end = _message_row(session, conversation, before).parent
            return [_message(row) for row in upwards(session, end, last)]

    def num_above(self, message: int) -> int:
        """How many messages stand above one in its branch: 0.1 s for 100,000."""
        with self._database.read() as session:
            return depth(session, message) - 1

    def tree(self, conversation: str) -> Sequence[Message]:
        """Every message of every branch, oldest first. Raises: NotFoundError."""
        with self._database.read() as session:
            _row(session, conversation)
            chosen = sa.select(MessageRow).where(MessageRow.conversation == conversation)
            return [_message(row) for row in session.scalars(chosen.order_by(MessageRow.id))]

    def remove_message(self, conversation: str, message: int) -> Conversation:
        """Remove a message and all below it for good; the leaf moves to what is left.

        Raises: NotFoundError.
        """
        with self._database.write() as session:
            row = _row(session, conversation)
            gone = _message_row(session, conversation, message)
            above, ids = gone.parent, below(session, gone.id)
            session.expunge(gone)
            for first in range(0, len(ids), 500):
                part = ids[first : first + 500]
                session.execute(sa.delete(MessageRow).where(MessageRow.id.in_(part)))
            if row.leaf in set(ids):
                row.leaf = left_of(session, conversation, above)
            row.updated = time.time()
            return _conversation(row)


def _missing(conversation: str) -> NotFoundError:
    hint = "It may have been deleted in another window."
    return NotFoundError(f"there is no conversation {conversation!r}", hint=hint)


def _row(session: Session, conversation: str) -> ConversationRow:
    row = session.get(ConversationRow, conversation)
    if row is None or row.deleted is not None:
        raise _missing(conversation)
    return row


def _message_row(session: Session, conversation: str, message: int) -> MessageRow:
    row = session.get(MessageRow, message)
    if row is None or row.conversation != conversation:
        hint = "It may have been removed in another window."
        raise NotFoundError(f"there is no message {message} here", hint=hint)
    return row


def _with_siblings(
    session: Session, conversation: str, rows: Sequence[MessageRow]
) -> list[Message]:
    """The messages of `rows`, each with all that stand in its place."""
    parents = {row.parent for row in rows}
    below = MessageRow.parent.in_([parent for parent in parents if parent is not None])
    # An index serves one condition, but not two joined by "or", nor another order than its own.
    places = [below, MessageRow.parent.is_(None)] if None in parents else [below]
    here = sa.select(MessageRow.parent, MessageRow.id).where(
        MessageRow.conversation == conversation
    )
    found: dict[int | None, list[int]] = {}
    for place in places:
        for parent, message in session.execute(here.where(place)):
            found.setdefault(parent, []).append(message)
    return [
        dataclasses.replace(_message(row), siblings=tuple(sorted(found[row.parent])))
        for row in rows
    ]


def _conversation(row: ConversationRow) -> Conversation:
    return Conversation(
        id=row.id,
        title=row.title,
        model=row.model,
        mode=cast("Mode", row.mode),
        settings=dict(row.settings),
        leaf=row.leaf,
        created=row.created,
        updated=row.updated,
    )


def _message(row: MessageRow) -> Message:
    return Message(
        id=row.id,
        conversation=row.conversation,
        parent=row.parent,
        role=cast("Role", row.role),
        text=row.text,
        tokens=row.tokens,
        alternatives=row.alternatives,
        details=dict(row.details),
        created=row.created,
    )


def _one_line(title: str) -> str:
    return " ".join(title.split())[:_TITLE_CHARACTERS]
