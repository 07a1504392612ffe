"""`gamma`: each head's output is gated by what the position has read."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import Field

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Reading,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.mechanisms.noise import noise_at, noise_table

# A gamma burst of 40 Hz within a cycle of 7.83 Hz lasts this many tokens.
_PERIOD = 40 / 7.83


@final
class Gamma(Mechanism):
    """A head that has nothing to say can fall silent; one that has may speak louder.

        y_h ← y_h · 2σ(W_g x)_h

    with x what attention reads; W_g = 0 at the start, so every factor is 1. With `kind=clock` the
    values are modulated instead, by the position j in the document alone:

        v_j ← v_j · (1 + a_k · cos(2πj/P)),   P = 40/7.83, a = 0 at the start

    Shapes: weight [H, C], or strength [K]. Cost: C·H multiplications a token. Placebo: the gate
    reads a fixed random vector for each of 256 positions instead of x; the clock's period is
    random.

    Source: Qiu 2025, arXiv:2505.06708 (gated attention). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "gamma"
    title: ClassVar = "a gate on each head's output, read from the data"
    cost: ClassVar = "C·H multiplications a token and layer"
    control: ClassVar = "the gate reads noise that depends on the position alone"
    export: ClassVar = "refuses"

    kind: Literal["gate", "clock"] = Field("gate", description="Gate by the data, or a clock.")

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled engine has it: it has no clock."""
        return self.kind == "gate"

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The gates, or the strengths of the clock."""
        shape: tuple[int, ...]
        name, shape = "weight", (spec.heads, spec.width)
        if self.kind == "clock":
            name, shape = "strength", (spec.kv_heads,)
        return {
            f"mechanisms.gamma.{layer}.{name}": Parameter(shape) for layer in range(spec.layers)
        }

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """The control's noise [256, C], of the size that x has."""
        del lexicon
        if not self.placebo or self.kind == "clock":
            return {}
        return {"noise": noise_table(self.name, spec.width)}

    @property
    def period(self) -> float:
        """Tokens in one cycle of the clock."""
        return float(random_for("gamma.clock").uniform(2, 12)) if self.placebo else _PERIOD

    def gate(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "#B #T #H"]:
        """The factor of each head."""
        if self.kind == "clock":
            return h.new_ones(1, 1, 1)
        if self.placebo:
            h = noise_at(p["noise"], h, reading)
        factor: Tensor = 2.0 * (h @ p[f"{layer}.weight"].t()).sigmoid()
        return factor

    def values(
        self, layer: int, v: Float[Tensor, "B K S D"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "B K S D"]:
        """The values, modulated by the clock."""
        if self.kind == "gate":
            return v
        # Exact first: 16 bits can't count beyond 256.
        phase = (reading.places.double() * (2 * np.pi / self.period)).cos().to(v.dtype)
        modulation = 1.0 + p[f"{layer}.strength"][None, :, None] * phase[:, None]
        return v * modulation[..., None]
