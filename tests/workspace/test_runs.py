"""Runs: found by id, honest about processes that are gone."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cllm.errors import CllmError, ExistsError, NotFoundError
from cllm.workspace.runs import RunStore
from cllm.workspace.workspace import Workspace


@pytest.fixture
def runs(tmp_path: Path) -> RunStore:
    return Workspace(tmp_path / "home").runs


def test_a_run_has_a_folder_and_keeps_settings_and_figures(runs: RunStore) -> None:
    run = runs.create("stories", {"train": {"steps": 3}}, ["cllm", "train", "x"])
    assert re.fullmatch(r"\d{8}-\d{6}-stories", run.id)
    assert run.folder.is_dir()
    assert (run.state, run.settings) == ("preparing", {"train": {"steps": 3}})
    runs.update(run.id, steps=1, val_bits_per_byte=2.5)
    runs.update(run.id, state="finished", steps=2)
    found = runs.get(run.id)
    assert found.state == "finished"
    assert found.figures == {"steps": 2, "val_bits_per_byte": 2.5}
    assert found.command == ("cllm", "train", "x")


def test_runs_of_one_second_get_ids_of_their_own(runs: RunStore) -> None:
    made = {runs.create("m", {}).id for _ in range(5)}
    assert len(made) == 5
    assert {run.id for run in runs.list()} == made


def test_get_by_latest_and_by_beginning(runs: RunStore) -> None:
    first, second = runs.create("a", {}), runs.create("a", {})
    assert runs.get("latest").id == second.id
    assert runs.get(first.id).id == first.id
    with pytest.raises(NotFoundError, match="2 runs begin with"):
        runs.get(first.id[:8])
    runs.create("other", {})
    assert runs.get(second.id).id == second.id


def test_an_unknown_run_names_the_nearest(runs: RunStore) -> None:
    with pytest.raises(NotFoundError, match="no run yet"):
        runs.get("latest")
    run = runs.create("stories", {})
    with pytest.raises(NotFoundError, match=f"Did you mean {run.id}"):
        runs.get(run.id.replace("stories", "storiez"))
    with pytest.raises(NotFoundError):
        runs.get("../../etc")
    with pytest.raises(NotFoundError):
        runs.update("nothing", state="failed")


_WORKER = """
import sys, time
from pathlib import Path
from cllm.workspace.workspace import Workspace
runs = Workspace(Path(sys.argv[1])).runs
run = runs.create("m", {})
runs.update(run.id, state="training")
print(run.id, flush=True)
time.sleep(600)
"""


def test_a_run_whose_process_was_killed_is_shown_as_interrupted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-c", _WORKER, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        runs = Workspace(home).runs
        assert runs.get(run_id).state == "training"
        assert runs.get(run_id).is_active
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # Dead but not yet collected by its parent: a zombie does no work either.
        assert runs.get(run_id).state == "interrupted"
    assert runs.get(run_id).state == "interrupted"
    # Taken up again by this process, it is at work once more.
    assert runs.update(run_id, state="training").state == "training"


def test_a_removed_run_is_gone_from_the_list_and_the_disk(runs: RunStore) -> None:
    kept, removed = runs.create("kept", {}), runs.create("removed", {})
    (removed.folder / "metrics.jsonl").write_text("{}\n")
    runs.update(removed.id, state="finished")
    runs.remove(removed.id)
    assert [record.id for record in runs.list()] == [kept.id]
    assert not removed.folder.exists()
    with pytest.raises(NotFoundError):
        runs.remove(removed.id)


def test_a_run_is_not_removed_while_it_is_at_work_but_by_its_worker(runs: RunStore) -> None:
    run = runs.create("m", {})
    with pytest.raises(ExistsError, match="at work") as caught:
        runs.remove(run.id)
    assert caught.value.hint == "Stop it first."
    assert run.folder.is_dir() and runs.get(run.id).is_active
    runs.remove(run.id, by_worker=True)
    assert list(runs.list()) == [] and not run.folder.exists()
    other = runs.create("m", {})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        runs.hand_over(other.id, child.pid)
        with pytest.raises(ExistsError, match="at work"):
            runs.remove(other.id, by_worker=True)
    runs.remove(other.id)


def test_a_run_whose_row_stays_keeps_its_folder(runs: RunStore) -> None:
    run = runs.create("m", {})
    runs.update(run.id, state="finished")
    (run.folder / "result.json").write_text("{}")
    with sqlite3.connect(runs.root.parent / "cllm.db") as database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(CllmError):
        runs.remove(run.id)
    assert runs.get(run.id).state == "finished"
    assert [path.name for path in run.folder.iterdir()] == ["result.json"]
    assert list(runs.root.iterdir()) == [run.folder]
