"""The loop over time: which windows, rates and seconds a learner gets. Nothing is computed."""

import time

import numpy as np
import pytest

from cllm.config import ModelSettings, TrainSettings
from cllm.model import initial_weights, spec_from_settings
from cllm.native import load_library
from cllm.text.batches import Batches
from cllm.training.checkpoint import Checkpoints
from cllm.training.compiled_learner import CompiledLearner
from cllm.training.events import Stepped
from cllm.training.learner import Rates, StepFigures
from cllm.training.metrics import MetricsLog
from cllm.training.schedule import StepSchedule, TimedSchedule
from cllm.training.scoring import ArrayTokens
from cllm.training.trainer import Surroundings, Trainer

SETTINGS = TrainSettings(
    batch_size=2, learning_rate=0.01, matrix_rate=0.02, momentum=0.7, dropout=0.0, threads=1,
    precision="float32", warmup_fraction=0.0,
)  # fmt: skip


class RecordingLearner:
    """Learns nothing: keeps what it was given, and takes its time for it."""

    def __init__(self, spec, wait=lambda: None):
        self.spec, self.steps, self._wait = spec, [], wait

    @property
    def context(self):
        return self.spec.context

    def step(self, batches, rates):
        self.steps.append((list(batches), rates))
        self._wait()
        return StepFigures(1.0, 1.0)

    def begin_rows(self, squares):
        pass

    def score(self, ids, targets):
        return 0.0

    def weights(self):
        return {"norm.weight": np.ones(1, np.float32)}

    def state(self):
        return {"weight.norm.weight": np.ones(1, np.float32)}

    def load_state(self, tensors):
        pass


def spec_of(context):
    return spec_from_settings(
        ModelSettings(width=16, layers=1, heads=1, context=context), 50, "tiny"
    )


def train(folder, learner, schedule, settings=SETTINGS):
    events = []
    around = Surroundings(
        checkpoints=Checkpoints(folder / "checkpoints"),
        metrics=MetricsLog(folder / "metrics.jsonl", after_step=0, tensorboard=False),
        observe=events.append,
        validate=None,
        sample=None,
        prompt="",
        stop_requested=lambda: False,
        bytes_per_token=1.0,
    )
    tokens = ArrayTokens((np.arange(50_000) % 47).astype(np.uint32))
    batches = Batches(tokens, context=learner.context, seed=0)
    outcome = Trainer(learner, batches, settings, schedule, around).run()
    return outcome, [event for event in events if isinstance(event, Stepped)]


def windows(learner):
    """Length of the windows of each step."""
    return [batches[0][0].shape[1] for batches, _ in learner.steps]


def rows(learner):
    """All inputs and targets, as one row each."""
    pairs = [pair for batches, _ in learner.steps for pair in batches]
    return [np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1)]


def test_windows_grow_from_an_eighth_to_a_half_to_the_whole_context(tmp_path):
    learner = RecordingLearner(spec_of(256))
    train(tmp_path, learner, StepSchedule(20))
    lengths = windows(learner)
    assert lengths == sorted(lengths)
    assert sorted(set(lengths)) == [32, 128, 256]
    assert lengths[0] == 32 and lengths[-1] == 256


@pytest.mark.parametrize("context", [8, 32, 40, 48, 64, 100, 256])
def test_the_same_tokens_come_in_the_same_order_whatever_the_windows(tmp_path, context):
    growing, whole = (RecordingLearner(spec_of(context)) for _ in range(2))
    several = SETTINGS.model_copy(update={"accumulate": 3})
    train(tmp_path / "growing", growing, StepSchedule(10), several)
    fixed = several.model_copy(update={"context_ramp": False})
    train(tmp_path / "whole", whole, StepSchedule(10), fixed)
    assert set(windows(whole)) == {context}
    assert min(windows(growing)) >= min(context, 32)
    for one, other in zip(rows(growing), rows(whole), strict=True):
        assert np.array_equal(one, other)
    for batches, _ in growing.steps:
        assert len(batches) == 3
        for ids, targets in batches:
            assert np.array_equal(ids[:, 1:], targets[:, :-1]), "each target is the next token"


def test_rates_and_momentum_reach_the_learner(tmp_path):
    learner = RecordingLearner(spec_of(32))
    train(tmp_path, learner, StepSchedule(4))
    rates = [rates for _, rates in learner.steps]
    assert [rate.learning_rate for rate in rates] == pytest.approx([0.01, 0.0075, 0.005, 0.0025])
    assert [rate.matrix_rate for rate in rates] == pytest.approx([0.02, 0.015, 0.01, 0.005])
    assert {rate.momentum for rate in rates} == {0.7}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return load_library(tmp_path_factory.mktemp("native"))


@pytest.mark.parametrize("changed", [{"dropout": 0.5}, {"momentum": 0.0}])
def test_dropout_and_momentum_change_what_is_learned(library, changed):
    spec = spec_of(32)

    def losses(settings):
        learner = CompiledLearner(library, spec, initial_weights(spec, 0), settings)
        batch = Batches(ArrayTokens(np.arange(999, dtype=np.uint32) % 50), context=32, seed=0)
        rates = Rates(0.01, 0.02, settings.momentum)
        return [learner.step([batch.read(4 * step, 4)], rates).nats for step in range(4)]

    one, other = losses(SETTINGS), losses(SETTINGS.model_copy(update=changed))
    assert one[0] == other[0], "the blocks begin by writing nothing, so nothing can be dropped"
    assert abs(one[-1] - other[-1]) > 1e-4


def test_a_timed_run_ends_in_time_though_the_machine_slows_down(tmp_path):
    asked_s, began = 6.0, time.monotonic()

    def wait():
        is_late = time.monotonic() - began > asked_s / 2
        time.sleep(0.03 if is_late else 0.01)

    learner = RecordingLearner(spec_of(32), wait)
    schedule = TimedSchedule(asked_s, tmp_path / "timeline.bin")
    outcome, steps = train(tmp_path, learner, schedule)
    taken_s = time.monotonic() - began
    schedule.close()
    assert outcome.state == "finished"
    assert taken_s == pytest.approx(asked_s, rel=0.05)
    assert steps[-1].learning_rate < 0.02 * SETTINGS.learning_rate
