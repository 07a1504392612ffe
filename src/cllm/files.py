"""Writing to disk so that nothing is ever half-written, and reading so that damage is seen.

Every write goes to a temporary file beside the target, is synced, and is renamed over it.
A folder that holds several files carries `manifest.json` with the size and SHA-256 of each.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cllm.errors import IntegrityError, StorageError

MANIFEST = "manifest.json"
DISK_FULL = "the disk is full"
FULL_HINT = "Free some space, or point CLLM_HOME at another disk; what was saved is intact."
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)-[a-z0-9_]{8}")


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write at `path` into `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(DISK_FULL, where=path, hint=FULL_HINT) from error
        if error.errno in _DENIED:
            hint = "Give yourself write access, or point CLLM_HOME at another folder."
            raise StorageError("can't be written", where=path, hint=hint) from error
        raise


def temporary_prefix(name: str) -> str:
    """How the name of something unfinished begins, for `tempfile`: hidden, with who writes it."""
    return f".{name}.{os.getpid()}-"


def writer_of(name: str) -> int | None:
    """The process that writes what has this name; None for what is finished."""
    found = _TEMPORARY.fullmatch(name)
    return None if found is None else int(found["pid"])


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable (a no-op where folders can't be opened)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, data: bytes | str, *, is_private: bool = False) -> None:
    """Write `data` (text as UTF-8) to `path`: the old content or the new, never a mixture.

    `is_private`: nobody else on this machine may read it. Raises: StorageError.
    """
    payload = data.encode() if isinstance(data, str) else data
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=temporary_prefix(path.name), dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            if not is_private:
                temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _umask() -> int:
    """What others may not do with new files here; temporary files are private at first."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises: IntegrityError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IntegrityError("the file is missing", where=path) from error
    except ValueError as error:
        raise IntegrityError("the file is damaged: not valid JSON", where=path) from error


@contextlib.contextmanager
def write_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target`, with its manifest, when the block ends.

    On any error the temporary folder is removed and `target` is as it was. With `replace`
    an existing `target` is swapped out only once the new one is complete.
    Raises: StorageError.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=temporary_prefix(target.name), dir=target.parent))
        try:
            yield temporary
            write_manifest(temporary)
            _swap_in(temporary, target, replace=replace)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def copy_files(folder: Path, target: Path, *, leave_out: Collection[str] = ()) -> None:
    """Copy all in a folder but the files of those names into another, which exists.

    Unlike `shutil.copytree` it ends at the first error, and as that one. Raises: OSError.
    """
    for path in sorted(folder.rglob("*")):
        place = target / path.relative_to(folder)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif path.name not in leave_out:
            shutil.copy2(path, place)


def _swap_in(temporary: Path, target: Path, *, replace: bool) -> None:
    # mkdtemp makes folders private; a model folder is as readable as any other.
    temporary.chmod(0o777 & ~_umask())
    if replace and target.exists():
        _exchange(temporary, target)
        sync_folder(target.parent)
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.replace(target)
        sync_folder(target.parent)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders trade names, in one step where the system can."""
    here, at_once = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2
    try:
        renameat2 = ctypes.CDLL(None).renameat2
        if renameat2(here, os.fsencode(one), here, os.fsencode(other), at_once) == 0:
            return
    except (OSError, AttributeError):
        pass
    prefix = temporary_prefix(f"{other.name}.old")
    aside = Path(tempfile.mkdtemp(prefix=prefix, dir=other.parent))
    other.replace(aside / other.name)
    one.replace(other)
    (aside / other.name).replace(one)
    aside.rmdir()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Record size and SHA-256 of every file below `folder`, and sync the files."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST]
    # Hashing and syncing both leave the interpreter free for the other files.
    with ThreadPoolExecutor(max_workers=4) as pool:
        entries = dict(zip(paths, pool.map(_sync_and_hash, paths), strict=True))
    files = {path.relative_to(folder).as_posix(): entry for path, entry in entries.items()}
    write_json(folder / MANIFEST, {"version": 1, "files": files})


def _sync_and_hash(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": digest}


def check_manifest(folder: Path) -> None:
    """Check every file against the manifest.

    Raises: IntegrityError naming the file, with the checksum expected and found.
    """
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise IntegrityError("the manifest lists no files", where=folder / MANIFEST)
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError("the file is missing", where=path)
        size = path.stat().st_size
        if size != expected["bytes"]:
            message = f"truncated or altered: {size:,} bytes instead of {expected['bytes']:,}"
            raise IntegrityError(message, where=path)
        found = sha256_of(path)
        if found != expected["sha256"]:
            message = f"altered: checksum SHA-256 {found} instead of {expected['sha256']}"
            raise IntegrityError(message, where=path)
