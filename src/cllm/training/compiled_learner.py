"""A model that learns in compiled code, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from cllm.config import TrainSettings
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights
from cllm.native import PHASES, TABLE, Engine, Library, Update, named_views, parameter_places
from cllm.training.checkpoint import Tensors
from cllm.training.compiled_parts import parts_of, require_head_norm
from cllm.training.learner import Batch, Rates, StepFigures
from cllm.training.mechanism_updates import decay_at, table_rate

_KINDS = ("weight", "exp_avg", "exp_avg_sq")


class CompiledLearner:
    """A `Learner` over `Engine`; `settings` are decided. Raises: SettingsError, MemoryError."""

    def __init__(
        self,
        library: Library,
        spec: ModelSpec,
        weights: Weights,
        settings: TrainSettings,
    ) -> None:
        assert settings.threads is not None
        require_head_norm(spec)
        self.spec, self._settings = spec, settings
        self._table_rate = table_rate(spec.mechanisms)
        parts = parts_of(spec)
        self._engine = Engine(
            library,
            spec,
            parts,
            threads=settings.threads,
            is_bfloat16=settings.precision == "bfloat16",
        )
        arrays = (self._engine.parameters, self._engine.first_moments, self._engine.second_moments)
        self._views = {
            f"{kind}.{name}": view
            for kind, array in zip(_KINDS, arrays, strict=True)
            for name, view in named_views(spec, array, parts).items()
        }
        if parts.ngram:
            self._views[f"weight.{TABLE}"] = self._engine.table
            self._views[f"row_squares.{TABLE}"] = self._engine.row_squares
        self._num_steps = 0
        self._spent_s = dict.fromkeys(PHASES, 0.0)
        for name, value in weights.items():
            self._views[f"weight.{name}"][...] = value
        self._engine.changed()

    @property
    def context(self) -> int:
        """Most tokens it sees at once."""
        return self.spec.context

    @property
    def vocab_size(self) -> int:
        """Number of logits."""
        return self.spec.vocab_size

    def step(self, batches: Sequence[Batch], rates: Rates) -> StepFigures:
        """One optimiser step on the mean loss of all batches."""
        before = self._engine.spent_s()
        figures = self._step(batches, rates)
        for name, seconds in self._engine.spent_s().items():
            self._spent_s[name] += seconds - before[name]
        return figures

    def _step(self, batches: Sequence[Batch], rates: Rates) -> StepFigures:
        num_targets = sum(int((targets >= 0).sum()) for _, targets in batches)
        nats = 0.0
        for number, (ids, targets) in enumerate(batches):
            nats += self._engine.gradient(
                ids,
                targets,
                weight=1.0 / num_targets,
                is_first=number == 0,
                dropout=self._settings.dropout or 0.0,
                seed=(self._settings.seed * 1_000_003 + self._num_steps) * 4099 % 2**63 + number,
            )
        if not math.isfinite(nats):
            return StepFigures(nats / num_targets, math.nan)
        settings = self._settings
        norm = self._engine.update(
            Update(
                step=self._num_steps + 1,
                rate=rates.learning_rate,
                matrix_rate=rates.matrix_rate if settings.optimizer == "muon" else 0.0,
                beta1=settings.beta1,
                beta2=settings.beta2,
                epsilon=settings.epsilon,
                weight_decay=self._weight_decay(rates),
                clip=settings.clip,
                momentum=rates.momentum,
                table_rate=self._table_rate * rates.share,
            )
        )
        if math.isfinite(norm):
            self._num_steps += 1
        return StepFigures(nats / num_targets, norm)

    def _weight_decay(self, rates: Rates) -> float:
        """The decay that, times the rate, is what a step takes from the weights."""
        is_muon = self._settings.optimizer == "muon"
        rate = rates.matrix_rate if is_muon else rates.learning_rate
        return decay_at(rate, self.spec.mechanisms, self._settings.weight_decay)

    def begin_rows(self, squares: Mapping[str, NDArray[np.float32]]) -> None:
        """Set what the sums of squares of row tables begin with."""
        for name, values in squares.items():
            self._views[f"row_squares.{name}"][...] = values

    def score(self, ids: Int32[np.ndarray, "B T"], targets: Int32[np.ndarray, "B T"]) -> float:
        """Summed nats over targets ≥ 0, in the precision of training."""
        return self._engine.score(ids, targets)

    def spent_s(self) -> dict[str, float]:
        """Seconds by kind of work inside the steps so far."""
        return dict(self._spent_s)

    def weights(self) -> Weights:
        """A copy of the float32 weights."""
        kind = "weight."
        return {
            name.removeprefix(kind): view.copy()
            for name, view in self._views.items()
            if name.startswith(kind)
        }

    def state(self) -> Tensors:
        """Weights, moments and the number of steps."""
        return {**self._views, "num_steps": np.array([self._num_steps])}

    def load_state(self, tensors: Tensors) -> None:
        """Go on from what `state` gave."""
        for name, view in self._views.items():
            view[...] = tensors[name]
        self._num_steps = int(tensors["num_steps"][0])
        self._engine.changed()


def scoring_engine(
    library: Library,
    spec: ModelSpec,
    weights: Weights,
    *,
    threads: int,
) -> Engine:
    """A float32 engine that only looks: for figures that other programs should agree with.

    It reads the input memory's table where `weights` have it. Raises: SettingsError, MemoryError.
    """
    require_head_norm(spec)
    parts = parts_of(spec)
    places = parameter_places(spec, parts)
    return Engine(
        library,
        spec,
        parts,
        threads=threads,
        is_bfloat16=False,
        learns=False,
        parameters=np.concatenate([weights[place.name].ravel() for place in places]),
        table=weights.get(TABLE),
    )
