"""Steering the loop: a pause takes no time of the run, a stop keeps what was reached."""

import numpy as np
import pytest

from cllm.config import ModelSettings, TrainSettings
from cllm.model import spec_from_settings
from cllm.text.batches import Batches
from cllm.training import schedule as schedules
from cllm.training.checkpoint import Checkpoints
from cllm.training.events import Continued, Paused, Saved, Stepped, Validated
from cllm.training.learner import StepFigures
from cllm.training.metrics import MetricsLog
from cllm.training.schedule import StepSchedule, TimedSchedule
from cllm.training.scoring import ArrayTokens, Score
from cllm.training.trainer import Surroundings, Trainer

SETTINGS = TrainSettings(
    batch_size=2, learning_rate=0.01, matrix_rate=0.02, momentum=0.7, dropout=0.0, threads=1,
    precision="float32", eval_interval=100,
)  # fmt: skip


class CountingLearner:
    """Its only weight is the number of steps that it has made."""

    spec = spec_from_settings(ModelSettings(width=16, layers=1, heads=1, context=16), 50, "tiny")
    context = 16

    def __init__(self):
        self.count = 0

    def step(self, batches, rates):
        self.count += 1
        return StepFigures(1.0, 1.0)

    def begin_rows(self, squares):
        pass

    def score(self, ids, targets):
        return 0.0

    def weights(self):
        return {"norm.weight": np.full(1, self.count, np.float32)}

    def state(self):
        return {"weight.norm.weight": np.full(1, self.count, np.float32)}

    def load_state(self, tensors):
        self.count = int(tensors["weight.norm.weight"][0])


def run(folder, schedule, wish, *, stop_requested=lambda: False, at_pause=lambda: None):
    events = []

    def observe(event):
        events.append(event)
        if isinstance(event, Paused):
            at_pause()

    around = Surroundings(
        checkpoints=Checkpoints(folder / "checkpoints"),
        metrics=MetricsLog(folder / "metrics.jsonl", after_step=0, tensorboard=False),
        observe=observe,
        validate=lambda learner: (Score(1.0 * learner.count, learner.count), 1.0),
        sample=None,
        prompt="",
        stop_requested=stop_requested,
        bytes_per_token=1.0,
        wish=wish,
    )
    tokens = ArrayTokens((np.arange(5000) % 47).astype(np.uint32))
    batches = Batches(tokens, context=16, seed=0)
    learner = CountingLearner()
    outcome = Trainer(learner, batches, SETTINGS, schedule, around).run()
    return outcome, events, learner


def wishes(*answers):
    """The answers one after the other, and then "go"."""
    left = list(answers)
    return lambda: left.pop(0) if left else "go"


def test_a_pause_comes_after_its_step_with_everything_saved(tmp_path):
    at_pause = []

    def look():
        last = Checkpoints(tmp_path / "checkpoints").load_last()
        at_pause.append(last[1].step)

    wish = wishes("go", "go", "pause", "pause", "pause")
    outcome, events, _ = run(tmp_path, StepSchedule(6), wish, at_pause=look)
    assert (outcome.state, outcome.progress.step) == ("finished", 6)
    assert at_pause == [3]
    told = [(type(event), event.step) for event in events if not isinstance(event, Validated)]
    assert told[told.index((Stepped, 3)) :][:5] == [
        (Stepped, 3),
        (Saved, 3),
        (Paused, 3),
        (Continued, 3),
        (Stepped, 4),
    ]


@pytest.mark.parametrize("answers", [["go", "stop"], ["go", "pause", "pause", "stop"]])
def test_a_stop_ends_the_run_well_measured_where_it_is(tmp_path, answers):
    outcome, events, learner = run(tmp_path, StepSchedule(1000), wishes(*answers))
    assert (outcome.state, outcome.progress.step, learner.count) == ("stopped", 2, 2)
    assert [event.step for event in events if isinstance(event, Validated)] == [2]
    assert outcome.progress.best_step == 2
    assert Checkpoints(tmp_path / "checkpoints").load_last()[1].step == 2


def test_a_step_that_was_measured_anyway_is_not_measured_again(tmp_path):
    answers = ["go"] * 99 + ["stop"]
    outcome, events, _ = run(tmp_path, StepSchedule(1000), wishes(*answers))
    assert outcome.progress.step == 100
    assert [event.step for event in events if isinstance(event, Validated)] == [100]


def test_an_interruption_ends_a_pause(tmp_path):
    looks = iter([False, True, True])
    outcome, _, _ = run(
        tmp_path, StepSchedule(9), lambda: "pause", stop_requested=lambda: next(looks)
    )
    assert (outcome.state, outcome.progress.step) == ("interrupted", 1)


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(schedules, "time", made)
    return made


def test_what_is_left_out_is_no_time_of_a_timed_run(tmp_path, clock):
    schedule = TimedSchedule(100.0, tmp_path / "timeline.bin")
    assert schedule.progress(0) == 0.0
    clock.now += 20
    assert schedule.progress(1) == pytest.approx(0.2)
    clock.now += 5000
    schedule.leave_out(5000.0)
    assert schedule.elapsed_s() == pytest.approx(20.0)
    clock.now += 30
    assert schedule.progress(2) == pytest.approx(0.5)
    schedule.close()


def test_what_is_left_out_is_no_time_of_a_run_by_steps(clock):
    schedule = StepSchedule(10, elapsed_s=7.0)
    clock.now += 60
    schedule.leave_out(50.0)
    assert schedule.elapsed_s() == pytest.approx(17.0)


def test_the_figures_of_a_run_can_be_read_while_it_goes_on(tmp_path, monkeypatch):
    from cllm.training import metrics

    clock = Clock()
    monkeypatch.setattr(metrics, "time", clock)
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, after_step=0, tensorboard=False)
    log.write(1, train_nats=2.0)
    clock.now += 1.0
    log.write(2, train_nats=1.5)
    assert [row["step"] for row in metrics.read_metrics(path)] == [1, 2]
    log.close()
