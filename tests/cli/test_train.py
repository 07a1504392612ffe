"""`cllm train` in its other ways: only planning, with a profile, and without the engine."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cllm.training.events import Plan

Command = Callable[..., subprocess.CompletedProcess[str]]
# Windows of 32 characters, four a step, of a model of two layers.
SMALL = ["--preset", "tiny", "--context", "32", "--tokenizer", "characters"]
QUICK = [*SMALL, "--train.batch-size", "4", "--train.sample-tokens", "8"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    rng = random.Random(0)
    words = ["stone", "river", "lantern", "of", "the", "and", "sings", "sleeps", "under", "moon"]
    path = tmp_path / "poem.txt"
    path.write_text("\n".join(" ".join(rng.choices(words, k=8)) for _ in range(300)))
    return path


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def left_behind(home: Path) -> list[str]:
    """What lies in the folders for runs and models."""
    return [str(path) for name in ("runs", "models") for path in (home / name).rglob("*")]


def test_a_plan_says_what_would_be_trained_and_trains_nothing(
    cllm_command: Command, home: Path, text: Path
) -> None:
    arguments = ["train", text, "--name", "poem", "--minutes", "2", "--plan", *SMALL]
    done = cllm_command(*arguments, "--json")
    plan = last_json(done)
    assert plan.keys() == {field.name for field in fields(Plan)}
    expected = {"width": 64, "layers": 2, "context": 32, "minutes": 2.0, "total_steps": None}
    assert {name: plan[name] for name in expected} == expected
    assert plan["tokens_per_step"] == plan["batch_size"] * 32
    assert 0 < plan["expected_bits_per_byte"] < 20
    assert plan["engine"] in ("compiled", "torch") and plan["tokens_per_s"] > 0
    assert left_behind(home) == []
    shown = cllm_command(*arguments).stdout
    assert f"{plan['num_parameters']:,} parameters" in shown
    assert "bits per byte" in shown and "after 2 min" in shown
    assert left_behind(home) == []
    listed = cllm_command("runs", "list", "--json")
    assert json.loads(listed.stdout or "[]") == []


def test_a_plan_does_not_mind_a_model_of_that_name(
    cllm_command: Command, home: Path, text: Path
) -> None:
    (home / "models" / "poem").mkdir(parents=True)
    done = cllm_command("train", text, "--name", "poem", "--plan", "--steps", "3", "--json", *SMALL)
    assert last_json(done)["total_steps"] == 3
    assert len(left_behind(home)) == 1


def test_a_plan_refuses_what_training_would_refuse(
    cllm_command: Command, home: Path, text: Path
) -> None:
    done = cllm_command("train", text, "--plan", "--steps", "3", "--train.threads", "100000")
    assert done.returncode == 2
    assert "100000 threads" in done.stderr and "train.threads" in done.stderr
    assert left_behind(home) == []


def test_a_profile_shows_where_the_time_went_and_leaves_a_trace(
    cllm_command: Command, home: Path, text: Path
) -> None:
    done = cllm_command(
        "train", text, "--name", "poem", "--steps", "6", "--profile", "--json", *QUICK
    )
    assert last_json(done)["steps"] == 6
    shown = done.stderr
    assert "Where the time went" in shown
    assert "matrix products of the blocks" in shown
    assert "billion operations a second" in shown and "% of" in shown
    (trace,) = home.glob("runs/*/trace.json")
    assert str(trace) in shown
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    assert [event["name"] for event in events].count("step") == 6


def test_without_the_engine_torch_trains_and_the_person_is_told(
    cllm_command: Command, home: Path, text: Path
) -> None:
    done = cllm_command(
        "train", text, "--name", "poem", "--steps", "3", "--json", *QUICK,
        environment={"CLLM_NATIVE": "off"},
    )  # fmt: skip
    result = last_json(done)
    assert (result["steps"], result["model"]) == (3, "poem")
    (advice,) = [line for line in result["advice"] if "CLLM_NATIVE" in line]
    assert advice in done.stderr
    again = cllm_command("generate", "poem", "--prompt", "the", "--max-tokens", "4", "--json")
    assert last_json(again)["text"]
