"""What was being written by a process that was killed is cleared away; nothing else is."""

import os
import signal
import subprocess
import sys

import pytest

from cllm.files import copy_files, temporary_prefix, write_folder, write_json
from cllm.workspace.leftovers import clear_leftovers
from cllm.workspace.workspace import Workspace

HALF_WRITTEN = """
import os, sys, tempfile, time
from pathlib import Path
from cllm.files import temporary_prefix, write_folder
from cllm.workspace.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
arrival = workspace.uploads.begin("a.txt", limit_bytes=100)
arrival.write(b"half of")
record = workspace.home / "runs" / "r1"
record.mkdir(parents=True)
handle, _ = tempfile.mkstemp(prefix=temporary_prefix("progress.json"), dir=record)
with write_folder(workspace.models.root / "m", replace=True) as folder:
    (folder / "model.safetensors").write_bytes(b"half of it")
    print("so far", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def everything(home):
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def test_what_a_killed_process_was_writing_goes_and_what_was_there_stays(workspace):
    with write_folder(workspace.models.root / "m") as folder:
        write_json(folder / "config.json", {"hidden_size": 8})
    before = everything(workspace.home)
    command = [sys.executable, "-c", HALF_WRITTEN, str(workspace.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "so far\n"
        during = everything(workspace.home)
        assert clear_leftovers(workspace.home) == 0
        assert everything(workspace.home) == during
        os.kill(child.pid, signal.SIGKILL)
    assert clear_leftovers(workspace.home) == 3
    assert everything(workspace.home) == [*before, "runs", "runs/r1", "uploads"]
    workspace.models.check("m")
    assert clear_leftovers(workspace.home) == 0


def test_a_number_that_another_process_got_is_not_taken_for_the_writer(workspace):
    root = workspace.models.root
    root.mkdir(parents=True)
    mine = root / f"{temporary_prefix('m')}abcdefgh"
    mine.mkdir()
    assert clear_leftovers(workspace.home) == 0
    os.utime(mine, (1_000_000_000, 1_000_000_000))
    assert clear_leftovers(workspace.home) == 1
    assert list(root.iterdir()) == []


def test_what_was_put_aside_comes_back_unless_it_was_replaced(workspace, tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    root = workspace.models.root
    for name in ("lost", "replaced"):
        aside = root / f".{name}~old.{child.pid}-abcdefgh" / name
        aside.mkdir(parents=True)
        (aside / "config.json").write_text("old")
    (root / "replaced").mkdir()
    (root / "replaced" / "config.json").write_text("new")
    assert clear_leftovers(workspace.home) == 2
    assert everything(root) == ["lost", "lost/config.json", "replaced", "replaced/config.json"]
    assert (root / "lost" / "config.json").read_text() == "old"
    assert (root / "replaced" / "config.json").read_text() == "new"


REPLACING = """
import sys, time
from pathlib import Path
from cllm.jobs.model_service import replacing
from cllm.workspace.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
with replacing(workspace, "m", overwrite=True):
    print("so far", flush=True)
    time.sleep(600)
"""


def test_a_model_that_was_about_to_be_replaced_comes_back(workspace):
    with write_folder(workspace.models.root / "m") as folder:
        write_json(folder / "config.json", {"hidden_size": 8})
    command = [sys.executable, "-c", REPLACING, str(workspace.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "so far\n"
        clear_leftovers(workspace.home)
        assert not workspace.models.exists("m")
        os.kill(child.pid, signal.SIGKILL)
    clear_leftovers(workspace.home)
    workspace.models.check("m")
    assert workspace.trash.list() == []


def test_what_was_replaced_or_deleted_stays_in_the_trash(workspace):
    from cllm.jobs.model_service import delete_model, save_as

    for name in ("a", "b"):
        with write_folder(workspace.models.root / name) as folder:
            write_json(folder / "config.json", {"hidden_size": 8})
    save_as(workspace, "a", "b", overwrite=True)
    delete_model(workspace, "b")
    assert workspace.trash.lent() == []
    clear_leftovers(workspace.home)
    assert workspace.models.names() == ["a"] and len(workspace.trash.list()) == 2


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from cllm.workspace.workspace import Workspace
def half(folder, *_, **__):
    next(path for path in Path(folder).rglob("*") if path.is_file()).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = half
workspace = Workspace(Path(sys.argv[1]))
room, name = workspace.home / sys.argv[2], sys.argv[3]
{"trash": lambda: workspace.trash.purge(days=0.0),
 "trash-back": lambda: workspace.trash.take(name, workspace.models.root / "m"),
 "models": lambda: workspace.models.remove(name),
 "uploads": lambda: workspace.uploads.remove(name),
 "runs": lambda: workspace.runs.remove(name)}[sys.argv[4]]()
"""


def make_in(workspace, work):
    """Something large in a room of the workspace; returns its name."""
    if work == "uploads":
        arrival = workspace.uploads.begin("a.txt", limit_bytes=100)
        arrival.write(b"text")
        return arrival.keep("text").id
    if work == "runs":
        run = workspace.runs.create("m", {})
        workspace.runs.update(run.id, state="finished")
        write_json(run.folder / "result.json", {})
        return run.id
    # With an ending, and a file in it, that what is put aside to be swapped in has, too.
    with write_folder(workspace.models.root / "m.old") as folder:
        write_json(folder / "config.json", {"hidden_size": 8})
        write_json(folder / "m", {})
    if work == "models":
        return "m.old"
    return workspace.trash.put("model", "m", workspace.models.path("m.old")).id


@pytest.mark.parametrize("work", ["trash", "trash-back", "models", "uploads", "runs"])
def test_what_was_being_removed_by_a_killed_process_goes(workspace, work):
    name, room = make_in(workspace, work), work.removesuffix("-back")
    command = [sys.executable, "-c", KILLED, str(workspace.home), room, name, work]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    # Nobody meets the half of it.
    assert not (workspace.home / room / name).exists()
    assert list(workspace.runs.list()) == list(workspace.trash.list()) == []
    assert clear_leftovers(workspace.home) == 1
    assert list((workspace.home / room).iterdir()) == []
    assert workspace.models.names() == (["m"] if work == "trash-back" else [])


def test_an_entry_of_the_trash_without_its_folder_goes_after_a_day(workspace):
    place = workspace.trash.root / ("a" * 32)
    write_json(place / "record.json", {"version": 1})
    assert clear_leftovers(workspace.home) == 0
    os.utime(place, (1_000_000_000, 1_000_000_000))
    assert clear_leftovers(workspace.home) == 1
    assert list(workspace.trash.root.iterdir()) == []


def test_hidden_things_of_others_stay(workspace):
    for name in (".git", ".hidden.txt", ".note.12-short", "models/.cache"):
        (workspace.home / name).mkdir(parents=True)
    before = everything(workspace.home)
    assert clear_leftovers(workspace.home) == 0
    assert everything(workspace.home) == before
    assert clear_leftovers(workspace.home / "not-there") == 0


def test_files_are_copied_with_their_folders_and_an_error_is_what_it_is(tmp_path):
    (tmp_path / "a" / "inner").mkdir(parents=True)
    (tmp_path / "a" / "inner" / "x").write_text("x")
    (tmp_path / "a" / "left").write_text("out")
    (tmp_path / "b").mkdir()
    copy_files(tmp_path / "a", tmp_path / "b", leave_out=("left",))
    assert everything(tmp_path / "b") == ["inner", "inner/x"]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "inner").write_text("in the way")
    with pytest.raises(FileExistsError):
        copy_files(tmp_path / "a", tmp_path / "c")
