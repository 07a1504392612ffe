"""Where the time goes: spans inside spans, sums that add up, a trace that other programs open."""

import json
from collections import defaultdict
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.training import profile as profile_module
from cllm.training.profile import Profile

SECONDS = st.floats(0, 1000)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now

    def work(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(profile_module, "time", clock)
    return clock


@pytest.fixture
def a_run(clock):
    """Two steps and a validation in a loop: 10 s of Python, 2 and 4 of steps, 3 of validation."""
    profile = Profile()
    clock.work(5)  # before the loop: counted nowhere
    with profile.span("Python"):
        clock.work(1)
        with profile.span("step"):
            clock.work(2)
        clock.work(9)
        with profile.span("validation"):
            clock.work(0.5)
            with profile.span("step"):
                clock.work(4)
            clock.work(2.5)
    return profile


def test_what_is_inside_is_taken_from_what_is_around_it(a_run):
    assert dict(a_run.seconds) == pytest.approx({"Python": 10, "step": 6, "validation": 3})


def test_a_span_that_ends_with_an_exception_counts(clock):
    profile = Profile()
    with pytest.raises(KeyError), profile.span("outer"), profile.span("inner"):
        clock.work(3)
        raise KeyError
    with profile.span("outer"):
        clock.work(1)
    assert dict(profile.seconds) == pytest.approx({"outer": 1, "inner": 3})


def test_parts_are_taken_out_of_a_whole(a_run):
    a_run.split("step", {"products": 4.0, "attention": 0.5})
    expected = {"Python": 10, "validation": 3, "products": 4, "attention": 0.5, "step": 1.5}
    assert dict(a_run.seconds) == pytest.approx(expected)


def test_parts_that_add_up_to_more_than_the_whole_share_it(a_run):
    """The engine counts what it does outside of steps, too."""
    a_run.split("step", {"products": 9.0, "attention": 3.0})
    expected = {"Python": 10, "validation": 3, "products": 4.5, "attention": 1.5, "step": 0}
    assert dict(a_run.seconds) == pytest.approx(expected)


@given(SECONDS, st.dictionaries(st.sampled_from("abc"), SECONDS))
def test_splitting_neither_makes_nor_loses_time(whole, parts):
    profile = Profile()
    profile.seconds["step"] = whole
    profile.split("step", parts)
    assert sum(profile.seconds.values()) == pytest.approx(whole)
    assert min(profile.seconds.values()) >= 0


def own_times(events):
    """Microseconds of each name that no event inside covers, as a trace viewer adds them up."""
    own, around = defaultdict(float), []
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        while around and event["ts"] >= around[-1]["ts"] + around[-1]["dur"]:
            around.pop()
        own[event["name"]] += event["dur"]
        if around:
            assert event["ts"] + event["dur"] <= around[-1]["ts"] + around[-1]["dur"]
            own[around[-1]["name"]] -= event["dur"]
        around.append(event)
    return own


def test_the_trace_is_in_the_trace_event_format_and_adds_up(a_run, tmp_path):
    """The fields are those of a complete event ("X") in Google's description of the format."""
    a_run.write_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    events = trace["traceEvents"]
    assert len(events) == 4
    for event in events:
        assert event.keys() == {"name", "ph", "ts", "dur", "pid", "tid"}
        assert event["ph"] == "X"
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert event["ts"] >= 5e6 and event["dur"] >= 0
    sums = {name: seconds * 1e6 for name, seconds in a_run.seconds.items()}
    assert own_times(events) == pytest.approx(sums)


def test_a_very_long_run_has_a_trace_that_still_opens(monkeypatch, tmp_path):
    ticks = iter(range(10**9))
    monkeypatch.setattr(profile_module, "time", SimpleNamespace(perf_counter=ticks.__next__))
    monkeypatch.setattr(profile_module, "_MOST_SPANS", 100)
    profile = Profile()
    for _ in range(250):
        with profile.span("step"):
            pass
    profile.write_trace(tmp_path / "trace.json")
    assert len(json.loads((tmp_path / "trace.json").read_text())["traceEvents"]) == 100
    assert profile.seconds["step"] == 250
