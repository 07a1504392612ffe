"""Weights of models that were not trained, for tests in which they need not mean anything."""

from __future__ import annotations

import numpy as np

from cllm.model import ModelSpec


def random_weights(spec: ModelSpec, seed: int = 0, *, spread: float = 0.3) -> dict[str, np.ndarray]:
    """Normal with deviation `spread`, so that texts are not trivial; norms are about one."""
    random = np.random.default_rng(seed)
    return {
        name: (spread * random.standard_normal(shape) + (len(shape) == 1)).astype(np.float32)
        for name, shape in spec.parameter_shapes().items()
    }
