"""Packed files: each packing, nested ones, damaged ones, and bombs."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import random
from pathlib import Path

import pytest
import zstandard

from cllm.config import TextSettings
from cllm.text.content import Content
from cllm.text.document import SkipFile
from cllm.text.intake import read_source
from cllm.text.sources import Source


def _zstandard(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@functools.cache
def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": _xz, "zst": _zstandard}
WORDS = [f"word{number:04}" for number in range(3000)]
PROSE = " ".join(random.Random(1).choices(WORDS, k=150_000)).encode()


@pytest.mark.parametrize("suffix", PACKERS)
def test_each_packing_is_unpacked(read, suffix: str, sentence: str) -> None:
    packed = PACKERS[suffix](sentence.encode())
    (document,) = read(f"notes.md.{suffix}", packed)
    assert (document.text, document.kind) == (sentence, "markdown")
    assert document.num_bytes == len(sentence.encode())
    # The content tells the packing, whatever the name says.
    (document,) = read("notes.txt", packed)
    assert (document.text, document.kind) == (sentence, "text")


@pytest.mark.parametrize("suffix", PACKERS)
def test_large_and_joined_packed_files_are_whole(read, suffix: str) -> None:
    half = len(PROSE) // 2
    packed = PACKERS[suffix](PROSE[:half]) + PACKERS[suffix](PROSE[half:])
    text = "".join(document.text for document in read(f"a.{suffix}", packed))
    assert text.encode() == PROSE


def test_a_packing_within_a_packing(read, skip_of, sentence: str) -> None:
    twice = _zstandard(gzip.compress(sentence.encode()))
    assert read("a.txt.gz.zst", twice)[0].text == sentence
    packed = sentence.encode()
    for _ in range(6):
        packed = gzip.compress(packed)
    assert "packed" in skip_of("a.gz", packed).reason


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("share", [0.3, 0.999])
def test_a_truncated_packed_file_gives_nothing(skip_of, suffix: str, share: float) -> None:
    packed = PACKERS[suffix](PROSE)
    skip = skip_of(f"a.{suffix}", packed[: int(share * len(packed))])
    assert "damaged" in skip.reason


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_an_altered_packed_file_gives_nothing(skip_of, suffix: str) -> None:
    packed = bytearray(PACKERS[suffix](PROSE))
    packed[len(packed) // 2] ^= 0xFF
    assert "damaged" in skip_of(f"a.{suffix}", bytes(packed)).reason


def _bomb(suffix: str, letter: bytes, num_mebibytes: int) -> bytes:
    if suffix == "zst":
        packer = zstandard.ZstdCompressor(level=1).compressobj()
    elif suffix == "xz":
        packer = lzma.LZMACompressor(preset=0)
    elif suffix == "bz2":
        packer = bz2.BZ2Compressor(1)
    else:
        return gzip.compress(letter * (num_mebibytes << 20), 1)
    block = letter * (1 << 20)
    return b"".join(packer.compress(block) for _ in range(num_mebibytes)) + packer.flush()


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst"])
def test_a_bomb_is_refused_before_it_gives_text(skip_of, suffix: str) -> None:
    skip = skip_of(f"bomb.{suffix}", _bomb(suffix, b"a", 80))
    assert "bomb" in skip.reason


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_file_beyond_the_limit_is_refused(skip_of, suffix: str) -> None:
    skip = skip_of(f"a.{suffix}", PACKERS[suffix](PROSE), max_file_bytes=len(PROSE) - 1)
    assert "max-file-bytes" in skip.reason
    assert "max-file-bytes" in skip_of("a.txt", PROSE, max_file_bytes=1000).reason


def test_a_bomb_takes_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "bomb.zst"
    path.write_bytes(_bomb("zst", b"\n", 200))
    tracemalloc.start()
    with pytest.raises(SkipFile):
        list(read_source(Source(path, "bomb"), TextSettings()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 << 20


def test_a_zstandard_file_that_asks_for_gigabytes_is_refused(skip_of) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(PROSE) + packer.flush()
    assert "damaged" in skip_of("a.zst", packed).reason


def test_archives_are_named_as_such(skip_of, make_zip, tmp_path: Path) -> None:
    import tarfile

    inner = tmp_path / "inner.txt"
    inner.write_text("text")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.add(inner)
    assert "tar" in skip_of("b.tar.gz", (tmp_path / "a.tgz").read_bytes()).reason
    assert "zip" in skip_of("a.zip", make_zip({"a.txt": b"text"})).reason
    assert "Excel" in skip_of("a.xlsx", make_zip({"xl/workbook.xml": b"<x/>"})).reason


def test_content_can_be_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(PROSE))
    content = Content(path, max_file_bytes=1 << 30)
    assert content.name == "a.txt"
    assert b"".join(content.blocks()) == b"".join(content.blocks()) == PROSE
    with content.seekable() as file:
        assert file.read() == PROSE
