"""How fast this machine trains, from a fraction of a second of training."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from cllm.config import TrainSettings
from cllm.model.initial import initial_weights
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights
from cllm.training.learner import Learner, Rates
from cllm.training.scaling import step_flops_per_token

_PROBE = ModelSpec(
    vocab_size=512,
    width=128,
    layers=2,
    heads=4,
    kv_heads=4,
    head_width=32,
    mlp_width=352,
    context=64,
)
_WINDOWS = 32
_SECONDS = 0.25


def measure_speed(
    make: Callable[[ModelSpec, Weights, TrainSettings], Learner], settings: TrainSettings
) -> float:
    """Floating-point operations per second of training at width 128; `settings` are decided."""
    learner = make(_PROBE, initial_weights(_PROBE, seed=0), settings)
    random = np.random.default_rng(0)
    ids = random.integers(0, _PROBE.vocab_size, (_WINDOWS, _PROBE.context)).astype(np.int32)
    batch, rates = (ids, np.roll(ids, -1, axis=1)), Rates(1e-4, 1e-4, 0.9)
    learner.step([batch], rates)
    seconds: list[float] = []
    while sum(seconds) < _SECONDS or len(seconds) < 3:
        start = time.perf_counter()
        learner.step([batch], rates)
        seconds.append(time.perf_counter() - start)
    # The median: what the machine usually has to spare, not its best moment.
    return step_flops_per_token(_PROBE) * ids.size / float(np.median(seconds))
