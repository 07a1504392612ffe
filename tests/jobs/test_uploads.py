"""What is handed in is typed by its content, and refused where nothing reads it."""

import gzip
import io
import zipfile

import pytest

from cllm.errors import InputError, NoTextError, NotFoundError
from cllm.jobs import uploads
from cllm.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def hand_in(workspace, name, data, **options):
    with uploads.begin_upload(workspace, name, **options) as coming:
        for start in range(0, len(data), 7):
            coming.write(data[start : start + 7])
    return coming.record


def zipped(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", b"some text", "text"),
        ("a.pdf", b"plain words", "text"),
        ("picture.png", b"%PDF-1.7 and so on", "pdf"),
        ("a", b"<!doctype html><p>x", "html"),
        ("a.txt", b'{"text": "x"}\n{"text": "y"}\n', "jsonl"),
        ("a.py", b"print()", "code"),
        ("a.txt.gz", gzip.compress(b"packed text", mtime=0), "text"),
        ("a.docx", zipped("word/document.xml"), "docx"),
    ],
)
def test_the_content_says_what_it_is(workspace, name, data, kind):
    record = hand_in(workspace, name, data)
    assert (record.kind, record.num_bytes) == (kind, len(data))
    assert record.path.read_bytes() == data
    assert uploads.upload_path(workspace, record.id) == record.path
    assert uploads.list_uploads(workspace) == [record]
    assert "path" not in uploads.describe_upload(record)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n....", "PNG"),
        ("a.txt", b"\x7fELF....", "program"),
        ("a.txt", zipped("xl/workbook.xml"), "Excel"),
        ("a.txt", b"", "empty"),
    ],
)
def test_what_nothing_reads_is_refused_and_removed(workspace, name, data, why):
    with pytest.raises(InputError, match=why):
        hand_in(workspace, name, data)
    assert list(workspace.uploads.root.iterdir()) == []


def test_a_model_must_be_a_gguf_file(workspace):
    assert hand_in(workspace, "m.gguf", b"GGUF\x03...", purpose="model").kind == "gguf"
    with pytest.raises(InputError, match="not a GGUF"):
        hand_in(workspace, "m.gguf", b"no model", purpose="model")
    with pytest.raises(InputError, match="GGUF"):
        hand_in(workspace, "m.txt", b"GGUF\x03...")


def test_the_limit_holds_while_bytes_come(workspace):
    with pytest.raises(InputError, match="larger than 20 bytes"):
        hand_in(workspace, "a.txt", b"x" * 1000, limit_bytes=20)
    assert list(workspace.uploads.root.iterdir()) == []


def test_a_break_in_the_middle_leaves_nothing(workspace):
    with (
        pytest.raises(ConnectionError),
        uploads.begin_upload(workspace, "a.txt") as coming,
    ):
        coming.write(b"half of")
        raise ConnectionError
    assert list(workspace.uploads.root.iterdir()) == []


def test_pasted_text_is_a_file_like_any_other(workspace):
    record = uploads.save_text(workspace, "Märchen\ud83d und mehr")
    assert record.path.read_text(encoding="utf-8") == "Märchen? und mehr"
    uploads.remove_upload(workspace, record.id)
    with pytest.raises(NotFoundError):
        uploads.upload_path(workspace, record.id)
    with pytest.raises(NoTextError):
        uploads.save_text(workspace, " \n ")
    assert uploads.purge_uploads(workspace, days=0.0) == 0
