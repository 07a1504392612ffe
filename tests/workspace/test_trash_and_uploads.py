"""The trash, what was handed in, and what is remembered."""

import errno
import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.errors import InputError, NotFoundError, StorageError
from cllm.workspace import uploads as files
from cllm.workspace.names import is_name
from cllm.workspace.uploads import safe_file_name
from cllm.workspace.workspace import Workspace

ODD_IDS = ["", ".", "..", "../models", "/etc", "a" * 32, "A" * 32, "0" * 31, "0" * 32 + "/.."]


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def make_folder(workspace, name):
    folder = workspace.home / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_goes_to_the_trash_and_comes_back(workspace):
    folder = make_folder(workspace, "m")
    entry = workspace.trash.put("model", "m", folder)
    assert not folder.exists()
    assert (entry.what, entry.name, entry.num_bytes) == ("model", "m", 2)
    assert list(workspace.trash.list()) == [entry]
    workspace.trash.take(entry.id, folder)
    assert (folder / "config.json").read_text() == "{}"
    assert list(workspace.trash.list()) == []
    assert list(workspace.trash.root.iterdir()) == []


def test_the_trash_is_emptied_by_age(workspace):
    old = workspace.trash.put("model", "a", make_folder(workspace, "a"))
    assert workspace.trash.purge(days=1.0) == 0
    assert workspace.trash.purge(days=0.0) == 1
    with pytest.raises(NotFoundError):
        workspace.trash.get(old.id)
    assert list(workspace.trash.root.iterdir()) == []


def test_what_a_living_process_borrows_is_neither_shown_nor_removed(workspace):
    folder = make_folder(workspace, "a")
    lent = workspace.trash.put("model", "a", folder, lender=os.getpid())
    assert list(workspace.trash.list()) == []
    assert workspace.trash.purge(days=0.0) == workspace.trash.remove([lent.id]) == 0
    assert workspace.trash.get(lent.id) == lent
    assert list(workspace.trash.lent()) == [(lent, os.getpid())]
    workspace.trash.settle(lent.id)
    assert list(workspace.trash.list()) == [lent]
    assert list(workspace.trash.lent()) == []


def test_what_a_dead_process_has_borrowed_is_shown(workspace):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    entry = workspace.trash.put("model", "a", make_folder(workspace, "a"), lender=child.pid)
    assert list(workspace.trash.list()) == [entry]
    assert workspace.trash.purge(days=0.0) == 1


def test_only_the_entries_that_are_named_are_removed(workspace):
    one, other = (workspace.trash.put("model", n, make_folder(workspace, n)) for n in "ab")
    assert workspace.trash.remove([one.id, "../models", "0" * 32]) == 1
    assert list(workspace.trash.list()) == [other]


def test_a_link_to_a_folder_elsewhere_comes_back_as_one(workspace):
    far = workspace.home / "far"
    far.mkdir(parents=True)
    (far / "config.json").write_text("{}")
    link = workspace.home / "models" / "linked"
    link.parent.mkdir()
    link.symlink_to("../far")
    entry = workspace.trash.put("model", "linked", link)
    assert not link.is_symlink()
    assert list(workspace.trash.list()) == [entry]
    workspace.trash.take(entry.id, link)
    assert link.is_symlink() and (link / "config.json").read_text() == "{}"
    entry = workspace.trash.put("model", "linked", link)
    assert workspace.trash.purge(days=0.0) == 1
    assert (far / "config.json").read_text() == "{}"


@pytest.mark.parametrize("odd", ODD_IDS)
def test_an_id_never_becomes_another_path(workspace, odd):
    make_folder(workspace, "m")
    for call in (workspace.trash.get, workspace.uploads.get, workspace.uploads.remove):
        with pytest.raises(NotFoundError):
            call(odd)
    assert (workspace.home / "models" / "m").is_dir()


@given(st.text(max_size=80))
def test_any_name_becomes_a_safe_one(name):
    safe = safe_file_name(name)
    stem, _, suffix = safe.rpartition(".")
    assert is_name(stem or safe) or is_name(safe)
    assert safe.isascii() and "/" not in safe and "\\" not in safe and not safe.startswith(".")
    assert len(suffix if stem else "") <= 64


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Notes.TXT", "Notes.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a b.md", "a-b.md"),
        (".bashrc", "bashrc"),
        ("con.txt", "text-con.txt"),
        ("Märchen.epub", "Marchen.epub"),
        ("雨.txt", "text.txt"),
        ("", "text"),
        ("a.tar.gz", "a.tar.gz"),
    ],
)
def test_names_as_people_have_them(name, safe):
    assert safe_file_name(name) == safe


def test_a_file_is_found_once_it_is_whole(workspace):
    store = workspace.uploads
    arrival = store.begin("dir/My notes.TXT", limit_bytes=100)
    arrival.write(b"some ")
    assert list(store.list()) == []
    arrival.write(b"text")
    record = arrival.keep("text")
    assert (record.name, record.kind, record.num_bytes) == ("My notes.TXT", "text", 9)
    assert record.path.read_bytes() == b"some text"
    assert record.path.name == "My-notes.txt"
    assert record.path.is_relative_to(store.root)
    assert list(store.list()) == [record] == [store.get(record.id)]
    store.remove(record.id)
    assert not record.path.exists()


def test_more_than_the_limit_is_refused_and_leaves_nothing(workspace):
    arrival = workspace.uploads.begin("a.txt", limit_bytes=10)
    arrival.write(b"0123456789")
    with pytest.raises(InputError, match="larger than 10 bytes"):
        arrival.write(b"x")
    arrival.drop()
    assert list(workspace.uploads.root.iterdir()) == []


def test_a_nearly_full_disk_is_not_filled(workspace, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda path: usage(1 << 40, 1, files.RESERVE_BYTES + 3)
    )
    arrival = workspace.uploads.begin("a.txt", limit_bytes=10)
    arrival.write(b"abc")
    with pytest.raises(StorageError, match="nearly full"):
        arrival.write(b"defg")
    arrival.drop()


def test_what_never_arrived_is_swept_up(workspace):
    lost = workspace.uploads.begin("a.txt", limit_bytes=10)
    lost.write(b"x")
    lost.close()
    kept = workspace.uploads.begin("b.txt", limit_bytes=10)
    kept.write(b"y")
    record = kept.keep("text")
    long_ago = time.time() - 3 * 86_400
    os.utime(lost.path.parent, (long_ago, long_ago))
    assert workspace.uploads.purge(days=2.0) == 1
    assert list(workspace.uploads.list()) == [record]
    assert [path.name for path in workspace.uploads.root.iterdir()] == [record.id]


def test_an_upload_that_can_not_begin_leaves_nothing(workspace, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match="disk is full"):
        workspace.uploads.begin("a.txt", limit_bytes=10)
    assert list(workspace.uploads.root.iterdir()) == []


def test_a_record_that_points_elsewhere_is_held_to_its_folder(workspace):
    arrival = workspace.uploads.begin("b.txt", limit_bytes=10)
    record = arrival.keep("text")
    path = record.path.parent / "record.json"
    path.write_text(path.read_text().replace("b.txt", "../../../secret", 2))
    assert workspace.uploads.get(record.id).path.parent == record.path.parent


def test_preferences_are_kept_and_forgotten(tmp_path: Path):
    one = Workspace(tmp_path).preferences
    assert one.get("x") is None
    one.set("x", {"a": [1, None]})
    one.set("y", "text")
    assert Workspace(tmp_path).preferences.get("x") == {"a": [1, None]}
    one.set("x", 3)
    assert one.get("x") == 3
    one.set("x", None)
    one.set("never", None)
    assert (one.get("x"), one.get("y")) == (None, "text")
