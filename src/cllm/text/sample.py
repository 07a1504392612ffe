"""An even sample of the text file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cllm.text.split import Span

_READ_BYTES = 1 << 20
# A sample is made of stretches of this size, far enough apart to fill the limit.
_STRETCH_BYTES = 1 << 16


def sample_text(path: Path, spans: Sequence[Span], limit_bytes: int) -> Iterator[str]:
    """Text of the spans, all of it or `limit_bytes` taken evenly, in parts of up to 1 MiB.

    A part never crosses the border of a span; characters and, in a sample, lines are whole.
    """
    total = sum(span.end - span.start for span in spans)
    is_all = total <= limit_bytes
    stretch = min(_STRETCH_BYTES, max(limit_bytes // 8, 1))
    step = total / max(limit_bytes // stretch, 1)
    wanted, before = 0.0, 0
    with path.open("rb") as file:
        for span in spans:
            length = span.end - span.start
            if is_all:
                file.seek(span.start)
                yield from _characters(file.read(n) for n in _sizes(length))
            while not is_all and wanted < before + length:
                start = span.start + max(int(wanted) - before, 0)
                file.seek(start)
                data = file.read(min(stretch, span.end - start))
                yield _whole_lines(data, is_start=start == span.start)
                wanted += step
            before += length


def _sizes(length: int) -> Iterator[int]:
    for start in range(0, length, _READ_BYTES):
        yield min(_READ_BYTES, length - start)


def _characters(parts: Iterator[bytes]) -> Iterator[str]:
    """Decode parts, carrying a character that was cut over to the next."""
    rest = b""
    for part in parts:
        data = rest + part
        cut = len(data)
        while cut and cut > len(data) - 4 and not _is_whole(data[:cut]):
            cut -= 1
        rest = data[cut:]
        yield data[:cut].decode()


def _is_whole(data: bytes) -> bool:
    """Whether the end of `data` is the end of a character."""
    for length in range(1, 5):
        lead = data[-length] if length <= len(data) else 0
        if lead & 0xC0 != 0x80:
            return length == (1 + (lead >= 0xC0) + (lead >= 0xE0) + (lead >= 0xF0))
    return False


def _whole_lines(data: bytes, *, is_start: bool) -> str:
    first = 0 if is_start else data.find(b"\n") + 1
    last = data.rfind(b"\n") + 1
    return data[first : last if last > first else len(data)].decode("utf-8", "ignore")
