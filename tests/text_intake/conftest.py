"""What the tests of reading share: files made on the spot, and minimal PDFs by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cllm.config import TextSettings
from cllm.text.document import Document
from cllm.text.intake import IntakeReport, SkipFile, read_source
from cllm.text.sources import Source

SENTENCE = "It was the best of times, it was the worst of times, it was the age of wisdom. "


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[Document]]:
    def read_bytes(name: str, data: bytes, clean: bool = True, **settings) -> list[Document]:
        path = tmp_path / name
        path.write_bytes(data)
        source = Source(path, name, len(data))
        return list(read_source(source, TextSettings(**settings), clean=clean))

    return read_bytes


@pytest.fixture
def skip_of(read) -> Callable[..., SkipFile]:
    def skip(name: str, data: bytes, **settings) -> SkipFile:
        with pytest.raises(SkipFile) as caught:
            read(name, data, **settings)
        assert caught.value.reason
        return caught.value

    return skip


@pytest.fixture
def report_of(tmp_path: Path) -> Callable[..., IntakeReport]:
    def report(name: str, data: bytes, **settings) -> IntakeReport:
        path = tmp_path / name
        path.write_bytes(data)
        counts = IntakeReport()
        list(read_source(Source(path, name), TextSettings(**settings), report=counts))
        return counts

    return report


def _stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def _page_stream(lines: list[str]) -> bytes:
    shown = [line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in lines]
    body = "".join(f"({line}) Tj T*\n" for line in shown)
    return _stream(f"BT /F1 11 Tf 13 TL 72 740 Td\n{body}ET".encode("cp1252"))


@pytest.fixture
def make_pdf() -> Callable[..., bytes]:
    """Builds a PDF of pages of lines; `streams` replaces the pages' content streams."""

    def build(pages: list[list[str]], streams: list[bytes] | None = None) -> bytes:
        streams = streams or [_page_stream(lines) for lines in pages]
        kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(streams)))
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>".encode(),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        ]
        for index, stream in enumerate(streams):
            objects.append(
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
                b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * index)
            )
            objects.append(stream)
        out, offsets = b"%PDF-1.4\n", []
        for number, body in enumerate(objects, 1):
            offsets.append(len(out))
            out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        size = len(objects) + 1
        return (
            out
            + b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
            + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(out))
        )

    return build


@pytest.fixture
def make_stream() -> Callable[..., bytes]:
    return _stream


@pytest.fixture
def make_zip() -> Callable[[dict[str, bytes]], bytes]:
    def build(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    return build


@pytest.fixture
def sentence() -> str:
    return SENTENCE
