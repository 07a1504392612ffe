"""`plimpton`: rotary positions turn by exactly rational rotations."""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np
from jaxtyping import Float64

from cllm.model.mechanisms.mechanism import Mechanism, ModelSpec, random_for
from cllm.numbers.rotations import plimpton_frequencies


@final
class Plimpton(Mechanism):
    """Each pair turns by the angle of a Pythagorean triple from one position to the next.

        m_j = max(1, round(2/ω_j)),   cos = (m² − 1)/(m² + 1),   sin = 2m/(m² + 1)

    for RoPE's ω_j = base^(−2j/D): the triples are (m² − 1, 2m, m² + 1), and the angle is
    2·atan(1/m) ≈ ω_j. As a turn is rational its powers are, and by Niven's theorem none but
    those of m = 1 ever returns exactly. The tables are rounded from the exact angles.

    Cost: none. Another program's rotary positions are a ladder of one base, so this opens in
    CLLM alone. Placebo: 2/ω_j is moved by a random number between −½ and ½ instead of rounded,
    which changes the angles by as much.

    Source: this project; Su 2021, arXiv:2104.09864 (RoPE). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "plimpton"
    title: ClassVar = "rotary positions by exactly rational rotations, from Pythagorean triples"
    cost: ClassVar = "none"
    control: ClassVar = "angles moved at random by as much as the rounding moves them"
    export: ClassVar = "refuses"
    replaces: ClassVar = True
    excludes: ClassVar = {"golden": "both choose the angles of rotary positions"}

    def frequencies(self, spec: ModelSpec) -> Float64[np.ndarray, " P"]:
        """The angle by which each pair of a head turns from one position to the next."""
        if not self.placebo:
            return plimpton_frequencies(spec.head_width, spec.rope_base)
        pairs = np.arange(spec.head_width // 2)
        cotangents = 2.0 * spec.rope_base ** (2.0 * pairs / spec.head_width)
        cotangents += random_for("plimpton.placebo").uniform(-0.5, 0.5, len(pairs))
        angles: Float64[np.ndarray, " P"] = 2.0 * np.arctan(1.0 / cotangents)
        return angles
