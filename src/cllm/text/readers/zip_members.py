"""Zip files that hold a document: opened only when they unpack to a sane size."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from cllm.text.content import Content
from cllm.text.decompress import unpacked_limit
from cllm.text.document import SkipFile

# Parsed XML takes about ten times its size in memory.
MAX_MEMBER_BYTES = 64 << 20
# A long book has some hundreds of members; zipfile takes 25 us and 600 bytes for each.
MAX_MEMBERS = 20_000
MAX_DIRECTORY_BYTES = 2 << 20

# The records at the end of a zip file (APPNOTE 6.3.10, sections 4.3.14 to 4.3.16).
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_COMMENT_BYTES = 1 << 16


@contextlib.contextmanager
def open_archive(content: Content, kind: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip file whose members' sizes have been checked.

    Raises: SkipFile when it is damaged, encrypted or a decompression bomb. (zipfile stops
    at the size a member declares, so a false declaration gains nothing.)
    """
    try:
        with content.seekable() as file, open_zip(file) as archive:
            _check(archive, content, kind)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise SkipFile(f"damaged: {str(error).lower()}", kind) from error


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Open a zip file whose directory is of a sane size, which zipfile reads as a whole.

    Raises: SkipFile for one with too many members, zipfile.BadZipFile.
    """
    num_members, num_bytes = _directory_size(file)
    if num_members > MAX_MEMBERS:
        reason = f"a zip file of {num_members:,} members, more than {MAX_MEMBERS:,}"
        raise SkipFile(reason, "archive")
    if num_bytes > MAX_DIRECTORY_BYTES:
        limit = f"more than {MAX_DIRECTORY_BYTES:,}"
        raise SkipFile(f"a zip file with a directory of {num_bytes:,} bytes, {limit}", "archive")
    return zipfile.ZipFile(file)


def _directory_size(file: BinaryIO) -> tuple[int, int]:
    """Members and bytes of the directory as zipfile finds it; none where it finds no end.

    Raises: zipfile.BadZipFile.
    """
    whole = file.seek(0, os.SEEK_END)
    start = max(whole - _END.size - _COMMENT_BYTES - _LOCATOR.size - _END64.size, 0)
    file.seek(start)
    tail = file.read()
    at = len(tail) - _END.size
    # As zipfile does: at the very end first, else before the longest comment there can be.
    if at < 0 or not tail.startswith(b"PK\x05\x06", at) or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\x05\x06", max(at - _COMMENT_BYTES, 0))
    if at < 0 or len(tail) < at + _END.size:
        return 0, 0
    num_members, num_bytes = _END.unpack_from(tail, at)[4:6]
    at -= _LOCATOR.size
    if at < 0 or not tail.startswith(b"PK\x06\x07", at):
        return num_members, num_bytes
    at -= _END64.size
    if at < 0 or not tail.startswith(b"PK\x06\x06", at):
        raise zipfile.BadZipFile("the 64-bit end of the directory is missing")
    num_members, num_bytes = _END64.unpack_from(tail, at)[7:9]
    return num_members, num_bytes


def _check(archive: zipfile.ZipFile, content: Content, kind: str) -> None:
    members = archive.infolist()
    total_bytes = sum(member.file_size for member in members)
    packed_bytes = sum(member.compress_size for member in members)
    limit = unpacked_limit(min(packed_bytes, content.num_bytes), content.max_file_bytes)
    if total_bytes > limit:
        raise SkipFile(f"unpacks to {total_bytes:,} bytes, more than {limit:,}", kind)
    if any(member.flag_bits & 1 for member in members):
        raise SkipFile("encrypted", kind)


def read_member(archive: zipfile.ZipFile, name: str, kind: str) -> bytes:
    """The bytes of one member. Raises: SkipFile when it is missing or too large."""
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise SkipFile(f"damaged: {name} is missing", kind) from None
    if member.file_size > MAX_MEMBER_BYTES:
        raise SkipFile(f"{name} in it unpacks to {member.file_size:,} bytes", kind)
    return archive.read(member)
