"""The trash: what was deleted, kept for some days so that it can be brought back."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from cllm.errors import IntegrityError, NotFoundError
from cllm.files import read_json, storage_errors, write_json

_ID = re.compile(r"[0-9a-f]{32}")
_RECORD, _CONTENT = "record.json", "content"
_DAY_S = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class TrashEntry:
    """Something deleted: what it is ("model"), the name it had, when (seconds since 1970)."""

    id: str
    what: str
    name: str
    deleted: float
    num_bytes: int


class Trash:
    """Deleted folders, one below each entry's id."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, what: str, name: str, folder: Path, *, lender: int | None = None) -> TrashEntry:
        """Move a folder here, at once for all who look. Raises: StorageError.

        With `lender` it is only lent: that process replaces it, and `settle` ends the loan.
        """
        place = self.root / uuid.uuid4().hex
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        entry = TrashEntry(place.name, what, name, time.time(), num_bytes)
        record = dataclasses.asdict(entry)
        try:
            write_json(place / _RECORD, {"version": 1, "lender": lender, **record})
            with storage_errors(folder):
                folder.replace(place / _CONTENT)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return entry

    def get(self, entry_id: str) -> TrashEntry:
        """One entry. Raises: NotFoundError."""
        found = self._read(self.root / entry_id) if _ID.fullmatch(entry_id) else None
        if found is None:
            hint = "What was deleted is kept for some days only."
            raise NotFoundError(f"there is nothing {entry_id!r} in the trash", hint=hint)
        return found

    def list(self) -> Sequence[TrashEntry]:
        """Everything here, the last deleted first."""
        if not self.root.is_dir():
            return []
        folders = (path for path in self.root.iterdir() if _ID.fullmatch(path.name))
        entries = [entry for folder in folders if (entry := self._read(folder)) is not None]
        return sorted(entries, key=lambda entry: -entry.deleted)

    def take(self, entry_id: str, target: Path) -> None:
        """Move an entry's folder back, to `target`, which is free. Raises: NotFoundError."""
        place = self.root / self.get(entry_id).id
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            (place / _CONTENT).rename(target)
        shutil.rmtree(place, ignore_errors=True)

    def settle(self, entry_id: str) -> None:
        """What replaces a lent entry is whole: the entry stays. Raises: NotFoundError."""
        entry = self.get(entry_id)
        write_json(self.root / entry.id / _RECORD, {"version": 1, **dataclasses.asdict(entry)})

    def lent(self) -> Sequence[tuple[TrashEntry, int]]:
        """The entries that are to be replaced, each with the process that does so."""
        found = []
        for entry in self.list():
            with contextlib.suppress(IntegrityError):
                lender = read_json(self.root / entry.id / _RECORD).get("lender")
                found += [(entry, lender)] if isinstance(lender, int) else []
        return found

    def purge(self, *, days: float = 30.0) -> int:
        """Remove for good what was deleted longer ago; returns how many entries."""
        old = [entry for entry in self.list() if time.time() - entry.deleted >= days * _DAY_S]
        for entry in old:
            shutil.rmtree(self.root / entry.id, ignore_errors=True)
        return len(old)

    def _read(self, place: Path) -> TrashEntry | None:
        try:
            record = read_json(place / _RECORD)
            record.pop("version")
            record.pop("lender", None)
            entry = TrashEntry(**record)
        except (IntegrityError, OSError, AttributeError, KeyError, TypeError):
            return None
        return entry if entry.id == place.name and (place / _CONTENT).is_dir() else None
