"""What a model computes from a text, laid open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a model computed from T tokens.

    `hidden` [L + 1, T, C]: the residual stream before each block and after the last;
    `attention` [L, H, T, T]: the weight of each key (last axis) for each query; `logits`
    [T, V]; `inputs`: what each matrix read, by its parameter's name ([T, K]).
    """

    hidden: Float32[np.ndarray, "L1 T C"]
    attention: Float32[np.ndarray, "L H T T"]
    logits: Float32[np.ndarray, "T V"]
    inputs: Mapping[str, Float32[np.ndarray, "T K"]]
