"""The measured speed is that of a learner whose speed is known."""

import pytest

from cllm.config import TrainSettings
from cllm.training import speed
from cllm.training.learner import StepFigures
from cllm.training.speed import measure_speed


class TimedLearner:
    """Takes known seconds for each step, on a clock of its own."""

    def __init__(self, spec, step_s):
        self.spec, self.now, self.num_steps, self.tokens = spec, 0.0, 0, set()
        self._step_s = step_s

    @property
    def context(self):
        return self.spec.context

    def step(self, batches, rates):
        self.now += self._step_s(self.num_steps)
        self.num_steps += 1
        self.tokens.add(sum(ids.size for ids, _ in batches))
        return StepFigures(1.0, 1.0)

    def score(self, ids, targets):
        return 0.0

    def weights(self):
        return {}

    def state(self):
        return {}

    def load_state(self, tensors):
        pass


def flops(spec, tokens):
    """By hand: two operations a weight and token forward, four backward; and causal attention.

    A token meets (T + 1) / 2 others on average, in two products of H · D, of two operations
    each; three times that with the way back.
    """
    attention = 2 * (spec.heads + spec.kv_heads) * spec.head_width * spec.width
    weights = spec.layers * (attention + 3 * spec.width * spec.mlp_width)
    weights += spec.vocab_size * spec.width
    met = spec.layers * (spec.context + 1) / 2 * spec.heads * spec.head_width
    return tokens * (6 * weights + 12 * met)


@pytest.mark.parametrize(
    "step_s",
    [
        lambda step: 0.01,
        lambda step: 0.4,
        # The first step of any learner is slow, and the machine has other things to do at times.
        lambda step: 0.02 if step % 3 else 0.5,
    ],
)
def test_a_learner_of_known_speed(monkeypatch, step_s):
    learners = []

    def make(spec, weights, settings):
        assert weights.keys() == spec.parameter_shapes().keys()
        learners.append(TimedLearner(spec, step_s))
        return learners[-1]

    class Clock:
        @staticmethod
        def perf_counter():
            return learners[-1].now

    monkeypatch.setattr(speed, "time", Clock)
    measured = measure_speed(make, TrainSettings(threads=1, precision="float32", dropout=0.0))
    (learner,) = learners
    (tokens,) = learner.tokens
    assert measured == pytest.approx(flops(learner.spec, tokens) / step_s(1), rel=0.2)
    assert learner.now < 3, "people wait for it"
