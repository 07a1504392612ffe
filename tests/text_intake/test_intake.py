"""Reading one source: its kind, its bytes, what is refused, and the report."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cllm.config import TextSettings
from cllm.text.document import Document, Skip, SkipFile
from cllm.text.intake import IntakeReport, read_counted, read_source
from cllm.text.sources import Source, find_sources

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(50)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", b"text\n", "text"),
        ("README", b"text\n", "text"),
        ("a.md", b"# text\n", "markdown"),
        ("a.rst", b"Title\n=====\n", "rst"),
        ("a.py", b"print('x')\n", "code"),
        ("Makefile", b"all:\n\techo\n", "code"),
        ("run", b"#!/bin/sh\necho\n", "code"),
        ("a.html", b"no markup in here\n", "text"),
        ("a.jsonl", b"not json at all\n", "text"),
        ("a.py", b"<!doctype html><html><body><p>A page that lost its name</p></body>", "html"),
    ],
)
def test_kinds_by_content_then_name(read, name: str, data: bytes, kind: str) -> None:
    assert read(name, data)[0].kind == kind


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (PNG, "PNG"),
        (b"\xff\xd8\xff\xe0" + random.Random(7).randbytes(50), "JPEG"),
        (b"\x7fELF\x02\x01\x01" + bytes(50), "program"),
        (b"SQLite format 3\x00" + bytes(50), "SQLite"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "Office"),
        (b"RIFF\x00\x00\x00\x00WEBP" + bytes(50), "image"),
        (b"{\\rtf1 text}", "RTF"),
    ],
)
def test_binary_files_called_txt_are_named(skip_of, data: bytes, word: str) -> None:
    skip = skip_of("a.txt", data)
    assert word in skip.reason
    assert skip.kind == "binary"


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
def test_empty_files_are_left_out(skip_of, data: bytes) -> None:
    assert skip_of("a.txt", data)


def test_bytes_counted_are_the_files_own(read, tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + "Zeile\r\nzwei — ende\x00\r\n".encode()
    (document,) = read("a.txt", data)
    assert document.num_bytes == len(data)
    assert document.text == "Zeile\nzwei — ende\n"
    (raw,) = read("a.txt", data, clean=False)
    assert raw.text == "\ufeffZeile\r\nzwei — ende\x00\r\n"


def test_a_large_file_comes_in_pieces_that_join_to_it(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("".join(f"line {number} é\n" for number in range(800_000)))
    documents = list(read_source(Source(path, "large"), TextSettings()))
    assert "".join(document.text for document in documents) == path.read_text()
    assert [document.is_continuation for document in documents] == [False] + [True] * (
        len(documents) - 1
    )
    assert sum(document.num_bytes for document in documents) == path.stat().st_size


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_an_enormous_line_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    with path.open("wb") as file:
        for _ in range(120):
            file.write(b"word " * 200_000)
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from cllm.config import TextSettings\n"
        "from cllm.text.intake import read_source\n"
        "from cllm.text.sources import Source\n"
        "source = Source(Path(sys.argv[1]), 'line')\n"
        "sizes = [len(document.text) for document in read_source(source, TextSettings())]\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(sum(sizes), max(sizes), re.search('VmHWM:[^0-9]*([0-9]+)', status)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    total, largest, peak_kibibytes = map(int, done.stdout.split())
    assert total == path.stat().st_size
    assert largest <= 4 << 20
    assert peak_kibibytes < 120 << 10


def test_long_records_come_in_pieces_too(read) -> None:
    text = "word " * 1_500_000
    documents = read("a.jsonl", json.dumps({"text": text}).encode())
    assert "".join(document.text for document in documents) == text
    assert [document.is_continuation for document in documents] == [False, True]


def test_a_file_that_vanishes_or_is_none_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    (source,), _ = find_sources([tmp_path], TextSettings())
    path.unlink()
    with pytest.raises(SkipFile, match="vanished"):
        list(read_source(source, TextSettings()))
    path.mkdir()
    with pytest.raises(SkipFile, match="not a regular file"):
        list(read_source(source, TextSettings()))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (source,), _ = find_sources([tmp_path], TextSettings())
    with pytest.raises(SkipFile, match="not a regular file"):
        list(read_source(source, TextSettings()))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    path.chmod(0)
    with pytest.raises(SkipFile, match="permission"):
        list(read_source(Source(path, "a"), TextSettings()))


def test_the_report_counts_what_was_read_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("grüße\n")
    (tmp_path / "b.txt").write_bytes(PNG)
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n{"text": "two"}\nbad\n')
    sources, _ = find_sources([tmp_path], TextSettings())
    report = IntakeReport()
    texts = [
        document.text
        for source in sources
        for document in read_counted(source, TextSettings(), report)
    ]
    assert texts == ["grüße\n", "one", "two"]
    text, records = report.rows["text"], report.rows["jsonl"]
    assert (text.files_read, text.documents, text.num_bytes, text.num_characters) == (1, 1, 8, 6)
    assert (records.files_read, records.documents, records.num_characters) == (1, 2, 6)
    assert report.rows["binary"].files_skipped == 1
    assert [Path(skip.source).name for skip in report.skipped] == ["b.txt", "c.jsonl"]
    assert report.skipped[0].num_bytes == len(PNG)


def test_reports_merge_and_survive_json_and_pickle() -> None:
    one, two = IntakeReport(exact_duplicates=1), IntakeReport(near_duplicates=2)
    one.add_file("text")
    one.add_document(Document("abc", "a", "text", 3))
    two.add_document(Document("é", "a", "text", 2, is_continuation=True))
    two.add_skip(Skip("b", "binary", "binary: PNG image", 9))
    one.merge(two)
    assert IntakeReport.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert pickle.loads(pickle.dumps(one)) == one
    row = one.rows["text"]
    assert (row.files_read, row.documents, row.num_bytes, row.num_characters) == (1, 1, 5, 4)
    assert (one.exact_duplicates, one.near_duplicates) == (1, 2)


def test_reading_plain_text_loads_no_heavy_library() -> None:
    script = (
        "import sys, cllm.text.intake, cllm.text.duplicates\n"
        "heavy = 'torch trafilatura pypdfium2 docx charset_normalizer lxml rensa'.split()\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "data",
    [
        b"<!-- a -->\n" * 3000 + b"text",
        b"---\r\nkey: value\r\n" + b"line\r\n" * 5000,
        b"---\n" + b"\n" * 5000,
        b"<html>" + b"<script>" * 20_000,
        b"{" * 60_000,
    ],
)
@pytest.mark.parametrize("name", ["a.md", "a.html", "a.txt"])
def test_files_made_to_be_slow_are_not(read, name: str, data: bytes) -> None:
    try:
        assert read(name, data)
    except SkipFile as skip:
        assert skip.reason
