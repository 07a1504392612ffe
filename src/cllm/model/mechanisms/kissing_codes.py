"""`kissing_codes`: each token has a fixed code, a vector of a kissing configuration."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Float64, Int
from numpy.typing import NDArray
from pydantic import Field

from cllm.errors import SettingsError
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Parameter,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.weights import EMBEDDING_RMS, SHARED_PART, Weights

# Codes and dimensions of each configuration.
_SIZES = {"e8": (240**2, 16), "leech": (196_560, 24)}
_SAMPLE = 256
# Places in a run at which the sample differs.
_MOMENTS = 1 << 20


@final
class KissingCodes(Mechanism):
    """Spheres that touch one sphere, as many as there is room for, give tokens their codes.

        e_t ← e_t + α · W · u_t,   α = 0 at the start

    u_t is fixed: two of the 240 roots of E8 next to each other (57,600 codes in 16 dimensions),
    or one of the 196,560 shortest vectors of the Leech lattice (24 dimensions). Two Leech codes
    are at least 60° apart, as two roots are; two of E8's codes 41°. All have mean square 1.

    The token of frequency rank n gets code (n − 1)·s mod N, s the number coprime to N that is
    nearest N/φ²: the golden angle's step, so that any first V codes are spread evenly over the
    list.

    With `whole` there is no other table: e_t = o + W · u_t, with one vector o for all.
    `uniformity` weighs a loss that spreads the table's directions ê over the sphere,
    log mean_{i≠j} exp(−2‖ê_i − ê_j‖²), over 256 rows that change with the run's progress.
    Where another mechanism makes the table, theirs is added.

    Shapes: up [C, 16 or 24], strength [1], or offset [C] with `whole`: that many parameters
    instead of V·C. Cost in training: 16·V·C or 24·V·C multiplications a step; in a finished
    model none. Placebo: codes of the same length in random directions.

    Source: Conway and Sloane 1999, Sphere Packings, Lattices and Groups, chapter 1; Wang and
    Isola 2020, arXiv:2005.10242 (uniformity). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "kissing_codes"
    title: ClassVar = "each token's fixed code is a vector of a kissing configuration"
    cost: ClassVar = "none in a finished model"
    control: ClassVar = "codes of the same length in random directions"
    export: ClassVar = "folds"
    needs: ClassVar = frozenset({"ranks"})

    lattice: Literal["e8", "leech"] = Field("e8", description="Where the codes are from.")
    whole: bool = Field(False, description="The codes alone make the table of embeddings.")
    uniformity: float = Field(
        0.0, ge=0.0, description="Weight of the loss that spreads token vectors."
    )

    @property
    def replaces(self) -> bool:
        """Whether the codes alone make the table."""
        return self.whole

    def fitted(self, spec: ModelSpec, lexicon: Lexicon | None) -> KissingCodes:
        """Checked against the vocabulary. Raises: SettingsError."""
        del lexicon
        count, _ = _SIZES[self.lattice]
        if spec.vocab_size > count:
            other = self.lattice == "e8" and spec.vocab_size <= _SIZES["leech"][0]
            raise SettingsError(
                f"there are {count:,} codes for {spec.vocab_size:,} tokens",
                where="kissing_codes.lattice",
                hint="Choose leech." if other else "Choose a smaller vocabulary.",
            )
        return self

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The projection, with its strength or with what all tokens share."""
        size = _SIZES[self.lattice][1]
        part = (1 - SHARED_PART**2) ** 0.5 if self.whole else 1.0
        deviation = EMBEDDING_RMS * part * size**-0.5
        up = Parameter((spec.width, size), deviation=deviation, decays=True)
        if not self.whole:
            return {
                "mechanisms.kissing_codes.up": up,
                "mechanisms.kissing_codes.strength": Parameter((1,)),
            }
        return {
            "embedding.weight": None,
            "mechanisms.kissing_codes.up": up,
            "mechanisms.kissing_codes.offset": Parameter((spec.width,)),
        }

    def codes(self, lexicon: Lexicon) -> Float64[np.ndarray, "V N"]:
        """The code of each token."""
        from cllm.numbers.leech import leech_minimal_vectors
        from cllm.numbers.root_lattices import e8_roots

        count, size = _SIZES[self.lattice]
        places = (lexicon.ranks.astype(np.int64) - 1) * golden_step(count) % count
        if self.placebo:
            parts = 2 if self.lattice == "e8" else 1
            shape = (len(places), parts, size // parts)
            drawn = random_for("kissing_codes.placebo").standard_normal(shape)
            drawn *= (size // parts) ** 0.5 / np.linalg.norm(drawn, axis=2, keepdims=True)
            return np.ascontiguousarray(drawn.reshape(len(places), size))
        if self.lattice == "leech":
            found = leech_minimal_vectors()[places].astype(np.float64)
        else:
            roots = e8_roots()
            first, second = np.divmod(places, len(roots))
            found = np.concatenate([roots[first], roots[second]], axis=1).astype(np.float64)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        found *= size**0.5 / lengths
        return found

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """The code of each token."""
        del spec
        assert lexicon is not None
        return {"codes": self.codes(lexicon).astype(np.float32)}

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Begin with the part that all embeddings of the plain model share."""
        del lexicon
        if self.whole:
            shared = weights["embedding.weight"].mean(0)
            shared *= EMBEDDING_RMS * SHARED_PART * spec.width**0.5 / np.linalg.norm(shared)
            weights["mechanisms.kissing_codes.offset"] = shared

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"]:
        """The table with what the codes add, or made from them."""
        up = p["up"] if self.whole else p["strength"] * p["up"]
        made: Tensor = p["codes"].to(up.dtype) @ up.t()
        if self.whole:
            made = made + p["offset"]
        return made if table is None else table + made

    def loss(
        self,
        logits: Float[Tensor, "N V"],
        targets: Int[Tensor, " N"],
        table: Float[Tensor, "V C"],
        progress: float,
        p: Tensors,
    ) -> Float[Tensor, ""]:
        """The weighted uniformity for each target ≥ 0."""
        del p
        V = len(table)
        if self.uniformity == 0.0 or V < 2:
            return logits.new_zeros(())
        import torch

        size = min(_SAMPLE, V)
        places = torch.arange(size, device=table.device) + int(progress * _MOMENTS) * size
        rows = table[places * golden_step(V) % V].to(logits.dtype)
        unit = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        # ‖a − b‖² = 2 − 2·a·b on the sphere.
        exponents = 4.0 * (unit @ unit.t()) - 4.0
        pairs = exponents.masked_fill(
            torch.eye(size, dtype=torch.bool, device=table.device), float("-inf")
        )
        spread = pairs.flatten().logsumexp(0) - math.log(size * (size - 1))
        total: Tensor = self.uniformity * spread * (targets >= 0).sum()
        return total


@cache
def golden_step(count: int) -> int:
    """The number coprime to `count` that is nearest count/φ², the smaller of two."""
    aim = count * (3 - math.sqrt(5)) / 2
    coprime = (step for step in range(1, count + 1) if math.gcd(step, count) == 1)
    return min(coprime, key=lambda step: abs(step - aim))
