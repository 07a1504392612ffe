"""The bytes of one file: unpacked, bounded, and readable from the start as often as needed."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from cllm.text.decompress import DAMAGED, SUFFIXES, Readable, packing_of, unpack, unpacked_limit
from cllm.text.document import SkipFile

HEAD_BYTES = 1 << 20
BLOCK_BYTES = 4 << 20
_MAX_PACKINGS = 3
# A PDF, DOCX or EPUB up to this size is held in memory; a larger packed one goes to disk.
_SPOOL_BYTES = 16 << 20


class Content:
    """One file's unpacked bytes: `head` is the beginning, `blocks` all of them, streamed.

    `name` is the file's own without the suffix of its packing. Memory: one block.
    Raises: SkipFile when the file has vanished, can't be read, is no file or is too large.
    """

    def __init__(self, path: Path, *, max_file_bytes: int, name: str | None = None) -> None:
        self.path = path
        with _skipping():
            status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SkipFile("not a regular file", "special")
        self.num_bytes = status.st_size
        if self.num_bytes > max_file_bytes:
            allowed = f"{max_file_bytes:,} bytes, see text.max-file-bytes"
            raise SkipFile(f"too large: {self.num_bytes:,} of at most {allowed}")
        self.max_file_bytes = max_file_bytes
        self.packings: tuple[str, ...] = ()
        self.name = name if name is not None else path.name
        self.head = self._read_head()
        while (packing := packing_of(self.head)) is not None:
            if len(self.packings) == _MAX_PACKINGS:
                raise SkipFile(f"packed more than {_MAX_PACKINGS} times over", packing)
            self.packings += (packing,)
            if Path(self.name).suffix.lower() in SUFFIXES:
                self.name = Path(self.name).stem
            self.head = self._read_head()
        self.is_whole = len(self.head) < HEAD_BYTES

    def _read_head(self) -> bytes:
        head = b""
        with contextlib.closing(self.blocks(HEAD_BYTES)) as blocks:
            for block in blocks:
                head += block
                if len(head) >= HEAD_BYTES:
                    break
        return head[:HEAD_BYTES]

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Generator[bytes, None, None]:
        """The unpacked bytes from the start, in blocks of at most `block_bytes`.

        Raises: SkipFile when the file is damaged, unpacks to too much or stops being readable.
        """
        kind = self.packings[0] if self.packings else "unknown"
        limit = self.max_file_bytes
        if self.packings:
            limit = unpacked_limit(self.num_bytes, limit)
        num_unpacked = 0
        with _skipping(kind), self.path.open("rb", buffering=0) as file:
            stream: Readable = cast("Readable", file)
            for packing in self.packings:
                stream = unpack(stream, packing)
            while block := stream.read(block_bytes):
                num_unpacked += len(block)
                if num_unpacked > limit:
                    raise SkipFile(self._too_much(limit), kind)
                yield block

    def _too_much(self, limit: int) -> str:
        size = f"{self.num_bytes:,} bytes"
        if limit == self.max_file_bytes:
            return f"unpacks from {size} to more than {limit:,}; see text.max-file-bytes"
        return f"unpacks from {size} to more than {limit:,}: not text but a decompression bomb"

    @contextlib.contextmanager
    def seekable(self) -> Iterator[BinaryIO]:
        """The unpacked bytes as one file that can be read at any place."""
        if not self.packings:
            with _skipping(), self.path.open("rb") as file:
                yield file
        elif self.is_whole:
            yield io.BytesIO(self.head)
        else:
            with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
                for block in self.blocks():
                    spool.write(block)
                spool.seek(0)
                yield cast("BinaryIO", spool)

    def whole(self, limit_bytes: int) -> bytes:
        """All bytes at once. Raises: SkipFile when there are more than `limit_bytes`."""
        if self.is_whole:
            return self.head
        parts, total = [], 0
        for block in self.blocks():
            total += len(block)
            if total > limit_bytes:
                raise SkipFile(f"larger than {limit_bytes >> 20} MiB, too large for its type")
            parts.append(block)
        return b"".join(parts)


@contextlib.contextmanager
def _skipping(kind: str = "unknown") -> Iterator[None]:
    """Turn what the operating system or an unpacker refuses into the reason for a skip."""
    try:
        yield
    except FileNotFoundError as error:
        raise SkipFile("vanished before it could be read", kind) from error
    except DAMAGED as error:
        raise SkipFile(f"damaged {kind} file: {_lower(error)}", kind) from error
    except OSError as error:
        if error.errno is None:
            raise SkipFile(f"damaged {kind} file: {_lower(error)}", kind) from error
        reason = os.strerror(error.errno).lower()
        raise SkipFile(f"can't be read: {reason}", kind) from error


def _lower(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text[:1].lower() + text[1:]
