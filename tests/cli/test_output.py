"""Output: no control codes outside a terminal, strict JSON, quantities as people read them."""

from __future__ import annotations

import datetime
import io
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.cli.output import Output, printable, to_json
from cllm.cli.tables import facts, listing
from cllm.quantities import clock, duration, moment, short_count, size


@given(st.text())
def test_printable_text_can_not_steer_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not any(char < " " and char not in "\n\t" for char in shown)
    assert not any("\x7f" <= char < "\xa0" for char in shown)
    assert [char for char in text if char > "\xa0"] == [char for char in shown if char > "\xa0"]


def test_json_is_strict() -> None:
    value = {"a": math.nan, "b": [math.inf, 1.5], "c": Path("x"), "d": (1, None), 5: True}
    assert json.loads(to_json(value)) == {
        "a": None,
        "b": [None, 1.5],
        "c": "x",
        "d": [1, None],
        "5": True,
    }
    assert "\n" not in to_json({"text": "a\nb"})


def test_with_json_only_the_object_is_on_standard_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = Output(as_json=True)
    output.print("for people")
    output.write("more")
    output.result({"steps": 3})
    out, err = capfd.readouterr()
    assert json.loads(out) == {"steps": 3}
    assert "for people" in err
    assert "more" in err


def test_quiet_shows_nothing_but_json(capfd: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True, quiet=True)
    output.print("for people")
    output.write("more")
    output.result([1])
    out, err = capfd.readouterr()
    assert (out, err) == ("[1]\n", "")


def test_a_pipe_gets_no_control_codes_no_padding_and_whole_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    output = Output()
    long = "word " * 200
    output.print(long, style="bad")
    output.print(facts([("label", "value"), ("nothing", "")]))
    output.print(listing(("a", "n"), [("[x]", "1"), ("b" * 90, "22")], right=("n",)))
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert out.splitlines()[0] == long.rstrip()
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "[x]" in out
    assert "nothing" not in out


def test_without_a_terminal_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert Output().confirm("Sure?") is False


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (60, "1 min"), (192, "3 min 12 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_quantities() -> None:
    assert duration(7500) == "2 h 5 min"
    assert duration(3600) == "1 h"
    assert (clock(187), clock(3787), clock(-1)) == ("3:07", "1:03:07", "0:00")
    assert (size(950), size(12_345), size(4_560_000)) == ("950 bytes", "12.3 kB", "4.56 MB")
    assert (short_count(999_999), short_count(12_300), short_count(7)) == ("1M", "12.3k", "7")
    now = datetime.datetime.now().astimezone()
    assert moment(now.isoformat()) == f"{now:%H:%M}"
    assert moment("2001-02-03T04:05:06+00:00") == "2001-02-03 04:05"
