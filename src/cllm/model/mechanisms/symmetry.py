"""`symmetry`: all heads ask the same question, turned by multiples of 30°."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from pydantic import Field

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.weights import Weights

_ORDER = 12


@final
class Symmetry(Mechanism):
    """The heads' queries are one projection, turned as the vertices of a dodecagon, plus little.

        W_q,h = S(h) · W_q⁰ + U_h · V_h,   S(h) a turn of every rotary pair by 30° · h

    U_h · V_h has rank `rank`. With `reflections` heads 12 to 23 are mirrored before they are
    turned, so S(h) runs through the dihedral group of order 24. A turn of all pairs by one
    angle is not a shift in position, as that turns each pair by an angle of its own; it
    commutes with it.

    Differs from the first definition: only queries are shared, since with grouped heads keys
    and values are few.

    It begins with the first head's queries for W_q⁰, V_h small and random but for its first row,
    the direction that all embeddings share, and U_h such that on that direction each head asks
    what it would in the plain model: heads that begin by looking back go on to.

    Shapes: qkv [D + 2·K·D, C], up [H, D, r], down [H, r, C] a layer: (H − 1)·D·C parameters
    less, H·r·(D + C) more. Cost in training: H·(r + 2)·D·C multiplications a step and layer; in
    a finished model none, and no less either. Placebo: random angles.

    Source: this project. Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "symmetry"
    title: ClassVar = "heads share one query projection, turned by multiples of 30°"
    cost: ClassVar = "none in a finished model; (H − 1)·D·C parameters less to train a layer"
    control: ClassVar = "turned by random angles"
    export: ClassVar = "folds"
    replaces: ClassVar = True

    rank: int = Field(4, ge=1, description="Rank of what each head adds of its own.")
    reflections: bool = Field(False, description="Mirror heads 12 to 23.")

    def turns(self, heads: int) -> Float64[np.ndarray, "3 H"]:
        """Cosine, sine, and −1 for a head that is mirrored first."""
        index = np.arange(heads)
        angles = 2 * np.pi / _ORDER * (index % _ORDER)
        if self.placebo:
            angles = random_for("symmetry.placebo").uniform(0.0, 2 * np.pi, heads)
        is_mirrored = (index // _ORDER % 2 == 1) & self.reflections
        return np.stack([np.cos(angles), np.sin(angles), np.where(is_mirrored, -1.0, 1.0)])

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """One head's queries with all keys and values, and what each head adds."""
        H, D, C = spec.heads, spec.head_width, spec.width
        rows = (D, spec.kv_heads * D, spec.kv_heads * D)
        found: dict[str, Parameter | None] = {}
        for layer in range(spec.layers):
            name = f"blocks.{layer}.attention.qkv.weight"
            found[name] = Parameter((sum(rows), C), update="muon", decays=True, rows=rows)
            own = f"mechanisms.symmetry.{layer}"
            found[f"{own}.up"] = Parameter((H, D, self.rank), decays=True)
            found[f"{own}.down"] = Parameter((H, self.rank, C), deviation=C**-0.5, decays=True)
        return found

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Cosines, sines and signs of the heads."""
        del lexicon
        return {"turns": self.turns(spec.heads).astype(np.float32)}

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Take the base from the first head, and keep what each asks of the shared direction."""
        del lexicon
        H, D, C = spec.heads, spec.head_width, spec.width
        shared = weights["embedding.weight"].mean(0)
        shared = shared / np.linalg.norm(shared)
        cos, sin, sign = self.turns(H)[..., None].astype(np.float32)
        for layer in range(spec.layers):
            name, own = f"blocks.{layer}.attention.qkv.weight", f"mechanisms.symmetry.{layer}"
            plain = weights[name]
            asked = plain[: H * D].reshape(H, D, C) @ shared
            x, y = np.split(asked[0], 2)
            turned = np.concatenate([cos * x - sin * sign * y, sin * x + cos * sign * y], 1)
            weights[f"{own}.up"][:, :, 0] = asked - turned
            weights[f"{own}.down"][:, 0] = shared
            weights[name] = np.concatenate([plain[:D], plain[H * D :]])

    def project(self, layer: int, qkv: Float[Tensor, "R C"], p: Tensors) -> Float[Tensor, "Q C"]:
        """The matrix with every head's queries."""
        import torch

        up, down = p[f"{layer}.up"], p[f"{layer}.down"]
        H, D, _ = up.shape
        cos, sin, sign = p["turns"].to(qkv.dtype)[..., None, None]
        x, y = qkv[:D].chunk(2)
        turned = torch.cat((cos * x - sin * sign * y, sin * x + cos * sign * y), 1)
        return torch.cat(((turned + up @ down).view(H * D, -1), qkv[D:]))
