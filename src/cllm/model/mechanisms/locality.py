"""`locality`: the rows of the tables are kept in another order, so that neighbours lie together."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Int, Int64
from numpy.typing import NDArray
from pydantic import Field

from cllm.model.lexicon import Lexicon
from cllm.model.mechanisms.mechanism import (
    ChangesTable,
    Mechanism,
    ModelSpec,
    Need,
    Tensor,
    Tensors,
    random_for,
)
from cllm.model.weights import Weights
from cllm.numbers.spirals import ulam_points


@final
class Locality(Mechanism):
    """One permutation of the vocabulary; it changes where a row lies, and no output.

    The order of the rows, by `kind`: frequency, the most frequent token first; root, families of
    one root together, the family with the most frequent member first, and by frequency within;
    ulam, the tokens stand on Ulam's spiral by rank and are read off line by line.

    The embeddings, and the head's where it has its own, are stored in this order. Where other
    mechanisms make the table, each row by the id it stands for, it is made in the order of ids
    and moved, V·C numbers a step. A finished model has its rows in the order of ids again.

    Cost: one lookup a token. Placebo: a random order. It has no gate: it equals the plain model
    up to the order.

    Source: this project. Status: theorem (no output changes); its speed is measured
    (docs/mechanisms.md).
    """

    name: ClassVar = "locality"
    title: ClassVar = "rows of the vocabulary that are used together lie together"
    cost: ClassVar = "one lookup a token"
    control: ClassVar = "a random order"
    export: ClassVar = "folds"
    excludes: ClassVar = {
        "additive_head": "its logits come in the order of ids",
        "root_loss": "it knows the logits by the order of ids",
    }

    kind: Literal["frequency", "root", "ulam"] = Field(
        "frequency", description="What orders the rows."
    )

    @property
    def needs(self) -> frozenset[Need]:
        """Ranks, and roots to order by them."""
        return frozenset({"ranks", "roots"} if self.kind == "root" else {"ranks"})

    def rows(self, lexicon: Lexicon) -> Int64[np.ndarray, " V"]:
        """The row of each id."""
        ranks = lexicon.ranks.astype(np.int64)
        if self.placebo:
            return random_for("locality.placebo").permutation(len(ranks))
        if self.kind == "frequency":
            return ranks - 1
        if self.kind == "ulam":
            points = ulam_points(ranks)
            ids = np.lexsort((points[:, 0], points[:, 1]))
        else:
            assert lexicon.roots is not None
            best = np.full(int(lexicon.roots.max()) + 1, len(ranks) + 1)
            np.minimum.at(best, lexicon.roots, ranks)
            ids = np.lexsort((ranks, best[lexicon.roots]))
        return np.argsort(ids)

    def fixed(self, spec: ModelSpec, lexicon: Lexicon | None) -> dict[str, NDArray[Any]]:
        """The row of each id; and the id of each row, where others make the table."""
        assert lexicon is not None
        rows = self.rows(lexicon)
        return {"rows": rows} if self._is_stored(spec) else {"rows": rows, "ids": np.argsort(rows)}

    def _is_stored(self, spec: ModelSpec) -> bool:
        """Whether the embeddings themselves are kept in this order."""
        others = (part for part in spec.mechanisms if part.name != self.name)
        return not any(isinstance(part, ChangesTable) for part in others)

    def begin(
        self,
        weights: Weights,
        spec: ModelSpec,
        lexicon: Lexicon | None,
    ) -> None:
        """Move the first weights' rows to where they belong."""
        assert lexicon is not None
        ids = np.argsort(self.rows(lexicon))
        if self._is_stored(spec):
            weights["embedding.weight"] = weights["embedding.weight"][ids]
        if "head.weight" in weights:
            weights["head.weight"] = weights["head.weight"][ids]

    def table(self, table: Float[Tensor, "V C"] | None, p: Tensors) -> Float[Tensor, "V C"]:
        """The rows in this order."""
        assert table is not None, "whatever makes the table comes before"
        return table[p["ids"]] if "ids" in p else table

    def order(self, p: Tensors) -> Int[Tensor, " V"]:
        """The row of each id."""
        return p["rows"]
