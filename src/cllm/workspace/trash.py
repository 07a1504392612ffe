"""The trash: what was deleted, kept for some days so that it can be brought back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path

from cllm.errors import IntegrityError, NotFoundError, StorageError
from cllm.files import read_json, remove_folder, storage_errors, write_json
from cllm.processes import is_at_work

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
                _move(folder, place / _CONTENT)
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
        return found[0]

    def list(self) -> Sequence[TrashEntry]:
        """Everything here, the last deleted first, but what a living process only borrows."""
        return [
            entry
            for entry, lender in self._all()
            if lender is None or not is_at_work(lender, entry.deleted)
        ]

    def take(self, entry_id: str, target: Path) -> None:
        """Move an entry's folder back, to `target`, which is free. Raises: NotFoundError."""
        place = self.root / self.get(entry_id).id
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            (place / _CONTENT).rename(target)
        with contextlib.suppress(StorageError):
            remove_folder(place)

    def settle(self, entry_id: str) -> None:
        """What replaces a lent entry is whole: the entry stays. Raises: NotFoundError."""
        entry = self.get(entry_id)
        write_json(self.root / entry.id / _RECORD, {"version": 1, **dataclasses.asdict(entry)})

    def lent(self) -> Sequence[tuple[TrashEntry, int]]:
        """The entries that are to be replaced, each with the process that does so."""
        return [(entry, lender) for entry, lender in self._all() if lender is not None]

    def purge(self, *, days: float = 30.0) -> int:
        """Remove for good what was deleted longer ago; how many entries. Raises: StorageError."""
        oldest = time.time() - days * _DAY_S
        return self._free([entry for entry in self.list() if entry.deleted <= oldest])

    def remove(self, ids: Collection[str]) -> int:
        """Remove those of these entries that `list` shows for good; how many they were.

        Raises: StorageError.
        """
        return self._free([entry for entry in self.list() if entry.id in ids])

    def _free(self, entries: Sequence[TrashEntry]) -> int:
        for entry in entries:
            remove_folder(self.root / entry.id)
        return len(entries)

    def clear(self, *, older_than_s: float) -> int:
        """Remove entries without a folder, which a killed process leaves; returns how many."""
        removed = 0
        for place in self._places():
            with contextlib.suppress(OSError, StorageError):
                is_old = time.time() - place.stat().st_mtime > older_than_s
                if is_old and not os.path.lexists(place / _CONTENT):
                    remove_folder(place)
                    removed += 1
        return removed

    def _places(self) -> Sequence[Path]:
        if not self.root.is_dir():
            return []
        return [path for path in self.root.iterdir() if _ID.fullmatch(path.name)]

    def _all(self) -> Sequence[tuple[TrashEntry, int | None]]:
        found = [known for place in self._places() if (known := self._read(place)) is not None]
        return sorted(found, key=lambda known: -known[0].deleted)

    def _read(self, place: Path) -> tuple[TrashEntry, int | None] | None:
        """An entry, and the process that it is lent to, if it is."""
        try:
            record = read_json(place / _RECORD)
            record.pop("version")
            lender = record.pop("lender", None)
            entry = TrashEntry(**record)
        except (IntegrityError, OSError, AttributeError, KeyError, TypeError):
            return None
        if entry.id != place.name or not (place / _CONTENT).is_dir():
            return None
        return entry, lender if isinstance(lender, int) else None


def _move(folder: Path, target: Path) -> None:
    """Move a folder; a link to one leads from there to where it led."""
    if folder.is_symlink():
        target.symlink_to(folder.resolve(), target_is_directory=True)
        folder.unlink()
    else:
        folder.replace(target)
