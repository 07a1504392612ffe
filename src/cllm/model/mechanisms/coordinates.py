"""`coordinates`: each token has a learned place in space, first on a golden spiral."""

from __future__ import annotations

from typing import ClassVar, final

import numpy as np
from jaxtyping import Float, Float32
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
from cllm.model.weights import EMBEDDING_RMS, Weights
from cllm.numbers.spirals import golden_places


@final
class Coordinates(Mechanism):
    """A learned place c_t in space is mixed into a token's vector.

        e_t ← e_t + α · W · c_t,   α = 0 at the start

    The first places: the token of frequency rank n is the n-th point of the golden spiral in
    the unit disc, at height log p_n / log p_V, p_n the n-th prime.

    Differs from the first definition: the height is divided by the largest, so that all three
    coordinates are of one size.

    Shapes: points [V, 3], up [C, 3], strength [1]. Cost in training: 3·V·C multiplications a
    step; in a finished model none. Placebo: the same points, dealt out to the tokens at random.

    Source: Vogel 1979, Mathematical Biosciences 44 (the spiral); this project. Status: measured
    (docs/mechanisms.md).
    """

    name: ClassVar = "coordinates"
    title: ClassVar = "each token has a learned place in space, first on a golden spiral"
    cost: ClassVar = "none in a finished model"
    control: ClassVar = "the same places, dealt out at random"
    export: ClassVar = "folds"
    needs: ClassVar = frozenset({"ranks"})

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The places, the projection and its strength."""
        return {
            "mechanisms.coordinates.points": Parameter((spec.vocab_size, 3)),
            "mechanisms.coordinates.up": Parameter(
                (spec.width, 3), deviation=EMBEDDING_RMS * 3**-0.5, decays=True
            ),
            "mechanisms.coordinates.strength": Parameter((1,)),
        }

    def points(self, lexicon: Lexicon) -> Float32[np.ndarray, "V 3"]:
        """The first places."""
        count = lexicon.vocab_size
        order: NDArray[np.int64] = lexicon.ranks.astype(np.int64) - 1
        if self.placebo:
            order = random_for("coordinates.placebo").permutation(count)
        return golden_places(count)[order].astype(np.float32)

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Put every token in its place."""
        del spec
        assert lexicon is not None
        weights["mechanisms.coordinates.points"] = self.points(lexicon)

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"]:
        """The table with what the places add."""
        assert table is not None, "whatever makes the table comes before"
        return table + p["points"] @ (p["strength"] * p["up"]).t()
