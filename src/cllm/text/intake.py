"""Reading one source: its bytes, its type, its reader, its clean documents."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Protocol, cast, runtime_checkable

from cllm.config import TextSettings
from cllm.text.clean import clean_text
from cllm.text.content import Content
from cllm.text.detect import detect_kind
from cllm.text.document import Document, Skip, SkipFile
from cllm.text.encodings import PIECE_BYTES, split_utf8
from cllm.text.readers.raw import BadRecords, RawText
from cllm.text.report import IntakeReport, KindCount
from cllm.text.sources import Source

__all__ = ["IntakeReport", "KindCount", "SkipFile", "read_counted", "read_source"]

# Readers by kind. They are imported when first needed: some take longer than a small file.
_READERS = {
    "text": "plain",
    "rst": "plain",
    "code": "plain",
    "markdown": "markdown",
    "html": "web_page",
    "pdf": "pdf",
    "docx": "word",
    "epub": "epub",
    "jsonl": "json_lines",
    "csv": "table",
}


@runtime_checkable
class _Reader(Protocol):
    def read(self, content: Content, settings: TextSettings) -> Iterator[RawText | BadRecords]: ...


def read_source(
    source: Source,
    settings: TextSettings,
    *,
    clean: bool = True,
    report: IntakeReport | None = None,
) -> Iterator[Document]:
    """Yield the documents of one file, cleaned, a piece at a time.

    Text and packed files are checked to their end before the first document comes, so that
    a skip leaves nothing half-read; JSON Lines and tables only count their bad records. With
    `report`, the file, its documents and bad records are counted there (skips are not).
    Memory: a few pieces of 4 MiB; PDF, DOCX, EPUB and HTML as much as their parsers take.
    Raises: SkipFile.
    """
    kind = "unknown"
    try:
        content = Content(source.path, max_file_bytes=settings.max_file_bytes)
        if not content.head:
            raise SkipFile("empty", "empty")
        kind = detect_kind(content)
        if report is not None:
            report.row(kind)
        num_documents = 0
        for raw in _reader(kind).read(content, settings):
            if isinstance(raw, BadRecords):
                if report is not None:
                    report.add_bad_records(Skip(source.name, kind, raw.reason, raw.num_bytes))
                continue
            for document in _documents(raw, source.name, kind, clean=clean):
                num_documents += 1
                if report is not None:
                    report.add_document(document)
                yield document
        if not num_documents:
            raise SkipFile("no text in it", kind)
    except SkipFile as skip:
        raise SkipFile(skip.reason, kind if skip.kind == "unknown" else skip.kind) from skip
    if report is not None:
        report.add_file(kind)


def read_counted(
    source: Source, settings: TextSettings, report: IntakeReport, *, clean: bool = True
) -> Iterator[Document]:
    """As `read_source`, but a skip is counted in `report` instead of raised."""
    try:
        yield from read_source(source, settings, clean=clean, report=report)
    except SkipFile as skip:
        report.add_skip(Skip(source.name, skip.kind, skip.reason, source.num_bytes))


def _reader(kind: str) -> _Reader:
    return cast("_Reader", importlib.import_module(f"cllm.text.readers.{_READERS[kind]}"))


def _documents(raw: RawText, name: str, kind: str, *, clean: bool) -> Iterator[Document]:
    name += raw.mark
    if raw.num_bytes <= PIECE_BYTES:
        text = clean_text(raw.text) if clean else raw.text
        # A first piece of white space alone is no document, but within a long one it is text.
        if raw.is_continuation or not (text == "" or text.isspace()):
            yield Document(text, name, kind, raw.num_bytes, raw.is_continuation)
        return
    is_continuation = raw.is_continuation
    for piece in split_utf8([raw.text.encode("utf-8", "surrogatepass")]):
        text = piece.decode("utf-8", "surrogatepass")
        text = clean_text(text) if clean else text
        yield Document(text, name, kind, len(piece), is_continuation)
        is_continuation = True
