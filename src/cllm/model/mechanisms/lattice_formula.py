"""`lattice_formula`: the master lattice formula's components as features of each token's rank."""

from __future__ import annotations

from typing import Any, ClassVar, final

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
from cllm.model.weights import EMBEDDING_RMS
from cllm.numbers.lattice_formula import COLUMNS, standardised_table


@final
class LatticeFormula(Mechanism):
    """Fixed numbers of a token's frequency rank n = 1, 2, … are mixed into its vector.

        e_t ← e_t + α · W · F_n,   α = 0 at the start

    F_n has the components of the formula that differ between ranks, each at mean 0 and variance
    1: the exponent O, the twelve waves cos(θ_n·φ_i) with θ_n = 2πn/φ², the twist (−1)^⌊n/12⌋,
    the two ratios of Plimpton 322's row, and the density log₂(n/p_n).
    `cllm.numbers.lattice_formula` has them exactly.

    Differs from the first definition: θ_n = nπ/6 with whole φ_i has only twelve distinct rows;
    3^O overflows, so O stands for its logarithm; what is the same for all ranks, ν(λ) = 3 and
    Λ = 3/144000, only scales α and is no column.

    Shapes: features [V, 17] fixed, up [C, 17], strength [1]. Cost in training: 17·V·C
    multiplications a step; in a finished model none. Placebo: every column's values are
    shuffled among the tokens by themselves.

    Source: this project. Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "lattice_formula"
    title: ClassVar = "the master lattice formula of a token's rank, mixed into its vector"
    cost: ClassVar = "none in a finished model"
    control: ClassVar = "the same numbers, each column shuffled among the tokens"
    export: ClassVar = "folds"
    needs: ClassVar = frozenset({"ranks"})

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The projection and its strength."""
        columns = len(COLUMNS)
        return {
            "mechanisms.lattice_formula.up": Parameter(
                (spec.width, columns), deviation=EMBEDDING_RMS * columns**-0.5, decays=True
            ),
            "mechanisms.lattice_formula.strength": Parameter((1,)),
        }

    def features(self, lexicon: Lexicon) -> Float32[np.ndarray, "V F"]:
        """The features of each token."""
        table = standardised_table(lexicon.vocab_size)
        if self.placebo:
            table = random_for("lattice_formula.placebo").permuted(table, axis=0)
        features: NDArray[np.float32] = table[lexicon.ranks - 1].astype(np.float32)
        return features

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """The features of each token."""
        del spec
        assert lexicon is not None
        return {"features": self.features(lexicon)}

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"]:
        """The table with what the formula adds."""
        assert table is not None, "whatever makes the table comes before"
        up = p["up"]
        return table + p["features"].to(up.dtype) @ (p["strength"] * up).t()
