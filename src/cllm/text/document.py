"""What reading yields: documents, and the files that were left out with the reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """One clean text and where it came from.

    `num_bytes` counts UTF-8 bytes of the decoded text before cleaning: for a plain UTF-8
    file, its size. Long texts come in pieces of at most 4 MiB; every piece but the first
    has `is_continuation`, and together they are the whole text.
    """

    text: str
    source: str
    kind: str
    num_bytes: int
    is_continuation: bool = False


@dataclass(frozen=True, slots=True)
class Skip:
    """A file (or some records of it) that was not read, and why."""

    source: str
    kind: str
    reason: str
    num_bytes: int


class SkipFile(Exception):  # noqa: N818 - it ends one file, not the work
    """The file can't be read as text. It is left out, and the report says why."""

    def __init__(self, reason: str, kind: str = "unknown") -> None:
        self.reason = reason
        self.kind = kind
        super().__init__(reason, kind)
