"""What mechanisms say of an optimiser's step: how much is kept, how far row tables go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cllm.config import TrainSettings
from cllm.model.mechanisms.mechanism import Mechanism
from cllm.model.spec import ModelSpec


def kept_share(mechanisms: Sequence[Mechanism], rate: float, weight_decay: float) -> float:
    """What a step multiplies decaying weights with: 1 − rate · decay, or what a mechanism says."""
    for part in mechanisms:
        factor = part.step_factor(rate)
        if factor is not None:
            return factor
    return 1.0 - rate * weight_decay


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
