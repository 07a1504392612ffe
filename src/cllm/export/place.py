"""Where an export is put: nothing is lost that is not itself an export, nothing is half-written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cllm.errors import ExistsError, IntegrityError, StorageError
from cllm.files import (
    MANIFEST,
    read_json,
    storage_errors,
    sync_folder,
    temporary_prefix,
    write_folder,
)

# In every exported folder: what it is an export of, and the verdict.
RECORD = "cllm_export.json"
_GGUF = b"GGUF"


def check_place(output: Path, *, is_file: bool, overwrite: bool) -> None:
    """Refuse a place that is taken, or that `overwrite` does not cover.

    Raises: ExistsError, StorageError.
    """
    if not output.exists():
        blocking = next((part for part in output.parents if part.exists()), output)
        if not blocking.is_dir():
            raise StorageError("is a file, so nothing can be put below it", where=blocking)
        return
    if not overwrite:
        hint = "Choose another place with --output, or replace an earlier export with --overwrite."
        raise ExistsError("there is something already", where=output, hint=hint)
    hint = "Choose another place with --output; only an earlier export is overwritten."
    problem = _foreign_file(output) if is_file else _foreign_folder(output)
    if problem:
        raise ExistsError(f"{problem}, so it stays as it is", where=output, hint=hint)


def _foreign_file(path: Path) -> str | None:
    if not path.is_file():
        return "this is not a file"
    with path.open("rb") as file:
        return None if file.read(len(_GGUF)) == _GGUF else "this is not a GGUF file"


def _foreign_folder(folder: Path) -> str | None:
    """What tells that a folder is not an export, or not one alone."""
    if not folder.is_dir():
        return "this is not a folder"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if RECORD not in found:
        return "this is not an earlier export"
    try:
        manifest: Any = read_json(folder / MANIFEST)
        known = {*manifest["files"], MANIFEST}
    except (IntegrityError, LookupError, TypeError):
        return "the list of what was exported is missing or damaged"
    others = sorted(found - known)
    return f"{others[0]} in it is not of the export" if others else None


@contextlib.contextmanager
def write_place(output: Path, *, is_file: bool, overwrite: bool) -> Iterator[Path]:
    """Yield a place beside `output`, a folder or a file, that becomes it when the block ends.

    On any error it is removed, and `output` is as it was. Raises: ExistsError, StorageError.
    """
    if not is_file:
        with write_folder(output, replace=overwrite) as folder:
            yield folder
            check_place(output, is_file=False, overwrite=overwrite)
        return
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        prefix = temporary_prefix(output.name)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=output.parent))
        try:
            yield temporary / output.name
            with (temporary / output.name).open("rb") as file:
                os.fsync(file.fileno())
            check_place(output, is_file=True, overwrite=overwrite)
            (temporary / output.name).replace(output)
            sync_folder(output.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
