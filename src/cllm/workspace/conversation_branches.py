"""Ways through a conversation's tree of messages: up to its beginning, down to its newest end."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from cllm.workspace.conversation_tables import MessageRow


def upwards(session: Session, last: int | None, limit: int | None) -> list[MessageRow]:
    """The messages from `last` up to the first, or `limit` of them; oldest first."""
    chain = (
        sa.select(MessageRow.id, MessageRow.parent, sa.literal(1).label("depth"))
        .where(MessageRow.id == last)
        .cte("chain", recursive=True)
    )
    above = aliased(MessageRow)
    step = sa.select(above.id, above.parent, chain.c.depth + 1).where(above.id == chain.c.parent)
    if limit is not None:
        step = step.where(chain.c.depth < limit)
    chain = chain.union_all(step)
    rows = sa.select(MessageRow).join(chain, MessageRow.id == chain.c.id)
    return list(session.scalars(rows.order_by(chain.c.depth.desc())))


def depth(session: Session, message: int) -> int:
    """How many messages a branch has up to this one, itself among them."""
    start = sa.select(MessageRow.parent).where(MessageRow.id == message)
    chain = start.cte("chain", recursive=True)
    above = aliased(MessageRow)
    chain = chain.union_all(sa.select(above.parent).where(above.id == chain.c.parent))
    return session.scalar(sa.select(sa.func.count()).select_from(chain)) or 0


def newest_end(session: Session, row: MessageRow) -> int:
    """The last message below `row`, always taking the newest one."""
    parent, child = aliased(MessageRow), aliased(MessageRow)
    newest = (
        sa.select(sa.func.max(child.id))
        .where(child.conversation == row.conversation, child.parent == parent.id)
        .correlate(parent)
        .scalar_subquery()
    )
    chain = sa.select(parent.id, newest.label("next")).where(parent.id == row.id)
    cte = chain.cte("down", recursive=True)
    cte = cte.union_all(sa.select(parent.id, newest).where(parent.id == cte.c.next))
    return session.scalar(sa.select(cte.c.id).where(cte.c.next.is_(None))) or row.id


def below(session: Session, message: int) -> list[int]:
    """The ids of a message and of all below it."""
    start = sa.select(MessageRow.id, MessageRow.conversation).where(MessageRow.id == message)
    cte = start.cte("below", recursive=True)
    child = aliased(MessageRow)
    joined = (child.conversation == cte.c.conversation) & (child.parent == cte.c.id)
    cte = cte.union_all(sa.select(child.id, child.conversation).where(joined))
    return list(session.scalars(sa.select(cte.c.id)))


def left_of(session: Session, conversation: str, above: int | None) -> int | None:
    """Where to look when the leaf is gone: a sibling's newest end, or the message above."""
    place = MessageRow.parent.is_(None) if above is None else MessageRow.parent == above
    others = sa.select(sa.func.max(MessageRow.id)).where(
        MessageRow.conversation == conversation, place
    )
    sibling = session.scalar(others)
    if sibling is None:
        return above
    return newest_end(session, session.get_one(MessageRow, sibling))
