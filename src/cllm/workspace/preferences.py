"""Small things remembered from one session to the next, by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cllm.workspace.database import Database


class Preferences:
    """JSON values by key, in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> Any:
        """The value kept under `key`, or None."""
        from cllm.workspace.conversation_tables import PreferenceRow

        with self._database.read() as session:
            row = session.get(PreferenceRow, key)
            return None if row is None else row.value

    def set(self, key: str, value: Any) -> None:
        """Keep a JSON value; None forgets the key. Raises: StorageError."""
        from cllm.workspace.conversation_tables import PreferenceRow

        with self._database.write() as session:
            row = session.get(PreferenceRow, key)
            if value is None:
                if row is not None:
                    session.delete(row)
            elif row is None:
                session.add(PreferenceRow(key=key, value=value))
            else:
                row.value = value
