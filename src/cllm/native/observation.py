"""What a model computes from a text, laid open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

Kept = Literal["hidden", "attention", "logits", "inputs"]
EVERYTHING: frozenset[Kept] = frozenset(("hidden", "attention", "logits", "inputs"))


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a model computed from T tokens.

    `hidden` [L + 1, T, C]: the residual stream before each block and after the last;
    `attention` [L, H, T, T]: the weight of each key (last axis) for each query; `logits`
    [T, V]; `inputs`: what each matrix read, by its parameter's name ([T, K]). What was not to be
    kept is empty: 0 stands for T, and there are no inputs.
    """

    hidden: Float32[np.ndarray, "L1 _T C"]
    attention: Float32[np.ndarray, "L H _T _T"]
    logits: Float32[np.ndarray, "_T V"]
    inputs: Mapping[str, Float32[np.ndarray, "T K"]]
