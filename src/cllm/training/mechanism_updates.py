"""What mechanisms say of an optimiser's step: how much decays, how far row tables go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cllm.config import TrainSettings
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.spec import ModelSpec


def decay_at(rate: float, mechanisms: Sequence[Mechanism], weight_decay: float) -> float:
    """The decay of which a step takes `rate` times: the setting, or what a mechanism says."""
    for part in mechanisms:
        factor = part.step_factor(rate)
        if factor is not None:
            return (1.0 - factor) / rate if rate > 0 else 0.0
    return weight_decay


def table_rate(mechanisms: Sequence[Mechanism]) -> float:
    """Peak rate of tables whose touched rows alone are stepped; 0 without any."""
    return max((part.table_rate for part in mechanisms), default=0.0)


def first_squares(
    spec: ModelSpec,
    settings: TrainSettings,
    texts: Callable[[], Iterable[NDArray[np.uint32]]],
    readings: float,
) -> dict[str, NDArray[np.float32]]:
    """What the sums of squares of row tables begin with, by name; `settings` are decided.

    Gradients are of a step's mean loss, so what a token is worth falls with the tokens in it.
    """
    assert settings.batch_size is not None
    tokens = settings.batch_size * settings.accumulate * spec.context
    found: dict[str, NDArray[np.float32]] = {}
    for part in spec.mechanisms:
        for name, squares in part.first_squares(spec, texts(), readings).items():
            found[name] = (squares / tokens**2).astype(np.float32)
    return found
