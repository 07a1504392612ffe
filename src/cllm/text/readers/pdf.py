"""PDF: the text layer, page by page, without page furniture."""

from __future__ import annotations

import contextlib
import mmap
import re
import zlib
from collections.abc import Iterator
from typing import Any

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.decompress import unpacked_limit
from cllm.text.document import SkipFile
from cllm.text.readers.page_furniture import join_broken_words, strip_furniture
from cllm.text.readers.raw import RawText

# Below this many characters a page, what text there is comes from stamps on scanned images.
_MIN_PAGE_CHARACTERS = 8
_STREAM = re.compile(rb"stream\r?\n(?=[\x08\x18\x28\x38\x48\x58\x68\x78])")
_STEP_BYTES = 1 << 20


def read(content: Content, settings: TextSettings) -> Iterator[RawText]:
    """Yield the document's text with words joined that line ends have cut.

    Raises: SkipFile when it is damaged, encrypted, a bomb, or has no text layer (scanned).
    """
    del settings
    import pypdfium2

    with content.seekable() as file:
        with _mapped(file) as data:
            _refuse_bomb(data, unpacked_limit(content.num_bytes, content.max_file_bytes))
        file.seek(0)
        try:
            document = pypdfium2.PdfDocument(file)
        except pypdfium2.PdfiumError as error:
            raise SkipFile(_reason(error), "pdf") from error
        try:
            pages = [_page_text(document, index) for index in range(len(document))]
        except pypdfium2.PdfiumError as error:
            raise SkipFile(_reason(error), "pdf") from error
        finally:
            document.close()
    if not pages:
        raise SkipFile("damaged: no pages in it", "pdf")
    if sum(len(page.strip()) for page in pages) < _MIN_PAGE_CHARACTERS * len(pages):
        raise SkipFile("scanned: it has no text layer", "pdf")
    text = "\n".join(filter(None, strip_furniture(pages)))
    yield RawText.of(join_broken_words(text) + "\n")


def _page_text(document: Any, index: int) -> str:
    page = document[index]
    try:
        text_page = page.get_textpage()
        try:
            text: str = text_page.get_text_range()
        finally:
            text_page.close()
    finally:
        page.close()
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _reason(error: Exception) -> str:
    text = str(error)
    return "encrypted: it needs a password" if "assword" in text else f"damaged: {text}"


@contextlib.contextmanager
def _mapped(file: Any) -> Iterator[bytes | mmap.mmap]:
    """All bytes of an open file; those on disk stay there."""
    try:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        yield file.read()
        return
    with mapping:
        yield mapping


def _refuse_bomb(data: bytes | mmap.mmap, limit: int) -> None:
    """Unpack every deflated stream, keeping nothing, before PDFium keeps it all."""
    num_unpacked = 0
    for match in _STREAM.finditer(data):
        filters = data[max(0, match.start() - 400) : match.start()].rsplit(b"obj", 1)[-1]
        depth = max(1, filters.count(b"/FlateDecode") + filters.count(b"/Fl "))
        num_unpacked += _unpacked_bytes(data, match.end(), depth, limit - num_unpacked)
        if num_unpacked > limit:
            raise SkipFile(f"unpacks to more than {limit:,} bytes", "pdf")


def _unpacked_bytes(data: bytes | mmap.mmap, start: int, depth: int, limit: int) -> int:
    """Bytes that the deflated stream at `start` unpacks to, through `depth` layers.

    Stops above `limit`. Damage ends the count: PDFium reads no further either.
    """
    layers = [zlib.decompressobj() for _ in range(depth)]
    total = 0
    for offset in range(start, len(data), _STEP_BYTES):
        parts: Iterator[bytes] = iter([data[offset : offset + _STEP_BYTES]])
        for layer in layers:
            parts = _inflated(layer, parts)
        try:
            for part in parts:
                total += len(part)
                if total > limit:
                    return total
        except zlib.error:
            return total
        if layers[0].eof:
            break
    return total


def _inflated(layer: Any, parts: Iterator[bytes]) -> Iterator[bytes]:
    for part in parts:
        rest = part
        while rest and not layer.eof:
            unpacked = layer.decompress(rest, _STEP_BYTES)
            rest = layer.unconsumed_tail
            if unpacked:
                yield unpacked
