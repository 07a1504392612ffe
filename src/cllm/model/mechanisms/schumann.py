"""`schumann`: attention forgets with distance, by a fixed ladder or by what is read."""

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

# 7.83 Hz over a hundred: the middle of the ladder, whose steps are factors of two.
_MIDDLE = 0.0783


@final
class Schumann(Mechanism):
    """What lies far back counts for less.

    `kind=forget` (a gate for each key head k, read from the data):

        b_ij = s_h · G_k(j),   G_k(j) = Σ_{l≤j} −log σ(w_k · x_l + o_k)

    `kind=static` (a ladder λ_h of factors of two around 0.0783 over the heads):

        b_ij = −s_h · λ_h · (i − j)

    Both depend on the key alone, as a term in i cancels in the softmax; s = 0 at the start, o = 2.

    Shapes: strength [H], gate [K, C], offset [K] a layer. Cost: K·C multiplications a token and
    layer, and one addition a score. Placebo: the gate reads a fixed random vector for each of
    256 positions; the static ladder is drawn log-uniformly from the same range.

    Source: Lin 2025, arXiv:2503.02130 (Forgetting Transformer); Press 2022, arXiv:2108.12409
    (ALiBi). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "schumann"
    title: ClassVar = "attention forgets with distance: a forget gate, or a fixed ladder"
    cost: ClassVar = "K·C multiplications a token and layer, one addition a score"
    control: ClassVar = "the gate reads noise by position; the ladder's steps are random"
    export: ClassVar = "refuses"
    is_compiled: ClassVar = True

    kind: Literal["forget", "static"] = Field("forget", description="By the data, or a ladder.")

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """Strengths, and the forget gates."""
        found: dict[str, Parameter | None] = {}
        for layer in range(spec.layers):
            found[f"mechanisms.schumann.{layer}.strength"] = Parameter((spec.heads,))
            if self.kind == "forget":
                found[f"mechanisms.schumann.{layer}.gate"] = Parameter(
                    (spec.kv_heads, spec.width), deviation=0.02
                )
                found[f"mechanisms.schumann.{layer}.offset"] = Parameter((spec.kv_heads,), 2.0)
        return found

    def ladder(self, heads: int) -> tuple[float, ...]:
        """λ of each head."""
        powers = np.arange(heads) - (heads - 1) / 2
        if self.placebo:
            powers = random_for("schumann.placebo").uniform(-heads / 2, heads / 2, heads)
        return tuple(float(value) for value in _MIDDLE * 2.0**powers)

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """The ladder, or the control's noise."""
        del lexicon
        if self.kind == "static":
            return {"ladder": np.array(self.ladder(spec.heads), np.float32)}
        if not self.placebo:
            return {}
        return {"noise": noise_table(self.name, spec.width)}

    def bias(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "#B #H #T S"]:
        """What is added for each key."""
        import torch
        import torch.nn.functional as F

        strength = p[f"{layer}.strength"]
        if self.kind == "static":
            # 16 bits can't count beyond 256.
            exact = torch.promote_types(h.dtype, torch.float32)
            places = torch.arange(reading.all_ids.shape[1], dtype=exact, device=h.device)
            slopes = strength.to(exact) * p["ladder"].to(exact)
            return slopes[None, :, None, None] * places
        if self.placebo:
            h = noise_at(p["noise"], h, reading)
        kept = F.logsigmoid(h @ p[f"{layer}.gate"].t() + p[f"{layer}.offset"])
        # A sum over a window is too much for 16 bits.
        kept = kept.to(torch.promote_types(kept.dtype, torch.float32))
        total = -reading.remember(f"schumann.{layer}", kept).cumsum(1)
        groups = len(strength) // total.shape[2]
        by_head = total.repeat_interleave(groups, 2).transpose(1, 2)[:, :, None]
        return strength[None, :, None, None] * by_head
