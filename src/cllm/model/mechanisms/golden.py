"""`golden`: rotary frequencies that fall by the golden ratio."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, final

from cllm.model.mechanisms.mechanism import Mechanism, ModelSpec, random_for

_PHI = (1 + math.sqrt(5)) / 2


@final
class Golden(Mechanism):
    """The frequency ladder of rotary positions is that of the golden ratio.

        ω_j = φ^(−j),   which is RoPE with base φ^(D/2)

    since base^(−2j/D) = φ^(−j). So it is one number of the configuration, and every program that
    reads Qwen3 runs it. Cost: none. Placebo: a base drawn log-uniformly between 10 and 10⁶.

    Source: this project; Su 2021, arXiv:2104.09864 (RoPE). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "golden"
    title: ClassVar = "rotary frequencies that fall by the golden ratio"
    cost: ClassVar = "none"
    control: ClassVar = "a random base between 10 and a million"
    export: ClassVar = "folds"
    is_compiled: ClassVar = True
    replaces: ClassVar = True

    def adapted(self, spec: ModelSpec) -> ModelSpec:
        """Another rotary base."""
        base = _PHI ** (spec.head_width / 2)
        if self.placebo:
            base = 10.0 ** random_for("golden.placebo").uniform(1, 6)
        return replace(spec, rope_base=float(base))
