"""A study through the installed command: stopped, taken up again, finished, reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import psutil
import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
EXECUTABLE = Path(sys.executable).with_name("cllm")
# Of the mechanisms that the compiled engine has, so that no run loads torch.
QUICK = ["--only", "golden", "--steps", "3", "--seeds", "2", "--confirm-seeds", "2"]
QUICK += ["--set", "einstein", "--confirm-preset", "tiny", "--parallel", "1"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "my text.txt"
    path.write_text("\n\n".join(topics.values())[:60_000], encoding="utf-8")
    return path


def lines(folder: Path) -> list[dict[str, object]]:
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def cmdline(process: psutil.Process) -> list[str]:
    return process.info["cmdline"] or []


def test_a_study_that_is_stopped_goes_on_and_repeats_nothing(
    cllm_command: Command, home: Path, text: Path
) -> None:
    folder = home / "studies" / "mechanisms"
    command = ["study", "mechanisms", str(text), *QUICK]
    # A setting of the person's own must not reach the arms: this one would make each run fail.
    own = {"CLLM_MODEL__HEADS": "7"}
    process = subprocess.Popen(
        [EXECUTABLE, *command],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not lines(folder):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "are kept" in told
    assert "Traceback" not in told
    assert [p for p in psutil.process_iter(["cmdline"]) if "study-my-text-bpe" in cmdline(p)] == []
    before = lines(folder)
    assert 1 <= len(before) < 12

    done = cllm_command(*command, "--json", environment=own)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    after = lines(folder)
    # Two seeds of plain, golden and its placebo, and the same of the confirmed set.
    assert (result["runs"], result["failed"], len(after)) == (12, 0, 12)
    assert after[: len(before)] == before
    assert len({row["id"] for row in after}) == 12
    assert {row["seed"] for row in after} == {1, 2, 2001, 2002}
    assert {(row["engine"], row["steps"], row["tokens"]) for row in after} == {
        ("compiled", 3, 3 * 16 * 128)
    }
    assert result["mechanisms"]["golden"]["seeds"] == 2
    assert "two seeds" in result["sets"]["einstein"]["gain"]
    # The models are gone; nothing of the person's was touched.
    assert list((folder / "home" / "models").iterdir()) == []
    assert list((folder / "home" / "runs").iterdir()) == []
    assert not (home / "models").exists()
    assert sorted(path.name for path in folder.glob("*.svg")) == [
        "confirm.svg",
        "curves.svg",
        "screen.svg",
    ]
    assert Path(result["report"]).read_text(encoding="utf-8").startswith("# What the mechanisms")

    again = cllm_command("study", "mechanisms", "--phase", "report", "--json")
    assert json.loads(again.stdout) == result
    assert len(lines(folder)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "ngrm"], "Did you mean 'ngram'?"),
        (["--set", "cristal"], "Did you mean 'crystal'?"),
        (["nothing-here.txt"], "there is no such file"),
        (["a", "b", "c"], "one or two texts"),
        (["-"], "standard input"),
        (["--parallel", "9999"], "cores"),
        (["--seconds", "0"], "--seconds"),
        (["--phase", "report"], "there are no results"),
    ],
)
def test_what_can_not_be_studied_is_refused_before_any_work(
    cllm_command: Command, home: Path, arguments: list[str], message: str
) -> None:
    done = cllm_command("study", "mechanisms", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not home.exists()


def test_a_folder_holds_one_study(cllm_command: Command, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    settings = {"seconds": 10.0, "steps": None}
    known = {"version": 1, "texts": {}, "settings": settings, "starts": []}
    (folder / "study.json").write_text(json.dumps(known), encoding="utf-8")
    text = tmp_path / "t.txt"
    text.write_text("words " * 100, encoding="utf-8")
    done = cllm_command("study", "mechanisms", text, "--folder", folder)
    assert done.returncode == 2
    assert "begun with other texts" in done.stderr
    assert "--folder" in done.stderr
