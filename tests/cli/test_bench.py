"""`cllm bench` as people and programs meet it."""

import json

import pytest

from cllm.cli.main import run


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
