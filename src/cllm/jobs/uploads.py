"""Text and models that are handed in through a browser: streamed to disk, typed by content."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from cllm.errors import InputError, NoTextError
from cllm.jobs.models import iso_time
from cllm.workspace.uploads import Arrival, UploadRecord
from cllm.workspace.workspace import Workspace

Purpose = Literal["text", "model"]

LIMIT_BYTES = 2 << 30
# Larger than this is no longer pasted but written to a file first.
MOST_PASTED_CHARACTERS = 20_000_000


class Upload:
    """A file on its way in; `record` is there once it is whole and of a type that is read."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self.record: UploadRecord | None = None

    def write(self, block: bytes) -> None:
        """Add bytes. Raises: InputError beyond the limit, StorageError."""
        self._arrival.write(block)


@contextlib.contextmanager
def begin_upload(
    workspace: Workspace,
    name: str,
    *,
    purpose: Purpose = "text",
    limit_bytes: int = LIMIT_BYTES,
) -> Iterator[Upload]:
    """Take a file in block by block; at the end of the block `record` says what it is.

    On any error nothing stays. Raises: InputError for what is empty, too large or of a type
    that is not read, StorageError.
    """
    arrival = workspace.uploads.begin(name, limit_bytes=limit_bytes)
    try:
        upload = Upload(arrival)
        yield upload
        arrival.close()
        upload.record = arrival.keep(_kind_of(arrival, purpose, limit_bytes))
    except BaseException:
        arrival.drop()
        raise


def save_text(workspace: Workspace, text: str, *, name: str = "pasted.txt") -> UploadRecord:
    """Keep pasted text as a file. Raises: NoTextError, InputError, StorageError."""
    if not text.strip():
        raise NoTextError("there is no text", hint="Paste some, or choose a file or folder.")
    if len(text) > MOST_PASTED_CHARACTERS:
        message = f"more than {MOST_PASTED_CHARACTERS:,} characters were pasted"
        raise InputError(message, hint="Save the text as a file and choose that.")
    with begin_upload(workspace, name) as upload:
        # A lone half of a surrogate pair, as a browser may send one, is no text.
        upload.write(text.encode("utf-8", errors="replace"))
    assert upload.record is not None, "the block above has ended"
    return upload.record


def list_uploads(workspace: Workspace) -> list[UploadRecord]:
    """Every file, the newest first."""
    return list(workspace.uploads.list())


def upload_path(workspace: Workspace, upload: str) -> Path:
    """Where the file of that id lies. Raises: NotFoundError."""
    return workspace.uploads.get(upload).path


def remove_upload(workspace: Workspace, upload: str) -> None:
    """Remove a file for good. Raises: NotFoundError."""
    workspace.uploads.remove(upload)


def purge_uploads(workspace: Workspace, *, days: float = 30.0) -> int:
    """Remove what was handed in longer ago; returns how many files."""
    return workspace.uploads.purge(days=days)


def describe_upload(record: UploadRecord) -> dict[str, object]:
    """A record as plain values; where the file lies is left out."""
    return {
        "id": record.id,
        "name": record.name,
        "kind": record.kind,
        "num_bytes": record.num_bytes,
        "created": iso_time(record.created),
    }


def _kind_of(arrival: Arrival, purpose: Purpose, limit_bytes: int) -> str:
    from cllm.text.content import Content
    from cllm.text.detect import detect_kind
    from cllm.text.document import SkipFile

    if arrival.num_bytes == 0:
        raise InputError(f"{arrival.name} is empty")
    if purpose == "model":
        with arrival.path.open("rb") as file:
            if file.read(4) == b"GGUF":
                return "gguf"
        hint = "Give the path of a Hugging Face folder, or choose a .gguf file."
        raise InputError(f"{arrival.name} is not a GGUF file", hint=hint)
    try:
        # What a packed file holds has its limit where it is read.
        return detect_kind(Content(arrival.path, max_file_bytes=limit_bytes))
    except SkipFile as skipped:
        hint = "Text, Markdown, HTML, PDF, DOCX, EPUB, JSON Lines, CSV and code are read."
        raise InputError(f"{arrival.name}: {skipped.reason}", hint=hint) from None
