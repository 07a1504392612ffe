"""The weights before training."""

from __future__ import annotations

import numpy as np

from cllm.model.spec import ModelSpec
from cllm.model.weights import Weights


def initial_weights(spec: ModelSpec, seed: int) -> Weights:
    """Draw every weight; the same seed gives the same weights on every machine.

    Normal with deviation 0.02 at width 768, growing as 1/√width for narrower models;
    projections back into the residual stream divided by √(2L) (Radford 2019). Gains are 1.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 0]))
    deviation = 0.02 * (768 / spec.width) ** 0.5
    weights: Weights = {}
    for name, shape in spec.parameter_shapes().items():
        if len(shape) < 2:
            weights[name] = np.ones(shape, np.float32)
            continue
        into_stream = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
        scale = deviation * ((2 * spec.layers) ** -0.5 if into_stream else 1.0)
        weights[name] = random.standard_normal(shape, np.float32) * np.float32(scale)
    return weights
