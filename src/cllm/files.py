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
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cllm.errors import CllmError, ExistsError, IntegrityError, StorageError

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


def temporary_path(target: Path) -> Path:
    """A name beside `target` for something unfinished of this process, free for all we know."""
    return target.with_name(f"{temporary_prefix(target.name)}{secrets.token_hex(4)}")


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
        temporary = temporary_path(path)
        # The system applies the umask: whoever asks for it changes it for a moment.
        temporary.touch(mode=0o600 if is_private else 0o666, exist_ok=False)
        try:
            with temporary.open("wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises: IntegrityError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise IntegrityError("the file is missing", where=path) from error
    except (ValueError, RecursionError) as error:
        raise IntegrityError("the file is damaged: not valid JSON", where=path) from error


@contextlib.contextmanager
def write_folder(
    target: Path, *, replace: bool = False, on_replaced: Callable[[Path], object] | None = None
) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target`, with its manifest, when the block ends.

    On any error the temporary folder is removed and `target` is as it was. With `replace`
    an existing `target` is swapped out only once the new one is complete, and removed;
    `on_replaced` gets it before, and may move it elsewhere. Without, ExistsError is raised for
    a `target` that somebody else made meanwhile.
    Raises: StorageError, ExistsError.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(target)
        temporary.mkdir()
        try:
            yield temporary
            write_manifest(temporary)
            _swap_in(temporary, target, replace=replace, on_replaced=on_replaced)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextlib.contextmanager
def removing(folder: Path) -> Iterator[None]:
    """Put a folder out of sight, and remove it when the block has ended; on an error it is back.

    Of a link only the link goes. One that is not there is no error; a full disk is no hindrance.
    Raises: StorageError.
    """
    grave = temporary_path(folder)
    with storage_errors(folder), contextlib.suppress(FileNotFoundError):
        if not folder.is_symlink():
            # By its age others see that this process is still at it.
            with contextlib.suppress(PermissionError):
                os.utime(folder)
        folder.replace(grave)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            grave.replace(folder)
        raise
    try:
        if grave.is_symlink():
            grave.unlink()
        else:
            shutil.rmtree(grave)
    except FileNotFoundError:
        pass
    except OSError as error:
        hint = "Give yourself write access to all that is in it, and remove it by hand."
        raise StorageError(f"can't be removed: {error.strerror}", where=grave, hint=hint) from error


def remove_folder(folder: Path) -> None:
    """Remove a folder: at once for all who look, then from the disk. Otherwise as `removing`."""
    with removing(folder):
        pass


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


def _swap_in(
    temporary: Path,
    target: Path,
    *,
    replace: bool,
    on_replaced: Callable[[Path], object] | None,
) -> None:
    if not (replace and target.exists()):
        try:
            temporary.replace(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Somebody else was faster.
            if not replace:
                hint = "What stands there is as it was: choose another name."
                message = f"{target.name!r} has been made by another program meanwhile"
                raise ExistsError(message, hint=hint) from None
        else:
            sync_folder(target.parent)
            return
    _exchange(temporary, target)
    sync_folder(target.parent)
    if on_replaced is not None:
        # The new one is in place by now: whatever goes wrong here takes nothing back.
        with contextlib.suppress(CllmError, OSError):
            on_replaced(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Let two folders trade names, in one step where the system can."""
    here, at_once = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2
    try:
        renameat2 = ctypes.CDLL(None).renameat2
        if renameat2(here, os.fsencode(one), here, os.fsencode(other), at_once) == 0:
            return
    except (OSError, AttributeError):
        pass
    # No name of a model holds a tilde.
    prefix = temporary_prefix(f"{other.name}~old")
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
