"""A whole model: every matrix by its recipe, or by what a number of bytes allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from cllm.model.packed import MixedWeights, Packed
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights
from cllm.quantise.budget import Option, allocate, least_bytes
from cllm.quantise.curvature import DAMPING, damped, row_errors
from cllm.quantise.recipe import Bits, Recipe, quantise_matrix, quantised_names
from cllm.quantise.sensitivity import Loss, options_of, rises

Moments = Mapping[str, Float64[np.ndarray, "K K"]]
FileBytes = Callable[[MixedWeights], int]
# (done, of all, what is at work)
OnProgress = Callable[[int, int, str], None]
# A table that is both read and written out of is damped like a matrix whose inputs are half
# unknown: measured at 2 bits, the loss rose by 1.66% with 1, by 2.18% with 0.01, 1.95% with 5.
_TIED_DAMPING = 1.0


def curvatures(moments: Moments) -> dict[str, Float64[np.ndarray, "K K"]]:
    """The damped moments of each matrix whose inputs were seen."""
    return {
        name: damped(value, _TIED_DAMPING if name == "embedding.weight" else DAMPING)
        for name, value in moments.items()
    }


def quantise_weights(
    spec: ModelSpec, weights: Weights, recipe: Recipe, moments: Moments, on_progress: OnProgress
) -> MixedWeights:
    """Every matrix by one recipe; gains and what is small stay float32."""
    found, names = curvatures(moments), quantised_names(spec)
    mixed: MixedWeights = {**weights}
    for number, name in enumerate(names):
        on_progress(number, len(names), name)
        own = _allowed(name, [recipe])[0]
        mixed[name] = quantise_matrix(weights[name], own, found.get(name), number)
    return mixed


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """Every matrix in every recipe, with what each costs in bytes and in loss."""

    weights: Weights
    candidates: dict[str, list[Packed]]
    options: dict[str, list[Option]]
    file_bytes: FileBytes

    @property
    def coarsest(self) -> MixedWeights:
        """The smallest choice."""
        return {**self.weights, **{name: found[0] for name, found in self.candidates.items()}}

    def fit(self, most_bytes: int) -> MixedWeights | None:
        """Those with which a file fits and the loss rises least; None where none fits."""
        smallest = self.coarsest
        least, fewest = self.file_bytes(smallest), least_bytes(self.options)
        if least > most_bytes:
            return None
        room = most_bytes - least + fewest
        while True:
            chosen = allocate(self.options, max(room, fewest))
            assert chosen is not None, "the smallest choice fits"
            mixed: MixedWeights = {**self.weights}
            mixed |= {name: self.candidates[name][index] for name, index in chosen.items()}
            excess = self.file_bytes(mixed) - most_bytes
            if excess <= 0:
                return mixed
            # The file's header is longer with the names of two codes than of one.
            room -= excess


def prepare_budget(
    spec: ModelSpec,
    weights: Weights,
    recipes: Sequence[Recipe],
    moments: Moments,
    *,
    loss: Loss,
    file_bytes: FileBytes,
    on_progress: OnProgress,
) -> Budget:
    """Quantise everything by each recipe (the coarsest first), and measure what matters.

    `file_bytes` is the size of a file of such weights. Costs one call of `loss` a matrix.
    """
    found, names = curvatures(moments), quantised_names(spec)
    candidates: dict[str, list[Packed]] = {}
    errors: dict[str, list[float]] = {}
    for number, name in enumerate(names):
        on_progress(number, len(names) + 1, name)
        metric = found.get(name, np.eye(weights[name].shape[1]))
        candidates[name] = [
            quantise_matrix(weights[name], recipe, metric, number)
            for recipe in _allowed(name, recipes)
        ]
        errors[name] = [_error(weights[name], packed, metric) for packed in candidates[name]]
    on_progress(len(names), len(names) + 1, "measuring")
    rise = rises({**weights}, {name: made[0] for name, made in candidates.items()}, loss)
    options = {name: options_of(rise[name], candidates[name], errors[name]) for name in candidates}
    return Budget(weights, candidates, options, file_bytes)


def _allowed(name: str, recipes: Sequence[Recipe]) -> list[Recipe]:
    """The recipes that suit a matrix: what a mechanism keeps is rounded, to 4 bits or 8.

    Its tables are large, and their rows are read one at a time: nothing is known of inputs.
    """
    if not name.startswith("mechanisms."):
        return list(recipes)
    bits: list[Bits] = [8 if recipe.bits == 8 else 4 for recipe in recipes]
    return [Recipe("nearest", number) for number in sorted(set(bits))]


def _error(
    matrix: Float32[np.ndarray, "N K"], packed: Packed, metric: Float64[np.ndarray, "K K"]
) -> float:
    return float(row_errors(matrix - packed.dequantise(), metric).sum())
