"""How well a model of a size learns from so much text: a small law, fitted to our own runs.

    bits per byte = floor + a · N^−α + b · D^−β

with N the parameters inside the blocks and D the bytes that are learned from; a text that is
read again and again counts for less each time. `benchmarks/scaling.py` fits the numbers and
writes them to scaling_law.json. Source of the form: Hoffmann 2022, arXiv:2203.15556, and for
repeated text Muennighoff 2023, arXiv:2305.16264.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from cllm.model.spec import ModelSpec

LAW_FILE = Path(__file__).with_name("scaling_law.json")


@dataclass(frozen=True, slots=True)
class ScalingLaw:
    """The fitted numbers; `spread` is the law's relative error on texts it was not fitted to.

    `repeats` is the number of readings after which another one teaches little.
    """

    floor: float
    size_factor: float
    size_power: float
    data_factor: float
    data_power: float
    repeats: float
    spread: float

    def bits_per_byte(self, block_parameters: float, seen_bytes: float, text_bytes: float) -> float:
        """What a run should end at on text like that of its corpus."""
        new = self.unique_bytes(seen_bytes, text_bytes)
        too_small = self.size_factor * math.pow(block_parameters, -self.size_power)
        too_little = self.data_factor * math.pow(new, -self.data_power)
        return self.floor + too_small + too_little

    def unique_bytes(self, seen_bytes: float, text_bytes: float) -> float:
        """The fresh text that is worth as much as the readings of this one."""
        readings = max(seen_bytes / max(text_bytes, 1.0), 1e-9)
        if readings <= 1.0:
            return seen_bytes
        again = self.repeats * (1.0 - math.exp(-(readings - 1.0) / self.repeats))
        return max(text_bytes, 1.0) * (1.0 + again)


@cache
def scaling_law() -> ScalingLaw:
    """The law that comes with this version."""
    return ScalingLaw(**json.loads(LAW_FILE.read_text(encoding="utf-8"))["law"])


def block_parameters(spec: ModelSpec) -> int:
    """Parameters but for the tables and the mechanisms."""
    spec = spec.plain
    return spec.num_parameters - spec.vocab_size * spec.width * (1 if spec.tied else 2)


def step_flops_per_token(spec: ModelSpec) -> float:
    """Work of a training step on one token: products forward and backward, and attention.

    Six per weight that multiplies (the head's table is one), and 6 · L · T · H · D for causal
    attention's products.
    """
    multiplied = block_parameters(spec) + spec.vocab_size * spec.width
    return 6.0 * (multiplied + spec.layers * spec.context * spec.heads * spec.head_width)


# What share of the speed at width 128 is reached at other widths (benchmarks/training_shares.py).
_SPEED_BY_WIDTH = ((32, 0.5), (64, 0.8), (96, 0.92), (128, 1.0), (256, 1.08), (384, 1.12))


def tokens_per_s(spec: ModelSpec, flops_per_s: float) -> float:
    """Expected speed of training on a machine that does `flops_per_s` at width 128."""
    widths, shares = zip(*_SPEED_BY_WIDTH, strict=True)
    share = float(np.interp(math.log(spec.width), np.log(widths), shares))
    return flops_per_s * share / step_flops_per_token(spec)
