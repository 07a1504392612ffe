"""`reversal`: a query is mixed with its own position's key."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Tensor,
    Tensors,
    random_for,
)
from cllm.numbers.plimpton import primitive_triples


@final
class Reversal(Mechanism):
    """What a position offers is also what it asks for, to a learned extent.

        W_q,h ← W_q,h + ρ_h · R · W_k,g(h),   ρ = 0 at the start

    before the norm of queries and the rotary positions; g(h) is the head's key head. R turns
    pair j (channels j and j + D/2) by the angle of the j-th primitive Pythagorean triple in
    order of the diagonal: cosine a/c, sine b/c, so R is exactly rational and orthogonal. It
    turns the pairs that rotary positions turn, and commutes with them: what it adds to a score,
    k_iᵀ·Rᵀ·(turn by i − j)·k_j but for the norms, hangs on the distance alone.

    Shapes: strength [H] a layer. Cost in training: H·D·C multiplications a step and layer; in a
    finished model none, as it is a matrix again. Placebo: random angles from the same range,
    0 to π/2, over which those of the triples are spread evenly.

    Source: this project; Lehmer 1900, Amer. J. Math. 22 (the triples' angles are equidistributed).
    Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "reversal"
    title: ClassVar = "each query is mixed with its own position's key, turned by triples"
    cost: ClassVar = "none in a finished model"
    control: ClassVar = "turned by random angles"
    export: ClassVar = "folds"

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The strengths ρ."""
        return {
            f"mechanisms.reversal.{layer}.strength": Parameter((spec.heads,))
            for layer in range(spec.layers)
        }

    def cosines_and_sines(self, pairs: int) -> Float64[np.ndarray, "2 P"]:
        """By how much R turns each pair."""
        if self.placebo:
            angles = random_for("reversal.placebo").uniform(0.0, np.pi / 2, pairs)
            return np.stack([np.cos(angles), np.sin(angles)])
        # In the long run one number in 2π is the diagonal of a triple (Lehmer).
        a, b, c = primitive_triples(8 * pairs + 32)[:pairs].T
        assert len(c) == pairs
        return np.stack([a / c, b / c])

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Cosines and sines of R."""
        del lexicon
        return {"turns": self.cosines_and_sines(spec.head_width // 2).astype(np.float32)}

    def project(self, layer: int, qkv: Float[Tensor, "R C"], p: Tensors) -> Float[Tensor, "Q C"]:
        """The matrix with keys mixed into the queries."""
        import torch

        strength, (cos, sin) = p[f"{layer}.strength"], p["turns"].to(qkv.dtype)[..., None]
        H, D, C = len(strength), 2 * len(cos), qkv.shape[1]
        queries, rest = qkv[: H * D].view(H, D, C), qkv[H * D :]
        x, y = rest[: len(rest) // 2].view(-1, D, C).chunk(2, 1)
        turned = torch.cat((cos * x - sin * y, sin * x + cos * y), 1)
        keys = turned.repeat_interleave(H // len(turned), 0)
        return torch.cat(((queries + strength[:, None, None] * keys).view(H * D, C), rest))
