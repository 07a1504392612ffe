"""`roots`: a word's vector is shared with the words of its root, and with those of its affixes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from pydantic import Field

from cllm.errors import SettingsError
from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    Mechanism,
    ModelSpec,
    Need,
    Parameter,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.weights import EMBEDDING_RMS, Weights


@final
class Roots(Mechanism):
    """Primes are roots, composites their inflections: what divides a word's code adds to it.

        e_w = E_w + α · (E_root + Σ E_affix),   α = 0 at the start

    Two words share a vector exactly where their codes n = p·∏q have a common prime factor.
    With `rotation` affixes turn the root instead of adding to it: α · R_w · E_root, R_w the
    product of its affixes' rotations of the pairs (j, j + C/2), all angles 0 at the start.
    With `binding`, γ · (E_root ⊙ s_w) is added where a word has affixes, s_w the product of
    their fixed random signs, γ = 0 at the start.

    Vocabulary compression: with `own=frequent` only the most frequent tokens have an E_w, with
    `own=none` no token; the others' is of rank `rank`, or nothing. α begins at 1 then, each
    root at the plain vector of its first word. Where another mechanism makes the table, this
    one's is added.

    `mobius_start`: the codes' divisors as a lattice, e(n) = Σ_{d|n} f(d), inverted by
    f(n) = Σ_{d|n} μ(n/d)·e(d) over those d that are words. So each root begins at the plain
    vector of its first word, E_w at what is left, α at 1; the whole is the plain table still,
    but a step on one word moves its family from the first step on.

    Shapes: roots [R, C], affixes [A, C] (or angles [A, C/2]), strength [1]; compressed: own
    [K, C], coordinates [V − K, r], basis [r, C] in place of [V, C]. Cost in training: V·C
    operations for the root and for each affix, a step; in a finished model none. Placebo: roots
    and affixes are dealt out anew among the tokens, as many of each as before.

    Source: this project; Sun 2019, arXiv:1902.10197 (rotations); Kanerva 2009, Cognitive
    Computation 1 (binding). Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "roots"
    title: ClassVar = "words share vectors by root and affixes"
    cost: ClassVar = "none in a finished model"
    control: ClassVar = "roots and affixes dealt out to the tokens at random"
    export: ClassVar = "folds"

    own: Literal["all", "frequent", "none"] = Field(
        "all", description="Which tokens have a vector of their own too."
    )
    frequent: int | None = Field(
        None, ge=1, description="How many are frequent; an eighth unless given."
    )
    rank: int | None = Field(
        None, ge=1, description="Rank of the own vectors of all other tokens; none unless given."
    )
    rotation: bool = Field(False, description="Affixes turn the root's vector.")
    binding: bool = Field(False, description="Add the root's vector with the affixes' signs.")
    mobius_start: bool = Field(False, description="Begin by Möbius inversion of the plain table.")
    num_roots: int | None = Field(None, description="Found from the vocabulary.")
    num_affixes: int | None = Field(None, description="Found from the vocabulary.")

    @property
    def needs(self) -> frozenset[Need]:
        """Roots, and ranks to tell the frequent and the first of a family."""
        return frozenset({"ranks", "roots"})

    @property
    def replaces(self) -> bool:
        """Whether tokens lose the vector of their own."""
        return self.own != "all"

    def fitted(self, spec: ModelSpec, lexicon: Lexicon | None) -> Roots:
        """With the vocabulary's numbers of roots and affixes. Raises: SettingsError."""
        assert lexicon is not None
        if self.rotation and spec.width % 2:
            raise SettingsError(
                f"pairs can't be turned in the odd width {spec.width}", where="roots.rotation"
            )
        if self.own == "all" and self.rank is not None:
            raise SettingsError(
                "every token has a whole vector of its own",
                where="roots.rank",
                hint="Use it with roots.own=frequent or roots.own=none.",
            )
        if self.own != "all" and self.mobius_start:
            raise SettingsError(
                "what Möbius inversion leaves has no place without own vectors",
                where="roots.mobius_start",
                hint="Use it with roots.own=all.",
            )
        frequent = None
        if self.own == "frequent":
            frequent = self.frequent or max(1, spec.vocab_size // 8)
            if frequent >= spec.vocab_size:
                raise SettingsError(
                    f"there are only {spec.vocab_size:,} tokens",
                    where="roots.frequent",
                    hint="Choose fewer, or roots.own=all.",
                )
        return self.model_copy(
            update={
                "frequent": frequent,
                "num_roots": lexicon.num_roots,
                "num_affixes": lexicon.num_affixes,
            }
        )

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """Vectors of roots and affixes, their strength, and what is left of the table."""
        assert self.num_roots is not None and self.num_affixes is not None
        width, is_on = spec.width, self.replaces or self.mobius_start
        small = EMBEDDING_RMS / 2
        found: dict[str, Parameter | None] = {
            "strength": Parameter((1,), constant=1.0 if is_on else 0.0),
            "roots": Parameter((self.num_roots, width), deviation=EMBEDDING_RMS, decays=True),
        }
        if self.num_affixes and self.rotation:
            found["angles"] = Parameter((self.num_affixes, width // 2))
        elif self.num_affixes:
            deviation = 0.0 if self.mobius_start else small
            found["affixes"] = Parameter(
                (self.num_affixes, width), deviation=deviation, decays=True
            )
        if self.binding:
            found["binding"] = Parameter((1,))
        if self.frequent is not None and self.own == "frequent":
            found["own"] = Parameter((self.frequent, width), deviation=small, decays=True)
        if self.rank is not None:
            rest = spec.vocab_size - (self.frequent or 0)
            found["coordinates"] = Parameter((rest, self.rank), deviation=1.0, decays=True)
            deviation = small * self.rank**-0.5
            found["basis"] = Parameter((self.rank, width), deviation=deviation, decays=True)
        named = {f"mechanisms.roots.{name}": value for name, value in found.items()}
        return {"embedding.weight": None, **named} if self.replaces else named

    def morphemes(
        self, lexicon: Lexicon
    ) -> tuple[Int64[np.ndarray, " V"], Int64[np.ndarray, "V A"]]:
        """The root of each token, and its affixes from 1 on."""
        assert lexicon.roots is not None and lexicon.affixes is not None
        roots, affixes = lexicon.roots.astype(np.int64), lexicon.affixes.astype(np.int64)
        if self.placebo:
            order = random_for("roots.placebo").permutation(len(roots))
            roots, affixes = roots[order], affixes[order]
        return roots, affixes

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Root, affixes, place by frequency and signs of each token, as far as they are used."""
        assert lexicon is not None
        roots, affixes = self.morphemes(lexicon)
        found: dict[str, NDArray[Any]] = {"root_of": roots, "affixes_of": affixes}
        if self.replaces:
            found["place_of"] = lexicon.ranks.astype(np.int64) - 1
        if self.binding:
            assert self.num_affixes is not None
            random = random_for("roots.binding")
            signs = random.choice(np.array([-1, 1], np.int8), (self.num_affixes + 1, spec.width))
            signs[0] = 1
            product = signs[affixes].prod(1, dtype=np.int8)
            found["signs"] = product * (affixes > 0).any(1, keepdims=True).astype(np.int8)
        return found

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Start roots that are at work from the first on at the vectors of their first words."""
        del spec
        if not (self.replaces or self.mobius_start):
            return
        assert lexicon is not None
        roots, affixes = self.morphemes(lexicon)
        # Of each root the word without affixes, or with least rank; backwards, so the best stays.
        order = np.lexsort((lexicon.ranks, (affixes > 0).any(1)))[::-1]
        plain = weights["embedding.weight"]
        vectors = weights["mechanisms.roots.roots"]
        vectors[roots[order]] = plain[order]
        if self.mobius_start:
            weights["embedding.weight"] = plain - vectors[roots]

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"]:
        """The table with what roots and affixes add, and what is left of own vectors."""
        import torch
        import torch.nn.functional as F

        roots = F.embedding(p["root_of"], p["roots"])
        shared = roots
        if "angles" in p:
            angles = _sum_of(p["angles"], p["affixes_of"])
            cos, sin, (x, y) = angles.cos(), angles.sin(), roots.chunk(2, -1)
            shared = torch.cat((cos * x - sin * y, sin * x + cos * y), -1)
        elif "affixes" in p:
            shared = shared + _sum_of(p["affixes"], p["affixes_of"])
        made: Tensor = p["strength"] * shared
        if self.binding:
            made = made + p["binding"] * roots * p["signs"].to(roots.dtype)
        if "own" in p or "coordinates" in p:
            made = made + self._own(p, made.shape)
        return made if table is None else table + made

    def _own(self, p: Tensors, shape: tuple[int, ...]) -> Float[Tensor, "V C"]:
        """What is left of own vectors, made by falling frequency, then put in place."""
        import torch

        parts = [p["own"]] if "own" in p else []
        if "coordinates" in p:
            parts.append(p["coordinates"] @ p["basis"])
        else:
            parts.append(p["own"].new_zeros(shape[0] - len(p["own"]), shape[1]))
        found: Tensor = torch.cat(parts)[p["place_of"]]
        return found


def _sum_of(rows: Tensor, numbers: Tensor) -> Tensor:
    """[V, …] the sum of the rows with these numbers [V, A] from 1 on; 0 is none."""
    import torch.nn.functional as F

    padded = F.pad(rows, (0, 0, 1, 0))
    total: Tensor = F.embedding_bag(numbers, padded, mode="sum", padding_idx=0)
    return total
