"""Learning rates by hand, and timed runs that repeat their own decisions."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm.training.schedule import StepSchedule, TimedSchedule, warmup_stable_decay


def rate(progress, **changes):
    shape = {"warmup": 0.1, "decay": 0.4, "final_fraction": 0.0} | changes
    return warmup_stable_decay(progress, **shape)


def test_rates_by_hand():
    assert rate(0.05) == pytest.approx(0.51)
    assert rate(0.3) == rate(0.6) == 1.0
    assert rate(0.8) == pytest.approx(0.5)
    assert rate(1.0) == 0.0
    assert rate(1.0, final_fraction=0.1) == pytest.approx(0.1)
    assert rate(0.8, final_fraction=0.1) == pytest.approx(0.55)
    assert rate(0.0, warmup=0.0) == 1.0
    assert rate(1.0, decay=0.0) == 1.0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.99))
def test_rates_stay_between_nothing_and_the_peak(progress, warmup, decay, final):
    value = warmup_stable_decay(progress, warmup=warmup, decay=decay, final_fraction=final)
    assert 0.0 <= value <= 1.0


def test_a_run_of_steps_ends_after_them():
    schedule = StepSchedule(4)
    assert [schedule.progress(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1.0]
    assert StepSchedule(0).progress(0) == 1.0


def test_a_timed_run_repeats_its_answers_and_then_goes_on(tmp_path):
    log = tmp_path / "timeline.bin"
    first = TimedSchedule(0.4, log)
    answers = []
    for step in range(5):
        answers.append(first.progress(step))
        time.sleep(0.02)
    first.close()
    assert answers == sorted(answers) and 0.1 < answers[-1] < 1
    time.sleep(0.5)  # the time between two lives belongs to neither
    second = TimedSchedule(0.4, log)
    assert [second.progress(step) for step in range(5)] == answers
    time.sleep(0.1)  # nor does the replay of logged steps
    new = second.progress(5)
    assert answers[-1] <= new < answers[-1] + 0.1
    time.sleep(0.05)
    assert second.progress(6) > new + 0.1
    second.close()


def test_a_log_cut_short_by_a_power_loss_is_continued(tmp_path):
    log = tmp_path / "timeline.bin"
    first = TimedSchedule(10.0, log)
    for step in range(6):
        first.progress(step)
    first.close()
    log.write_bytes(log.read_bytes()[: 3 * 8 + 5])
    second = TimedSchedule(10.0, log)
    second.restart(5, elapsed_s=4.0)
    assert second.progress(5) == pytest.approx(0.4, abs=0.05)
    second.close()
    assert log.stat().st_size == 6 * 8
