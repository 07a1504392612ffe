"""Writes are whole or not at all, and damage is seen."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cllm.errors import ExistsError, IntegrityError, StorageError
from cllm.files import (
    check_manifest,
    read_json,
    remove_folder,
    removing,
    storage_errors,
    write_atomic,
    write_folder,
    write_json,
    writer_of,
)


def make(folder: Path, content: str) -> None:
    with write_folder(folder, replace=True) as new:
        (new / "a.txt").write_text(content)
        (new / "deep").mkdir()
        (new / "deep" / "b.bin").write_bytes(content.encode() * 1000)


def test_a_folder_appears_whole_with_checksums(tmp_path):
    make(tmp_path / "x", "one")
    check_manifest(tmp_path / "x")
    files = read_json(tmp_path / "x" / "manifest.json")["files"]
    assert files["deep/b.bin"]["sha256"] == hashlib.sha256(b"one" * 1000).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    make(tmp_path / "x", "one")
    with pytest.raises(RuntimeError), write_folder(tmp_path / "x", replace=True) as new:
        (new / "a.txt").write_text("two")
        raise RuntimeError
    assert (tmp_path / "x" / "a.txt").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_another_program_made_meanwhile_is_not_lost(tmp_path):
    place = tmp_path / "x"
    with pytest.raises(ExistsError, match="meanwhile"), write_folder(place) as new:
        (new / "a.txt").write_text("ours")
        place.mkdir()
        (place / "a.txt").write_text("theirs")
    assert (place / "a.txt").read_text() == "theirs"
    replaced = []
    shutil.rmtree(place)
    with write_folder(
        place, replace=True, on_replaced=lambda old: replaced.append((old / "a.txt").read_text())
    ) as new:
        (new / "a.txt").write_text("ours")
        place.mkdir()
        (place / "a.txt").write_text("theirs")
    assert (place / "a.txt").read_text() == "ours"
    assert replaced == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_replaced_folder_is_there_at_every_moment(tmp_path):
    """One process replaces it over and over and is killed; another always finds it whole."""
    make(tmp_path / "x", "start")
    code = (
        "import sys; from pathlib import Path; from cllm.files import write_folder\n"
        "for n in range(10**9):\n"
        "    with write_folder(Path(sys.argv[1]), replace=True) as new:\n"
        "        (new / 'a.txt').write_text(str(n) * 9)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")])
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert (tmp_path / "x" / "manifest.json").exists() or sys.platform != "linux"
    writer.kill()
    writer.wait()
    check_manifest(tmp_path / "x")


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_damage_is_named(tmp_path, damage):
    make(tmp_path / "x", "one")
    path = tmp_path / "x" / "deep" / "b.bin"
    if damage == "altered":
        path.write_bytes(b"two" * 1000)
    elif damage == "truncated":
        path.write_bytes(b"one")
    else:
        path.unlink()
    with pytest.raises(IntegrityError, match=damage) as caught:
        check_manifest(tmp_path / "x")
    assert caught.value.where == str(path)


def test_json_that_is_none_is_refused(tmp_path):
    write_json(tmp_path / "x.json", {"ü": [1, None]})
    assert read_json(tmp_path / "x.json") == {"ü": [1, None]}
    write_atomic(tmp_path / "x.json", b"\xff{")
    with pytest.raises(IntegrityError, match="not valid JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_full_disk_is_told_as_such(tmp_path):
    with (
        pytest.raises(StorageError, match="disk is full") as caught,
        storage_errors(tmp_path),
        Path("/dev/full").open("wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert caught.value.hint


@pytest.fixture
def umask():
    """Set what others may not do, for one test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_rights_of_any_other(tmp_path, umask, mask):
    umask(mask)
    make(tmp_path / "x", "one")
    write_atomic(tmp_path / "f", "text")
    write_atomic(tmp_path / "key", "secret", is_private=True)
    (tmp_path / "plain").write_text("text")
    (tmp_path / "folder").mkdir()
    rights = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert rights["f"] == rights["plain"] == 0o666 & ~mask
    assert rights["x"] == rights["folder"] == 0o777 & ~mask
    assert rights["key"] == 0o600


def test_writing_never_changes_what_other_threads_create(tmp_path, monkeypatch):
    def changed(mask):
        raise AssertionError("the umask is that of the whole process")

    monkeypatch.setattr(os, "umask", changed)
    make(tmp_path / "x", "one")
    write_atomic(tmp_path / "f", "text")


def test_a_removed_folder_is_out_of_sight_at_once_and_back_on_an_error(tmp_path):
    make(tmp_path / "x", "one")
    with pytest.raises(ZeroDivisionError), removing(tmp_path / "x"):
        assert not (tmp_path / "x").exists()
        [aside] = tmp_path.iterdir()
        assert writer_of(aside.name) == os.getpid()
        raise ZeroDivisionError
    check_manifest(tmp_path / "x")
    remove_folder(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    remove_folder(tmp_path / "x")


def test_of_a_link_only_the_link_is_removed(tmp_path):
    make(tmp_path / "far", "one")
    (tmp_path / "link").symlink_to("far")
    (tmp_path / "dangling").symlink_to("nowhere")
    remove_folder(tmp_path / "link")
    remove_folder(tmp_path / "dangling")
    assert [path.name for path in tmp_path.iterdir()] == ["far"]
    check_manifest(tmp_path / "far")


def test_what_can_not_be_removed_is_named(tmp_path, monkeypatch):
    def busy(*_, **__):
        raise OSError(errno.EBUSY, "Device or resource busy")

    make(tmp_path / "x", "one")
    monkeypatch.setattr(shutil, "rmtree", busy)
    with pytest.raises(StorageError, match="can't be removed: Device") as caught:
        remove_folder(tmp_path / "x")
    assert [str(path) for path in tmp_path.iterdir()] == [caught.value.where]
