"""What learns: weights, their gradients and the optimiser, behind one small interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights
from cllm.training.checkpoint import Tensors

# Inputs and targets, both [B, T]; targets below 0 do not count.
Batch = tuple[Int32[np.ndarray, "B T"], Int32[np.ndarray, "B T"]]


@dataclass(frozen=True, slots=True)
class Rates:
    """What changes from step to step: AdamW's rate, Muon's, and Muon's momentum.

    `share` is the present rate over the peak, `progress` the share of the run that is done.
    """

    learning_rate: float
    matrix_rate: float
    momentum: float
    share: float = 1.0
    progress: float = 0.0


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Mean loss of a step's tokens, and the norm of its gradient before clipping."""

    nats: float
    gradient_norm: float


@runtime_checkable
class Learner(Protocol):
    """A model in training. `CompiledLearner` and `TorchLearner` are the two kinds."""

    spec: ModelSpec

    @property
    def context(self) -> int:
        """Most tokens it sees at once."""
        ...

    def step(self, batches: Sequence[Batch], rates: Rates) -> StepFigures:
        """One optimiser step on the mean loss of all batches.

        Where the loss or the norm is not finite, the weights stay as they were.
        """
        ...

    def begin_rows(self, squares: Mapping[str, NDArray[np.float32]]) -> None:
        """Set what the sums of squares of row tables begin with, by the table's name."""
        ...

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0, in the precision of training."""
        ...

    def weights(self) -> Weights:
        """A copy of the float32 weights."""
        ...

    def state(self) -> Tensors:
        """Everything a checkpoint must hold: weights, moments, number of steps."""
        ...

    def load_state(self, tensors: Tensors) -> None:
        """Go on from what `state` gave."""
        ...
