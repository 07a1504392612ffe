"""Zip files that hold a document: opened only when they unpack to a sane size."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator

from cllm.text.content import Content
from cllm.text.decompress import unpacked_limit
from cllm.text.document import SkipFile

# Parsed XML takes about ten times its size in memory.
MAX_MEMBER_BYTES = 64 << 20


@contextlib.contextmanager
def open_archive(content: Content, kind: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip file whose members' sizes have been checked.

    Raises: SkipFile when it is damaged, encrypted or a decompression bomb. (zipfile stops
    at the size a member declares, so a false declaration gains nothing.)
    """
    try:
        with content.seekable() as file, zipfile.ZipFile(file) as archive:
            _check(archive, content, kind)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise SkipFile(f"damaged: {str(error).lower()}", kind) from error


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
