"""The lines of a text file, in memory that one endless line can't exhaust."""

from __future__ import annotations

from collections.abc import Iterator

from cllm.text.content import Content
from cllm.text.encodings import Encoding, utf8_blocks

# A record longer than this is hardly text, and parsing it takes several times its size.
MAX_LINE_BYTES = 32 << 20


def text_lines(content: Content, encoding: Encoding) -> Iterator[str | None]:
    """Yield each line without its end; None stands for one above `MAX_LINE_BYTES`.

    Lines end with LF or CRLF, or with CR where the file's beginning has no LF at all.
    """
    is_old_mac = b"\n" not in content.head and b"\r" in content.head
    parts: list[bytes] = []
    num_bytes = 0
    is_first = True
    for block in utf8_blocks(content, encoding):
        *ended, rest = (block.replace(b"\r", b"\n") if is_old_mac else block).split(b"\n")
        for line in ended:
            line_bytes = num_bytes + len(line)
            yield _line(b"".join([*parts, line]), encoding, is_first, line_bytes)
            parts, num_bytes, is_first = [], 0, False
        num_bytes += len(rest)
        if num_bytes <= MAX_LINE_BYTES:
            parts.append(rest)
        else:
            parts = []
    if num_bytes:
        yield _line(b"".join(parts), encoding, is_first, num_bytes)


def _line(data: bytes, encoding: Encoding, is_first: bool, num_bytes: int) -> str | None:
    if num_bytes > MAX_LINE_BYTES:
        return None
    if is_first:
        data = data.removeprefix(b"\xef\xbb\xbf")
    return data.removesuffix(b"\r").decode("utf-8", encoding.errors)
