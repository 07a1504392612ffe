"""First pass: read all sources into one file of clean text, without duplicates."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cllm.config import TextSettings
from cllm.text.document import Document
from cllm.text.duplicates import DuplicateFilter, Fingerprint, fingerprint
from cllm.text.intake import IntakeReport, read_counted
from cllm.text.pipeline import WorkerPool
from cllm.text.progress import Progress
from cllm.text.sources import Source
from cllm.text.write_behind import WriteBehind

# Small sources are read in tasks of about this size, or of so many files.
_TASK_BYTES, _TASK_FILES = 2 << 20, 64


@dataclass(frozen=True, slots=True)
class ReadPiece:
    """A document, or a piece of one, as it comes from reading."""

    utf8: bytes
    source: str
    num_bytes: int
    is_continuation: bool
    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True)
class ReadWork:
    """What a worker does: read sources."""

    settings: TextSettings
    has_fingerprints: bool

    def do(self, sources: Sequence[Source]) -> Iterator[ReadPiece | IntakeReport]:
        """The pieces of each source, and after them its report."""
        for source in sources:
            report = IntakeReport()
            waiting: Document | None = None
            for document in read_counted(source, self.settings, report):
                if waiting is not None:
                    yield self._piece(waiting, is_whole=not document.is_continuation)
                waiting = document
            if waiting is not None:
                yield self._piece(waiting, is_whole=True)
            yield report

    def _piece(self, document: Document, *, is_whole: bool) -> ReadPiece:
        wants = self.has_fingerprints and is_whole and not document.is_continuation
        return ReadPiece(
            document.text.encode(),
            document.source,
            document.num_bytes,
            document.is_continuation,
            fingerprint(document.text) if wants else None,
        )


class TextFile:
    """The file of clean text with a table of its documents."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._numbers: dict[str, int] = {}
        self._starts, self._hashes = array("q"), array("Q")
        self._sources, self._records = array("i"), array("i")
        self.num_bytes = 0
        self.has_text = False

    @property
    def num_documents(self) -> int:
        """Documents begun so far."""
        return len(self._starts)

    @property
    def names(self) -> list[str]:
        """Names of the sources; a record's source is that of its file."""
        return list(self._numbers)

    def begin(self, source: str) -> None:
        """Begin a document."""
        self.end()
        name, separator, record = source.rpartition("#")
        is_record = bool(separator) and record.isascii() and record.isdecimal() and len(record) < 10
        name = name if is_record else source
        self._sources.append(self._numbers.setdefault(name, len(self._numbers)))
        self._records.append(int(record) if is_record else -1)
        self._starts.append(self.num_bytes)
        self._hash = hashlib.sha256()

    def write(self, utf8: bytes) -> None:
        """Append to the document."""
        self._file.write(utf8)
        self._hash.update(utf8)
        self.num_bytes += len(utf8)
        self.has_text = self.has_text or not utf8.isspace()

    def end(self) -> None:
        """End the document that is open, if one is."""
        if len(self._hashes) < len(self._starts):
            self._hashes.append(int.from_bytes(self._hash.digest()[:8], "big"))

    def table(self) -> DocumentTable:
        """What was written."""
        self.end()
        starts = np.array(self._starts, np.int64)
        return DocumentTable(
            starts,
            np.diff(starts, append=self.num_bytes),
            np.array(self._hashes, np.uint64),
            np.array(self._sources, np.int32),
            np.array(self._records, np.int32),
            self.names,
        )


@dataclass(frozen=True, slots=True)
class DocumentTable:
    """Where each document lies in the text file, the hash of its text, and its source."""

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    sources: npt.NDArray[np.int32]
    records: npt.NDArray[np.int32]
    names: list[str]


def gather(
    sources: Sequence[Source],
    settings: TextSettings,
    out: TextFile,
    report: IntakeReport,
    pool: WorkerPool,
    progress: Progress | None = None,
) -> None:
    """Read the sources in order and append their documents to `out`, dropping duplicates."""
    has_filter = settings.exact_duplicates or settings.near_duplicates
    work = ReadWork(settings, has_fingerprints=has_filter)
    duplicates = DuplicateFilter(settings) if has_filter else None
    total = sum(source.num_bytes for source in sources)
    answers = pool.run(work, list(_tasks(sources)))
    is_open = False
    done = 0
    with WriteBehind() as behind:
        for piece in itertools.chain.from_iterable(answers):
            if isinstance(piece, IntakeReport):
                report.merge(piece)
                continue
            done += piece.num_bytes
            if not piece.is_continuation:
                is_open = _is_wanted(piece, duplicates, report)
                if is_open:
                    behind.call(out.begin, piece.source)
            if is_open:
                behind.call(out.write, piece.utf8)
            if progress is not None:
                progress("reading", min(done, total), total)


def _is_wanted(piece: ReadPiece, duplicates: DuplicateFilter | None, report: IntakeReport) -> bool:
    if not piece.utf8:
        return False
    if duplicates is None or piece.fingerprint is None:
        return True
    seen = duplicates.seen(piece.fingerprint)
    report.exact_duplicates += seen == "exact"
    report.near_duplicates += seen == "near"
    return seen is None


def _tasks(sources: Iterable[Source]) -> Iterator[list[Source]]:
    group: list[Source] = []
    size = 0
    for source in sources:
        group.append(source)
        size += source.num_bytes
        if size >= _TASK_BYTES or len(group) >= _TASK_FILES:
            yield group
            group, size = [], 0
    if group:
        yield group
