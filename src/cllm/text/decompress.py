"""Unpacking .gz, .bz2, .xz and .zst as a stream, told by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from typing import Any, BinaryIO, Protocol, cast, runtime_checkable

MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}
SUFFIXES = {".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd"}
# Text rarely packs better than 30:1; a packed file may be this much larger unpacked ...
MAX_RATIO = 100
# ... or this large, whatever its ratio.
RATIO_FLOOR_BYTES = 64 << 20
# The largest dictionary that `xz -9` and `zstd --ultra --long=27` ask for, with some room.
MEMORY_BYTES = 192 << 20
WINDOW_BYTES = 128 << 20

DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, ValueError)


@runtime_checkable
class Readable(Protocol):
    """What can be read from: the part of a binary file that unpacking needs."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


def packing_of(head: bytes) -> str | None:
    """The packing that `head`, a file's first bytes, announces."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def unpacked_limit(packed_bytes: int, max_file_bytes: int) -> int:
    """The most bytes that a packed file of this size may unpack to before it is refused."""
    return min(max_file_bytes, max(RATIO_FLOOR_BYTES, MAX_RATIO * packed_bytes))


def unpack(stream: Readable, packing: str) -> Readable:
    """A stream of the unpacked bytes of `stream`, in bounded memory.

    Its `read` raises one of `DAMAGED` when the file is truncated or altered.
    """
    file = cast("BinaryIO", stream)
    if packing == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")
    if packing == "bzip2":
        return bz2.BZ2File(file)
    if packing == "xz":
        return _XzStream(stream)
    return _ZstandardStream(stream)


class _XzStream:
    """Like `lzma.LZMAFile`, which can't be told how much memory a file may ask for."""

    def __init__(self, packed: Readable) -> None:
        self._packed = packed
        self._decoder = self._new_decoder()
        self._is_started = False

    @staticmethod
    def _new_decoder() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_BYTES)

    def read(self, size: int, /) -> bytes:
        while True:
            data = b""
            if self._decoder.eof:
                data = self._decoder.unused_data.lstrip(b"\x00") or self._packed.read(1 << 16)
                if not data.strip(b"\x00"):
                    return b""
                self._decoder = self._new_decoder()
            elif self._decoder.needs_input:
                data = self._packed.read(1 << 16)
                if not data:
                    raise EOFError("it ends too early")
            unpacked = self._decoder.decompress(data, size)
            if unpacked:
                return unpacked


class _ZstandardStream:
    """Like zstandard's own reader, which takes a truncated file for a complete one."""

    # A kilobyte of zstandard unpacks to at most 32 MiB, so this bounds the memory.
    _STEP_BYTES = 1 << 10

    def __init__(self, packed: Readable) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
        self._packed = packed
        self._input = memoryview(b"")
        self._frame: Any = None
        self._output = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        try:
            while not self._output and self._advance():
                pass
        except self._error as error:
            raise ValueError(str(error)) from error
        taken, self._output = bytes(self._output[:size]), self._output[size:]
        return taken

    def _advance(self) -> bool:
        """Unpack a little more; false at the end of the file."""
        if not self._input:
            self._input = memoryview(self._packed.read(1 << 20))
            if not self._input:
                if self._frame is not None:
                    raise EOFError("it ends too early")
                return False
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        step, self._input = self._input[: self._STEP_BYTES], self._input[self._STEP_BYTES :]
        self._output = memoryview(self._frame.decompress(step))
        if self._frame.eof:
            rest = self._frame.unused_data
            self._input = memoryview(rest + bytes(self._input)) if rest else self._input
            self._frame = None
        return True
