"""Results on disk: whole lines or none, the last of a run counts, one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from cllm.errors import ExistsError
from cllm.study.results import Results, only_one


def test_a_line_cut_off_by_a_crash_is_left_out_and_written_over(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    assert results.rows() == []
    results.append({"id": "a", "val_bits_per_byte": 2.5})
    with results.path.open("a", encoding="utf-8") as file:
        file.write('{"id": "b", "val_bits_per')
    assert [row["id"] for row in results.rows()] == ["a"]
    results.append({"id": "c", "val_bits_per_byte": 2.25})
    assert results.rows() == [
        {"id": "a", "val_bits_per_byte": 2.5},
        {"id": "c", "val_bits_per_byte": 2.25},
    ]
    assert results.path.read_text(encoding="utf-8").count("\n") == 2


def test_a_run_that_failed_is_not_done_until_it_succeeds(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.append({"id": "a", "error": "killed"})
    assert results.done() == set()
    results.append({"id": "a", "val_bits_per_byte": 2.0})
    assert results.done() == {"a"}
    assert results.rows() == [{"id": "a", "val_bits_per_byte": 2.0}]


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with only_one(tmp_path / "study"), pytest.raises(ExistsError), only_one(tmp_path / "study"):
        pass
    with only_one(tmp_path / "study"):
        assert (tmp_path / "study" / "process.json").exists()
    assert not (tmp_path / "study" / "process.json").exists()


def test_a_process_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    # This very process number, but begun a day earlier: another process that had it.
    began = psutil.Process().create_time() - 86_400
    (tmp_path / "process.json").write_text(f"[{os.getpid()}, {began}]", encoding="utf-8")
    with only_one(tmp_path):
        pass
