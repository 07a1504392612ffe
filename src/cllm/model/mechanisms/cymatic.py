"""`cymatic`: attention rings with distance, at six fixed ratios of one learned period."""

from __future__ import annotations

import math
from typing import ClassVar, final

from jaxtyping import Float

from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Reading,
    Tensor,
    Tensors,
    random_for,
)

RATIOS = tuple(hertz / 432 for hertz in (432, 528, 639, 741, 852, 963))
_PERIOD = 24.0


@final
class Cymatic(Mechanism):
    """A standing wave over the distance between query and key is added to the scores.

        b_h(i, j) = Σ_f a_hf · cos(2π·r_f·(i − j)/P + b_hf)

    with r_f = 432, 528, 639, 741, 852, 963 over 432, and P learned a layer, 24 tokens at the
    start and never below 1; kept as its difference from 24, which survives rounding to bfloat16.
    a = 0 at the start. A cosine of i − j is a sum of two products of one factor in i and one in
    j, so all six together are one matrix product of width 12.

    Shapes: strength [H, 6], phase [H, 6], longer [1] a layer. Cost: 12 multiplications a score.
    Placebo: six random ratios between 1 and 963/432.

    Source: this project. Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "cymatic"
    title: ClassVar = "waves over the distance, at six fixed ratios of a learned period"
    cost: ClassVar = "12 multiplications a score"
    control: ClassVar = "six random ratios in the same range"
    export: ClassVar = "refuses"

    @property
    def ratios(self) -> tuple[float, ...]:
        """Cycles in a period, wave by wave."""
        if not self.placebo:
            return RATIOS
        drawn = random_for("cymatic.placebo").uniform(RATIOS[0], RATIOS[-1], len(RATIOS))
        return tuple(sorted(float(ratio) for ratio in drawn))

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """Strengths, phases and periods."""
        found: dict[str, Parameter | None] = {}
        shape = (spec.heads, len(RATIOS))
        for layer in range(spec.layers):
            own = f"mechanisms.cymatic.{layer}"
            found[f"{own}.strength"] = Parameter(shape)
            found[f"{own}.phase"] = Parameter(shape)
            found[f"{own}.longer"] = Parameter((1,), lowest=1.0 - _PERIOD)
        return found

    def bias(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "#B #H #T S"]:
        """What is added for each key."""
        import torch

        # Bfloat16 has not the digits for hundreds of radians.
        exact = torch.promote_types(h.dtype, torch.float32)
        strength, phase, longer = (
            p[f"{layer}.{name}"].to(exact) for name in ("strength", "phase", "longer")
        )
        turns = torch.tensor(self.ratios, dtype=exact, device=h.device) * (2 * math.pi)
        positions = torch.arange(reading.all_ids.shape[1], dtype=exact, device=h.device)
        angles = positions[:, None] * (turns / (_PERIOD + longer))
        shifted = angles[reading.start :] + phase[:, None]
        amplitude = strength[:, None]
        queries = torch.cat((amplitude * shifted.cos(), amplitude * shifted.sin()), -1)
        keys = torch.cat((angles.cos(), angles.sin()), -1)
        return (queries @ keys.t()).to(h.dtype)[None]
