"""`additive_head`: a word's logit is the sum of its root's and its affixes'."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float, Int64
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
from cllm.model.weights import reading_deviation


@final
class AdditiveHead(Mechanism):
    """The output twin of `roots`: morphemes are scored, and words by their sums.

        logit_w = h · S_root(w) + Σ h · S_affix + (h · D) · o_w

    The head has tables of its own, so the model is untied; the table of embeddings stays.

    Differs from the first definition: tokens of the same morphemes (a word and its capitalised
    form) would have one logit, so each has `rank` numbers o_w; 0 gives the sum alone.

    Shapes: morphemes [R + A, C], mix [r, C], own [V, r]: (R + A + r)·C + V·r parameters instead
    of V·C. Cost in training: (R + A)·C multiplications and (1 + affixes)·V additions a token
    instead of V·C with r = 0, which takes two thirds of the plain head's time where V = 16,384,
    R = 5,000 and C = 512, and the same where C = 256; with r > 0 the whole table is made once a
    step, and the time is the plain head's. In a finished model the head is a whole table again,
    and costs what it does. Placebo: roots and affixes are dealt out anew among the tokens, as
    many of each as before.

    Source: this project. Status: measured (docs/mechanisms.md).
    """

    name: ClassVar = "additive_head"
    title: ClassVar = "a word's logit is the sum of its root's and its affixes'"
    cost: ClassVar = "none in a finished model; (R + A)·C + V·r parameters instead of V·C to train"
    control: ClassVar = "roots and affixes dealt out to the tokens at random"
    export: ClassVar = "folds"
    needs: ClassVar = frozenset({"roots"})
    replaces: ClassVar = True

    rank: int = Field(8, ge=0, description="Numbers of each token's own.")
    num_roots: int | None = Field(None, description="Found from the vocabulary.")
    num_affixes: int | None = Field(None, description="Found from the vocabulary.")

    def fitted(self, spec: ModelSpec, lexicon: Lexicon | None) -> AdditiveHead:
        """With the vocabulary's numbers of roots and affixes."""
        del spec
        assert lexicon is not None
        sizes = {"num_roots": lexicon.num_roots, "num_affixes": lexicon.num_affixes}
        return self.model_copy(update=sizes)

    def adapted(self, spec: ModelSpec) -> ModelSpec:
        """The head apart from the embeddings."""
        return replace(spec, tied=False)

    def parameters(self, spec: ModelSpec) -> dict[str, Parameter | None]:
        """The morphemes' vectors, and what tells tokens apart, in place of the head's table."""
        assert self.num_roots is not None and self.num_affixes is not None
        # As large as a head of its own begins in the plain model.
        deviation = reading_deviation(spec.width)
        found: dict[str, Parameter | None] = {
            "head.weight": None,
            "mechanisms.additive_head.morphemes": Parameter(
                (self.num_roots + self.num_affixes, spec.width), deviation=deviation, decays=True
            ),
        }
        if self.rank:
            found["mechanisms.additive_head.mix"] = Parameter(
                (self.rank, spec.width), deviation=deviation, decays=True
            )
            found["mechanisms.additive_head.own"] = Parameter(
                (spec.vocab_size, self.rank), deviation=self.rank**-0.5, decays=True
            )
        return found

    def places(self, lexicon: Lexicon) -> Int64[np.ndarray, "V N"]:
        """Each token's rows of `morphemes`; what it lacks of the most affixes is one row more."""
        assert self.num_roots is not None and self.num_affixes is not None
        assert lexicon.roots is not None and lexicon.affixes is not None
        affixes = lexicon.affixes.astype(np.int64)
        nothing = self.num_roots + self.num_affixes
        rows = np.where(affixes > 0, self.num_roots + affixes - 1, nothing)
        places = np.column_stack([lexicon.roots.astype(np.int64), rows])
        if self.placebo:
            places = places[random_for("additive_head.placebo").permutation(len(places))]
        return places

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """Each token's rows of `morphemes`."""
        del spec
        assert lexicon is not None
        return {"places": self.places(lexicon)}

    def head(self, h: Float[Tensor, "B T C"], p: Tensors) -> Float[Tensor, "B T V"]:
        """Logits from the last norm's output."""
        import torch.nn.functional as F

        places = p["places"]
        if self.rank:
            morphemes = F.pad(p["morphemes"], (0, 0, 0, 1))
            nothing = len(morphemes) - 1
            table = F.embedding_bag(places, morphemes, mode="sum", padding_idx=nothing)
            return h @ (table + p["own"] @ p["mix"]).t()
        B, T, C = h.shape
        # Morphemes by positions: whole rows are gathered, which is far quicker than columns.
        scores = F.pad(p["morphemes"] @ h.reshape(B * T, C).t(), (0, 0, 0, 1))
        sums = F.embedding_bag(places, scores, mode="sum", padding_idx=len(scores) - 1)
        logits: Tensor = sums.t().view(B, T, len(places))
        return logits
