"""Runs that are stopped in every way, and go on as if they never had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("cllm"))
SMALL = [
    "--preset", "tiny", "--context", "32", "--tokenizer", "characters",
    "--train.batch-size", "4", "--train.sample-tokens", "10",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    rng = random.Random(0)
    words = ["stone", "river", "lantern", "of", "the", "and", "sings", "sleeps", "under", "moon"]
    lines = [" ".join(rng.choices(words, k=8)).capitalize() + "." for _ in range(400)]
    path = tmp_path_factory.mktemp("text") / "poem.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def start(*arguments):
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def weights(home, name):
    return (home / "models" / name / "model.safetensors").read_bytes()


def last_json(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def run_of(home):
    (run,) = [path for path in (home / "runs").iterdir() if path.name.endswith("-killed")]
    return run


def kill_until_done(home, text, steps, kills, seed):
    """Kill −9 a run at random moments, resuming each time; the last result and the kills."""
    rng = random.Random(seed)
    often = ["--train.checkpoint-seconds", "0.05", "--train.eval-interval", steps // 12]
    arguments = ["train", text, "--name", "killed", "--steps", steps, "--json", *SMALL, *often]
    process = start(*arguments)
    for kill in range(kills):
        while not any((home / "runs").glob("*-killed/request.json")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 3.0))
        process.kill()
        process.communicate()
        run, *_ = last_json(start("runs", "list", "--json"))
        if run["state"] == "finished":
            # Killed in its last moments, when all was done.
            return json.loads((run_of(home) / "result.json").read_text()), kill
        process = start("runs", "resume", run["id"], "--json")
    return last_json(process), kills


def check_kills(home, text, steps, kills, seed):
    """Returns how often the run was killed before it had finished."""
    arguments = ["train", text, "--name", "straight", "--steps", steps, "--json", *SMALL]
    straight = last_json(start(*arguments, "--train.eval-interval", steps // 12))
    killed, num_kills = kill_until_done(home, text, steps, kills, seed)
    assert weights(home, "killed") == weights(home, "straight")
    for figure in ("steps", "tokens", "val_bits_per_byte", "val_nats_per_token", "best_step"):
        assert killed[figure] == straight[figure], figure
    return num_kills


def test_killed_runs_end_with_bit_identical_weights(home, text):
    check_kills(home, text, steps=60, kills=2, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_runs_killed_at_many_moments_end_with_bit_identical_weights(home, text, seed):
    assert check_kills(home, text, steps=12_000, kills=5, seed=100 + seed) >= 4


def test_a_run_killed_after_its_model_was_saved_finishes(home, text):
    process = start("train", text, "--name", "killed", "--steps", 5, "--json", *SMALL)
    while not (home / "models" / "killed" / "manifest.json").exists():
        time.sleep(0.001)
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    before = weights(home, "killed")
    assert last_json(start("runs", "resume", run_of(home).name, "--json"))["state"] == "finished"
    assert weights(home, "killed") == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_asked_to_stop_saves_says_how_to_go_on_and_does(home, text, number):
    process = start("train", text, "--name", "asked", "--minutes", "0.5", *SMALL)
    metrics = None
    while metrics is None or metrics.stat().st_size < 2000:
        metrics = next((home / "runs").glob("*-asked/metrics.jsonl"), None)
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "saved" in err
    run = next((home / "runs").glob("*-asked")).name
    assert f"cllm runs resume {run}" in err
    assert "\x1b" not in out + err
    listed = last_json(start("runs", "list", "--json"))
    assert [(entry["id"], entry["state"]) for entry in listed] == [(run, "interrupted")]
    steps_before = len(metrics.read_text().splitlines())
    result = last_json(start("runs", "resume", run, "--json"))
    assert result["state"] == "finished"
    assert result["steps"] > steps_before / 2
    # Half a minute of training in two lives, each with a start of its own.
    assert 20 < result["seconds_training"] < 31
    again = start("runs", "resume", run, "--json")
    _, err = again.communicate(timeout=60)
    assert again.returncode == 2
    assert "finished" in err


def test_a_damaged_checkpoint_is_named_with_its_checksum(home, text):
    process = start("train", text, "--name", "hurt", "--minutes", "1", *SMALL)
    folder = None
    while folder is None:
        folder = next((home / "runs").glob("*-hurt/checkpoints/step-*"), None)
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    (state,) = (home / "runs").glob("*-hurt/checkpoints/step-*/state.safetensors")
    data = bytearray(state.read_bytes())
    data[-100] ^= 1
    state.write_bytes(data)
    resumed = start("runs", "resume", "latest")
    _, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 2
    assert "state.safetensors" in err
    assert "SHA-256" in err


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX's")
def test_a_disk_that_fills_up_costs_nothing_that_was_saved(home, text):
    """A limit on the size of files stands for the full disk: the write itself fails."""
    arguments = ["train", str(text), "--name", "full", "--steps", "400", *SMALL]
    process = start(*arguments, "--train.checkpoint-seconds", "0.2")
    while not any((home / "runs").glob("*-full/checkpoints/step-*[1-9]*")):
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    (saved,) = (home / "runs").glob("*-full/checkpoints/step-*")
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    limit = f"ulimit -f 200; trap '' XFSZ; exec {COMMAND} runs resume latest"
    failed = subprocess.run(
        ["bash", "-c", limit], check=False, capture_output=True, text=True, timeout=120
    )
    assert failed.returncode == 2, failed.stderr
    assert "disk is full" in failed.stderr
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert last_json(start("runs", "resume", "latest", "--json"))["steps"] == 400
