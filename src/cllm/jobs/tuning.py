"""The gradients by which a quantised model's scales and gains are trained for a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int32

from cllm.errors import NativeError
from cllm.model.packed import MixedWeights, is_packed
from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights

if TYPE_CHECKING:
    from cllm.native import Library
    from cllm.quantise.tuning import Gradient

# 24 steps of 16 windows took a sixth off what 2 bits cost a model of 6 million parameters.
STEPS, _WINDOWS = 24, 16


def tuned(
    spec: ModelSpec,
    weights: MixedWeights,
    windows: Int32[np.ndarray, "B T"],
    home: Path,
    on_step: Callable[[int], None],
) -> MixedWeights:
    """The same integers with better scales and gains, where the compiled engine can find them.

    Only where every matrix has 2 bits: where the loss is close to the whole model's already,
    the noise of so short a training costs more than it gains (3 bits: +0.04%, 4 bits: +0.14%).
    """
    from cllm.native import load_library
    from cllm.quantise.tuning import tune
    from cllm.training.compiled_parts import uncompiled

    packed = [value for value in weights.values() if is_packed(value)]
    if not all(value.kind == "e8" and len(value.codes) == 1 for value in packed):
        return weights
    if uncompiled(spec.mechanisms):
        return weights
    try:
        library = load_library(home / "native")
    except NativeError:
        return weights
    return tune(weights, _gradients(library, spec, windows, on_step), STEPS)


def _gradients(
    library: Library,
    spec: ModelSpec,
    windows: Int32[np.ndarray, "B T"],
    on_step: Callable[[int], None],
) -> Iterator[Gradient]:
    """A gradient on some windows after another, in a shuffled order."""
    from cllm.native import TABLE, Engine, named_views
    from cllm.training.compiled_parts import parts_of
    from cllm.training.plan import default_threads

    parts = parts_of(spec)
    engine = Engine(library, spec, parts, threads=default_threads(), is_bfloat16=False)
    views = named_views(spec, engine.parameters, parts)
    slopes = named_views(spec, engine.gradients, parts)
    order = np.random.default_rng(0).permutation(len(windows))

    def gradient_on(rows: Int32[np.ndarray, "B T"]) -> Gradient:
        ids, targets = np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])

        def gradient(weights: Weights) -> tuple[float, Weights]:
            for name, value in weights.items():
                if name == TABLE:
                    engine.table[...] = value
                else:
                    views[name][...] = value
            engine.changed()
            nats = engine.gradient(ids, targets, weight=1.0 / targets.size)
            return nats / targets.size, slopes

        return gradient

    for step in range(STEPS):
        on_step(step)
        yield gradient_on(
            windows[np.take(order, range(step * _WINDOWS, (step + 1) * _WINDOWS), mode="wrap")]
        )
