"""Files that were handed in: one folder each, named by us, with what is known of the file."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cllm.errors import InputError, IntegrityError, NotFoundError, StorageError
from cllm.files import read_json, remove_folder, storage_errors, temporary_prefix, write_json
from cllm.workspace.names import slug

_ID = re.compile(r"[0-9a-f]{32}")
_RECORD = "record.json"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")
# So much of the disk stays free whatever is handed in; of a small disk a twentieth.
RESERVE_BYTES = 256 << 20
_RESERVED_SHARE = 20
_DAY_S = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class UploadRecord:
    """A file that was handed in; `name` is what its owner calls it, `path` where it lies."""

    id: str
    name: str
    kind: str
    num_bytes: int
    created: float
    path: Path


class Arrival:
    """A file on its way in, below a name that nobody finds yet."""

    def __init__(self, root: Path, name: str, limit_bytes: int) -> None:
        self.id = uuid.uuid4().hex
        self.name = _shown(name)
        self.num_bytes = 0
        self._root, self._limit = root, limit_bytes
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            prefix = temporary_prefix(self.id)
            self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        self.path = self._folder / safe_file_name(name)
        try:
            with storage_errors(self.path):
                self._file: IO[bytes] = self.path.open("wb")
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def write(self, block: bytes) -> None:
        """Add bytes. Raises: InputError beyond the limit, StorageError."""
        self.num_bytes += len(block)
        if self.num_bytes > self._limit:
            message = f"{self.name} is larger than {self._limit:,} bytes"
            raise InputError(message, hint="Give the folder it lies in instead.")
        disk = shutil.disk_usage(self._root)
        if disk.free - len(block) < min(RESERVE_BYTES, disk.total // _RESERVED_SHARE):
            hint = "Free some space, or point CLLM_HOME at another disk."
            raise StorageError("the disk is nearly full", where=self._root, hint=hint)
        with storage_errors(self.path):
            self._file.write(block)

    def close(self) -> None:
        """No more bytes will come. Raises: StorageError."""
        with storage_errors(self.path):
            self._file.close()

    def keep(self, kind: str) -> UploadRecord:
        """Let it be found. Raises: StorageError."""
        self.close()
        record = {"version": 1, "id": self.id, "name": self.name, "kind": kind}
        record |= {"num_bytes": self.num_bytes, "created": time.time(), "file": self.path.name}
        write_json(self._folder / _RECORD, record)
        with storage_errors(self._root):
            self._folder.rename(self._root / self.id)
        return UploadStore(self._root).get(self.id)

    def drop(self) -> None:
        """Remove what has come."""
        # What is still to be written may not fit, and is not wanted.
        with contextlib.suppress(OSError):
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class UploadStore:
    """Files by id below `CLLM_HOME/uploads`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def begin(self, name: str, *, limit_bytes: int) -> Arrival:
        """A new file, to be written in blocks and kept or dropped. Raises: StorageError."""
        return Arrival(self.root, name, limit_bytes)

    def get(self, upload_id: str) -> UploadRecord:
        """The file of that id. Raises: NotFoundError."""
        found = self._read(self.root / upload_id) if _ID.fullmatch(upload_id) else None
        if found is None:
            raise NotFoundError(f"there is no upload {upload_id!r}", hint="Upload the file again.")
        return found

    def list(self) -> Sequence[UploadRecord]:
        """Every file, the newest first."""
        if not self.root.is_dir():
            return []
        folders = (path for path in self.root.iterdir() if _ID.fullmatch(path.name))
        records = [record for folder in folders if (record := self._read(folder)) is not None]
        return sorted(records, key=lambda record: -record.created)

    def remove(self, upload_id: str) -> None:
        """Remove a file for good. Raises: NotFoundError, StorageError."""
        remove_folder(self.root / self.get(upload_id).id)

    def purge(self, *, days: float = 30.0) -> int:
        """Remove what was handed in longer ago, and what never arrived; how many.

        Raises: StorageError.
        """
        oldest = time.time() - days * _DAY_S
        old = [record.id for record in self.list() if record.created <= oldest]
        for name in old:
            remove_folder(self.root / name)
        # An upload that breaks off with its process leaves a hidden folder.
        left = self.root.glob(".*") if self.root.is_dir() else ()
        lost = [path for path in left if path.stat().st_mtime <= oldest]
        for path in lost:
            shutil.rmtree(path, ignore_errors=True)
        return len(old) + len(lost)

    def _read(self, folder: Path) -> UploadRecord | None:
        try:
            record = read_json(folder / _RECORD)
            path = folder / Path(record["file"]).name
            return UploadRecord(
                id=folder.name,
                name=record["name"],
                kind=record["kind"],
                num_bytes=record["num_bytes"],
                created=record["created"],
                path=path,
            )
        except (IntegrityError, OSError, KeyError, TypeError):
            return None


def safe_file_name(name: str) -> str:
    """A file name that means nothing to any system, with the ending that readers go by."""
    last = re.split(r"[/\\]", name)[-1]
    stem, dot, ending = last.rpartition(".")
    suffix = f".{ending}" if dot and stem and _SUFFIX.fullmatch(f".{ending}") else ""
    return slug(stem if suffix else last, "text") + suffix.lower()


def _shown(name: str) -> str:
    """The name as its owner knows it: its last part, without control characters."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(char for char in last if char.isprintable())[:200] or "text"
