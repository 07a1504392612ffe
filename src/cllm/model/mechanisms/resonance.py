"""`resonance`: tokens attend to those that are kin: by root, by place, by phase."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped
from numpy.typing import NDArray
from pydantic import Field, field_validator

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Need,
    Parameter,
    Reading,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.weights import Weights
from cllm.numbers.spirals import golden_places, golden_turns

Term = Literal["root", "lattice", "phase"]
_TERMS: tuple[Term, ...] = ("root", "lattice", "phase")


@final
class Resonance(Mechanism):
    """A prior on the scores that hangs on which two tokens meet, not on what was read.

        b_ij = β₁·log gcd(n_i, n_j) − β₂·‖c_i − c_j‖² + β₃·cos(ψ_i − ψ_j)

    n is the product of the primes of a token's root and affixes, so the first term sums log p
    over the prime powers that two tokens share: it is positive semidefinite, with von Mangoldt's
    weights (theorem). It is there where words have been segmented. c (three coordinates) and ψ (a
    phase) are learned, one for each entry of the vocabulary, and shared by all layers: c begins
    on the golden spiral by rank, with the logarithm of the rank's prime over the largest for the
    third, ψ at rank times the golden angle. β is one for each term, head and layer, 0 at the
    start; −‖c_i‖² is left out, as softmax cancels what hangs on i alone.

    With `only` these scores stand alone, without q · k, and β begins random. The matrices of
    queries and keys then idle; they stay, so that sizes compare.

    Differs from the first definition: the coordinates are its own, not those of `coordinates`,
    which folds into the table.

    Shapes: coordinates [V, 3], phases [V]; strength [terms, H] a layer. Cost: about 5 + A
    multiplications a score and batch for A affixes in the vocabulary, 3 a score and layer.
    Placebo: the lexicon with its tokens permuted: the same roots, ranks and starts, of others.

    Source: this project; Smith 1876 (gcd kernels). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "resonance"
    title: ClassVar = "tokens attend to their kin: by shared primes, place and phase"
    cost: ClassVar = "3 multiplications a score and layer"
    control: ClassVar = "the kin of another token, by a random permutation"
    export: ClassVar = "refuses"

    terms: tuple[Term, ...] | None = Field(
        None, description="Of root, lattice and phase; by default all that there is a source for."
    )
    only: bool = Field(False, description="These scores instead of those of queries and keys.")

    @field_validator("terms")
    @classmethod
    def _check_terms(cls, terms: tuple[Term, ...] | None) -> tuple[Term, ...] | None:
        if terms is not None and (not terms or len(set(terms)) < len(terms)):
            raise ValueError("these are not different terms")
        return terms

    @property
    def needs(self) -> frozenset[Need]:
        """Ranks, and roots for their term."""
        return frozenset({"ranks", "roots"} if "root" in (self.terms or ()) else {"ranks"})

    @property
    def replaces(self) -> bool:
        """Whether queries and keys are out of use."""
        return self.only

    @property
    def replaces_scores(self) -> bool:
        """Whether its bias stands for q · k."""
        return self.only

    def fitted(self, spec: ModelSpec, lexicon: Lexicon | None) -> Resonance:
        """With the terms decided. Raises: SettingsError."""
        del spec
        assert lexicon is not None
        if self.terms is None:
            return self.model_copy(
                update={"terms": _TERMS if lexicon.roots is not None else _TERMS[1:]}
            )
        return self

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """Coordinates, phases and strengths."""
        terms = self.terms or ()
        found: dict[str, Parameter | None] = {}
        if "lattice" in terms:
            found["mechanisms.resonance.coordinates"] = Parameter((spec.vocab_size, 3))
        if "phase" in terms:
            found["mechanisms.resonance.phases"] = Parameter((spec.vocab_size,))
        for layer in range(spec.layers):
            found[f"mechanisms.resonance.{layer}.strength"] = Parameter(
                (len(terms), spec.heads), deviation=float(self.only)
            )
        return found

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Place the tokens by rank."""
        ranks, size = self._seen(lexicon).ranks.astype(np.int64), spec.vocab_size
        if "mechanisms.resonance.coordinates" in weights:
            places = golden_places(size)[ranks - 1]
            weights["mechanisms.resonance.coordinates"] = places.astype(np.float32)
        if "mechanisms.resonance.phases" in weights:
            phases = 2 * np.pi * golden_turns(ranks)
            weights["mechanisms.resonance.phases"] = phases.astype(np.float32)

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Root and affix powers of each token, and their logarithms."""
        del spec
        if "root" not in (self.terms or ()):
            return {}
        seen = self._seen(lexicon)
        assert seen.roots is not None and seen.affixes is not None
        assert seen.root_primes is not None and seen.affix_primes is not None
        powers, logs = _powers(seen.affixes.astype(np.int64), np.log(seen.affix_primes))
        return {
            "roots": seen.roots.astype(np.int64),
            "root_logs": np.log(seen.root_primes).astype(np.float32),
            "powers": powers,
            "power_logs": logs,
        }

    def _seen(self, lexicon: Lexicon | None) -> Lexicon:
        """The lexicon, or the control's: each token with the facts of another."""
        assert lexicon is not None
        if not self.placebo:
            return lexicon
        return lexicon.dealt_out(random_for("resonance.placebo").permutation(lexicon.vocab_size))

    def bias(
        self, layer: int, h: Float[Tensor, "B T C"], reading: Reading, p: Tensors
    ) -> Float[Tensor, "#B #H #T S"]:
        """What is added for each key."""
        import torch

        kinships = reading.once("resonance", lambda: self._kinships(reading, p))
        total: Tensor = torch.einsum("nh,nbts->bhts", p[f"{layer}.strength"], kinships)
        return total.to(h.dtype)

    def _kinships(self, reading: Reading, p: Tensors) -> Float[Tensor, "N B T S"]:
        """Each term's kernel between the new tokens and all."""
        import torch

        first = reading.start
        found = []
        for term in self.terms or ():
            if term == "root":
                found.append(_shared_logs(reading.all_ids, first, p))
            elif term == "lattice":
                points = p["coordinates"][reading.all_ids]
                squares = points.square().sum(-1)[:, None]
                found.append(2.0 * points[:, first:] @ points.mT - squares)
            else:
                angles = p["phases"][reading.all_ids]
                arrows = torch.stack((angles.cos(), angles.sin()), -1)
                found.append(arrows[:, first:] @ arrows.mT)
        dtype = p["0.strength"].dtype
        return torch.stack([kernel.to(dtype) for kernel in found])


def _powers(
    affixes: Int64[np.ndarray, "V A"], logs: Shaped[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, "V A"], Float32[np.ndarray, " M"]]:
    """A number for each prime power q, q², … that divides a token's code, and log q of each.

    0 stays 0, no affix. The k-th time that a token has an affix stands for its k-th power.
    """
    repeats = np.zeros_like(affixes)
    for column in range(1, affixes.shape[1]):
        same = affixes[:, :column] == affixes[:, column : column + 1]
        repeats[:, column] = same.sum(1)
    most = int(repeats[affixes > 0].max(initial=0))
    powers = np.where(affixes > 0, affixes + repeats * len(logs), 0)
    return powers, np.tile(logs, most + 1).astype(np.float32)


def _shared_logs(ids: Tensor, first: int, p: Tensors) -> Float[Tensor, "B T S"]:
    """The log gcd of the tokens from `first` on with all: the product of their features."""
    roots, powers = p["roots"][ids], p["powers"][ids]
    same = roots[:, first:, None] == roots[:, None]
    logs = p["power_logs"]
    features = logs.new_zeros(*ids.shape, len(logs)).scatter(-1, powers, logs.sqrt()[powers])
    kernel: Tensor = same * p["root_logs"][roots][:, None] + features[:, first:] @ features.mT
    return kernel
