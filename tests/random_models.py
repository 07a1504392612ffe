"""Models that were not trained, for tests in which their weights need not mean anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from cllm.model import ModelSpec


def random_weights(spec: ModelSpec, seed: int = 0, *, spread: float = 0.3) -> dict[str, np.ndarray]:
    """Normal with deviation `spread`, so that texts are not trivial; norms are about one."""
    random = np.random.default_rng(seed)
    return {
        name: (spread * random.standard_normal(shape) + (len(shape) == 1)).astype(np.float32)
        for name, shape in spec.parameter_shapes().items()
    }


def small_spec(vocab_size: int, **changed: Any) -> ModelSpec:
    """The shape of a model that writes in no time."""
    shape = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8}
    shape |= {"mlp_width": 64, "context": 96}
    return ModelSpec(vocab_size=vocab_size, **{**shape, **changed})
