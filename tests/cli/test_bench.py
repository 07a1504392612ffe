"""`cllm bench` as people and programs meet it."""

import dataclasses
import json

import pytest

from cllm.cli.main import run
from cllm.jobs.bench_peers import PEERS


def test_a_table_for_people_and_a_line_for_programs(capfd, home):
    arguments = ["bench", "--preset", "tiny", "--seconds", "1", "--threads", "1", "--json"]
    assert run(arguments) == 0
    printed = capfd.readouterr()
    value = json.loads(printed.out)
    assert value["benchmark"] == "bench"
    assert {"processor", "cores", "versions", "python", "busy_before", "seconds"} <= value.keys()
    (model,) = value["models"]
    assert (model["name"], model["threads"]) == ("tiny", 1)
    figures = model["formats"][0]
    for name in ("prefill", "decode", "batch_8", "batch_32"):
        found = figures[f"{name}_tokens_per_s"]
        assert 0 < found["least"] <= found["median"] <= found["greatest"]
        assert found["rounds"] == 5
    assert "measuring tiny (1 of 1)" in printed.err
    for shown in ("float32", "int8", "int4", "first token", "training", "±"):
        assert shown in printed.err
    assert "\x1b" not in printed.err


def test_other_programs_stand_below_ours_with_their_ratio(capfd, home, monkeypatch):
    llama, _, onnx = PEERS
    away = dataclasses.replace(llama, modules=("no_such_module",))
    monkeypatch.setattr("cllm.jobs.bench_peers.PEERS", (away, onnx))
    arguments = ["bench", "--preset", "tiny", "--seconds", "1", "--threads", "1", "--peers"]
    assert run([*arguments, "--json"]) == 0
    printed = capfd.readouterr()
    value = json.loads(printed.out)
    assert [(known["name"], known["version"] is None) for known in value["programs"]] == [
        ("llama.cpp", True),
        ("ONNX Runtime", False),
    ]
    (peer,) = value["models"][0]["peers"]
    assert "llama.cpp is not installed: pip install llama-cpp-python" in printed.err
    lines = printed.err.splitlines()
    [at] = [n for n, line in enumerate(lines) if "ONNX Runtime float32" in line]
    assert "cllm float32" in lines[at - 1]
    for work in ("prefill", "decode"):
        times = peer[f"{work}_times"]["median"]
        assert (f"×{times:.3g}" if times >= 10 else f"×{times:.2f}") in lines[at]
    # Told while it goes on, to the end.
    assert "measuring tiny (1 of 1), 100%" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "smal"], "Did you mean 'small'?"),
        (["--seconds", "0"], "--seconds"),
        (["--threads", "-1"], "--threads"),
        (["none"], "there is no model named 'none'"),
    ],
)
def test_bad_input(capfd, home, arguments, message):
    assert run(["bench", *arguments]) == 2
    printed = capfd.readouterr()
    assert message in printed.err
    assert printed.out == ""
