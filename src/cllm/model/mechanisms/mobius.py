"""`mobius`: a bounded Möbius map on the logits."""

from __future__ import annotations

from typing import ClassVar, final

from jaxtyping import Float

from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Tensor,
    Tensors,
)


@final
class Mobius(Mechanism):
    """Large logits are drawn in, small ones left alone.

        z ↦ z / (1 + u·|z|),   u ≥ 0, and 0 at the start

    Below 0 there would be a pole, so each step ends at u ≥ 0. Shapes: strength [1]. Cost: a few
    operations a logit. Placebo: the usual soft cap z ↦ tanh(√u·z)/√u, which is no Möbius map.

    Source: this project; Gemma 2 2024, arXiv:2408.00118 caps logits by tanh.
    Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "mobius"
    title: ClassVar = "a bounded Möbius map on the logits"
    cost: ClassVar = "3·V operations a token"
    control: ClassVar = "the usual soft cap by tanh"
    export: ClassVar = "refuses"

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The strength u."""
        del spec
        return {"mechanisms.mobius.strength": Parameter((1,), lowest=0.0)}

    def map_logits(self, logits: Float[Tensor, "B T V"], p: Tensors) -> Float[Tensor, "B T V"]:
        """The bounded logits."""
        strength = p["strength"]
        if self.placebo:
            # As a function of u, not √u, it has a slope at 0 to learn from.
            return logits * _tanh_ratio(strength * logits * logits)
        return logits / (1.0 + strength * logits.abs())


def _tanh_ratio(squared: Tensor) -> Tensor:
    """tanh(√s)/√s, smooth at 0."""
    root = squared.clamp_min(1e-12).sqrt()
    ratio: Tensor = (root.tanh() / root).where(squared > 1e-6, 1.0 - squared / 3.0)
    return ratio
